"""The idle culler, as jupyterhub_config.py starts it: profiles say which servers it stops."""

import os
from pathlib import Path

from aiaas_hub.spawner.culling import arbiter

c = get_config()  # noqa: F821  # traitlets defines it
c.IdleCuller.cull_arbiter_hook = arbiter(Path(os.environ["AIAAS_PROFILES"]))
c.IdleCuller.cull_every = 60
# Of users nothing is removed, whatever they do.
c.IdleCuller.cull_users = False
