"""Write what is generated in docs/, or check that it is in step.

python .ci/docs.py [--check]

openapi.json    the service's description
reference.md    every verb of %aiaas, every setting, and what the contract promises for later
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from aiaas_hub.api.application import create_application
from aiaas_hub.config import ServiceConfig
from aiaas_magics import not_yet
from aiaas_magics.commands import COMMANDS
from aiaas_magics.parsing import help_of, parsers

DOCS = Path(__file__).resolve().parent.parent / "docs"


def openapi() -> str:
    # Routes are described without what stands behind them.
    nothing = cast(Any, None)
    app = create_application(nothing, nothing, "/services/aiaas")
    return json.dumps(app.openapi(), indent=1, sort_keys=True) + "\n"


def reference() -> str:
    return "\n".join(_reference()) + "\n"


def _reference() -> Iterator[str]:
    yield "# Reference\n"
    yield "Generated from the code by `make docs`.\n"
    yield "## Verbs\n"
    yield "In a notebook, after `%load_ext aiaas_magics`. `%aiaas help VERB` shows the same.\n"
    for verb, command in COMMANDS.items():
        yield f"### {verb}\n"
        yield f"{command.summary[0].upper()}{command.summary[1:]}.\n"
        yield f"```text\n{help_of(parsers()[verb]).strip()}\n```\n"
    if not_yet.VERBS:
        yield "## Not yet\n"
        yield "These are promised and answer with a sentence that says what to do today.\n"
        yield "| what | today |\n|---|---|"
        for verb, remedy in not_yet.VERBS.items():
            yield f"| `%aiaas {verb}` | {remedy} |"
        yield ""
    yield "## Settings\n"
    yield "An operator sets these in `$AIAAS_HOME/aiaas_config.py`, as "
    yield "`c.ServiceConfig.NAME = VALUE`.\n"
    yield "| name | default | meaning |\n|---|---|---|"
    for name, trait in sorted(ServiceConfig.class_own_traits(config=True).items()):
        yield f"| `{name}` | `{trait.default_value_repr()}` | {trait.help} |"


def main() -> int:
    # argparse fills lines to the terminal's width, which is not the documentation's business.
    os.environ["COLUMNS"] = "96"
    out_of_step = []
    for name, current in (("openapi.json", openapi()), ("reference.md", reference())):
        target = DOCS / name
        if "--check" not in sys.argv:
            DOCS.mkdir(exist_ok=True)
            target.write_text(current, encoding="utf-8")
        elif not target.exists() or target.read_text(encoding="utf-8") != current:
            out_of_step.append(name)
    for name in out_of_step:
        print(f"docs/{name} is not in step with the code: make docs")
    return bool(out_of_step)


if __name__ == "__main__":
    sys.exit(main())
