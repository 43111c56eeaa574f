"""The example notebooks, each executed in a user's own server as a user would: Run All."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
from running_platform import RunningPlatform

from aiaas_hub.local.remote_kernel import RemoteKernel

pytestmark = [pytest.mark.platform, pytest.mark.timeout(900)]

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("user", "name"),
    [
        ("grace", "train.ipynb"),
        ("alan", "finetune.ipynb"),
        ("barbara", "serve.ipynb"),
        ("fei", "images.ipynb"),
        ("edgar", "data.ipynb"),
        ("annie", "panels.ipynb"),
    ],
)
def test_an_example_runs_from_top_to_bottom(
    platform: RunningPlatform, user: str, name: str
) -> None:
    with platform.session(user) as session:
        session.spawn("small")
        answer = session.server_request("GET", f"api/contents/examples/{name}")
        assert answer.status_code == 200, answer.text
        notebook = nbformat.from_dict(answer.json()["content"])
        shipped = json.loads((EXAMPLES / name).read_text())
        assert [cell.source for cell in notebook.cells] == [
            "".join(cell["source"]) for cell in shipped["cells"]
        ]
        with RemoteKernel(session, directory="examples") as kernel:
            # A cell that raises ends the test with its traceback.
            kernel.run(notebook, cell_timeout=400, stop_requested=lambda: False, progress=print)
        if name == "data.ipynb":
            # Where there is no Spark the notebook says so and goes on; here there is one.
            (spark,) = (cell for cell in notebook.cells if 'engine="spark"' in cell.source)
            assert "Wien" in spark.outputs[0].text, spark.outputs
        executed = EXAMPLES.parent / "build" / name
        executed.parent.mkdir(exist_ok=True)
        nbformat.write(notebook, executed)


@pytest.mark.parametrize(
    ("user", "page", "blocks", "shown"),
    [
        ("edsger", "training.md", 8, "epochs"),
        ("frances", "serving.md", 17, "Lineage"),
        ("radia", "data.md", 13, "alcohol"),
    ],
)
def test_a_page_for_someone_new_works_as_typed(
    platform: RunningPlatform, user: str, page: str, blocks: int, shown: str
) -> None:
    text = (EXAMPLES.parent / "docs" / page).read_text()
    found = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    assert len(found) == blocks
    cells = [nbformat.v4.new_code_cell(block) for block in found]
    notebook = nbformat.v4.new_notebook(cells=cells)
    with platform.session(user) as session:
        session.spawn("small")
        with RemoteKernel(session, directory="examples") as kernel:
            kernel.run(notebook, cell_timeout=400, stop_requested=lambda: False, progress=print)
    outputs = [output for output in notebook.cells[-1].outputs if output.output_type != "stream"]
    assert any(shown in output.data["text/plain"] for output in outputs)
