"""Pretrained weights: from a folder, or from a hub of models as far as the operator allows it.

`AIAAS_ALLOW_HUB_MODELS` is the operator's list of names, as in `bert-base-uncased,distilbert/*`;
it is set where runs execute. Without it nothing is ever fetched.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.runtime.exported import first_line

ALLOWED = "AIAAS_ALLOW_HUB_MODELS"

if not os.environ.get(ALLOWED):
    # Whatever a folder's files refer to, nothing is asked of a hub. Read when transformers is
    # imported, which is after this.
    os.environ["HF_HUB_OFFLINE"] = "1"


def load(source: str, *loaders: Callable[..., Any]) -> list[Any]:
    """What each of `loaders`, a transformers' `from_pretrained`, gives for `source`.

    Code that comes with weights is never run. Raises `InvalidInput` if the folder does not load
    or the name is not allowed.
    """
    folder = Path(source).expanduser()
    local = folder.is_dir()
    if not local and not _allowed(source):
        raise InvalidInput(
            f"There is no folder {source!r} on this worker, and no hub's model of this name is "
            "allowed here.",
            remedy=f"Give a folder that the workers see, or have the operator add it to {ALLOWED}.",
        )
    try:
        return [
            loader(
                str(folder) if local else source, local_files_only=local, trust_remote_code=False
            )
            for loader in loaders
        ]
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise InvalidInput(
            f"The weights in {source!r} do not load: {first_line(error)}",
            remedy="Give a folder with config.json, model.safetensors and the tokenizer's files.",
        ) from error


def quiet() -> None:
    """Progress bars and loading reports are no lines of a run's log."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def _allowed(name: str) -> bool:
    patterns = [part.strip() for part in os.environ.get(ALLOWED, "").split(",") if part.strip()]
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
