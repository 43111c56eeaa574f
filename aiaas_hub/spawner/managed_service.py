"""Restart the hub's managed service quickly when it dies.

JupyterHub 6.1 looks after its managed services every 30 s and has no setting for it: the class
that starts them is made without configuration. Remove this when
`jupyterhub.services.service._ServiceSpawner` takes its intervals from configuration.
"""

from __future__ import annotations

from jupyterhub.services import service
from traitlets import Integer


def restart_quickly() -> None:
    """From now on services of this hub process are looked after every second."""
    if issubclass(service._ServiceSpawner, QuickServiceSpawner):
        return
    service._ServiceSpawner = QuickServiceSpawner


class QuickServiceSpawner(service._ServiceSpawner):  # type: ignore[misc]  # jupyterhub has no types
    """Looks every second whether the service lives; gives it 10 s to stop, not a minute."""

    poll_interval = Integer(1)
    interrupt_timeout = Integer(10)
    term_timeout = Integer(5)
