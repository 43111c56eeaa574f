"""A real Kubernetes control plane whose pods are processes of this machine.

`control_plane` starts etcd, the API server, the controller manager and the scheduler, and
`agent`: the nodes of `nodes`, a kubelet that runs what the scheduler puts on them, and a DNS that
answers a Service's name with the addresses of its pods. Not imitated: images, isolation, addresses
of Services, `exec`, liveness probes. Pods reach each other by their addresses; requests are
scheduled by and not enforced.
"""
