"""A real Kubernetes control plane whose pods are processes of this machine.

`control_plane` starts etcd, the API server, the controller manager and the scheduler, and
`agent`: the nodes of `nodes` and a kubelet that runs what the scheduler puts on them.
Not imitated: images, isolation, Services, DNS, `exec`, liveness probes. Pods reach each other
by their addresses; requests are scheduled by and not enforced.
"""
