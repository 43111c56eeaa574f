"""What the platform makes on a Kubernetes cluster: pure functions make the objects, and one client
writes and reads them."""
