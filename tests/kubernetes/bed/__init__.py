"""A real Kubernetes control plane whose pods are processes of this machine.

`control_plane` starts etcd, the API server, the controller manager and the scheduler, and
`agent`: the nodes of `nodes`, a kubelet that runs what the scheduler puts on them, and what gives
Services their names and addresses. Not imitated: images, isolation, `exec`, liveness probes;
requests are scheduled by and not enforced.
"""
