"""Serving on a Kubernetes cluster: Deployments of Triton, each pod with an agent that fetches
models from the object store, checks them and loads them."""
