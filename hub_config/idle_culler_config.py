"""The idle culler, as jupyterhub_config.py starts it: profiles say which servers it stops."""

import os
from pathlib import Path

from aiaas_hub.spawner.culling import arbiter

c = get_config()  # noqa: F821  # traitlets defines it
c.IdleCuller.cull_arbiter_hook = arbiter(Path(os.environ["AIAAS_PROFILES"]))
c.IdleCuller.cull_every = 60
if certificates := os.environ.get("AIAAS_INTERNAL_CERTIFICATES"):
    c.IdleCuller.ssl_enabled = True
    c.IdleCuller.internal_certs_location = certificates
# The operator's own settings win over these, where one machine has such a file.
if (own := Path(os.environ.get("AIAAS_CONFIG", ""))).is_file():
    load_subconfig(str(own))  # noqa: F821  # traitlets defines it
# Of users nothing is removed, whatever they do.
c.IdleCuller.cull_users = False
