"""The data path: Envoy's configuration from the endpoints' routes, and the keys it checks."""
