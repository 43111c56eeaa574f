"""A pod's first step: `python -m aiaas_magics.runtime.node`.

It fetches the code of the run that AIAAS_ASSIGNMENT names, verifies its hash and keeps it where the
pod's processes look for it first; and it makes the run's directory. A step that fails is repeated
for ever: what cannot be had is left to the driver, which comes to the same end and reports it.
"""

from __future__ import annotations

import os
import sys

from aiaas_hub.schemas.assignments import Assignment
from aiaas_hub.schemas.errors import AiaasError, Unavailable
from aiaas_magics.runtime import snapshot
from aiaas_magics.runtime.api import JobApi

AGAIN = 1


def main() -> int:
    assignment = Assignment.model_validate_json(os.environ["AIAAS_ASSIGNMENT"])
    assignment.storage.mkdir(mode=0o700, parents=True, exist_ok=True)
    api = JobApi(assignment.api, assignment.run_id, assignment.token_file)
    try:
        snapshot.fetch(api, api.job().snapshot)
    except Unavailable as error:
        print(error, file=sys.stderr)  # noqa: T201 - the container's log
        return AGAIN
    except AiaasError as error:
        print(f"left to the driver: {error}", file=sys.stderr)  # noqa: T201 - likewise
    finally:
        api.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
