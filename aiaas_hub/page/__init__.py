"""The status page at the service's own address, for people with a browser."""
