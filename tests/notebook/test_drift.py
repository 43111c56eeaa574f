"""How the inputs of an endpoint move, as it is typed and shown in a notebook."""

from __future__ import annotations

import numpy as np
from api_world import World
from notebook_shell import Notebook

from aiaas_hub.schemas.drift import EndpointDrift, FeatureDrift, VersionDrift
from aiaas_magics.endpoint_drift import Drift, summary

HELD_OUT = np.arange(300, dtype=np.float32).reshape(100, 3)


def shown(found: object) -> tuple[str, str]:
    """As text and as HTML."""
    bundle = found._repr_mimebundle_()  # type: ignore[attr-defined]
    return str(bundle["text/plain"]), str(bundle["text/html"])


def test_what_moved_is_a_table_and_a_picture(working: World, notebook: Notebook) -> None:
    working.model(held_out=len(HELD_OUT))
    endpoint = notebook.run("%aiaas publish digits --model cnn")
    text, page = shown(notebook.run("%aiaas endpoint digits --drift"))
    assert "version 1, 100 % of the requests" in text
    assert "0 of the 200 rows were seen" in text
    assert "0 of the 200 rows were seen" in page
    assert "<img" not in page
    assert "callers send: 0 of the 200 rows" in shown(endpoint)[0]
    rows = np.tile(HELD_OUT, (3, 1))
    working.send(rows)
    assert "callers send: as before; 300 rows since 20" in shown(endpoint)[0]
    rows[:, 2] = -1
    rows[:30, 0] = np.nan
    working.send(rows)
    text, page = shown(endpoint.drift())
    assert "600 rows since 20" in text
    assert "against 100 held-out rows" in text
    lines = text.splitlines()
    (first,) = [line for line in lines if line.startswith("x[2]")]
    assert "much change" in first
    assert "below " in first.partition("much change")[2]
    (line,) = [line for line in lines if line.startswith("x[0]")]
    assert "0.0% → 5.0%" in line
    assert "% of rows by x[2] now: " in text
    assert "<img" in page
    assert "callers send: 1 of 3 changed: x[2] (" in shown(endpoint)[0]


def test_what_is_not_compared_is_said(working: World, notebook: Notebook) -> None:
    working.model()
    endpoint = notebook.run("%aiaas publish digits --model cnn")
    assert "with more of them as eval_input" in shown(endpoint)[0]
    assert "with more of them as eval_input" in repr(endpoint.drift())
    endpoint.retire()
    assert repr(endpoint.drift()) == "Nothing is served."
    assert "Nothing is served." in shown(endpoint.drift())[1]
    assert "callers send" not in shown(endpoint)[0]


def test_names_are_text_and_the_most_changed_are_named() -> None:
    features = [
        FeatureDrift(
            name=f"<b>{n}</b>",
            psi=9 - n,
            chance=0.1,
            change="much",
            edges=[0.0, 5e-324],
            reference=[0.0, 1.0, 0.0],
            seen=[0.0, 0.0, 0.0] if n else [0.0, 0.0, 1.0],
            seen_missing=1.0 if n else 0.0,
        )
        for n in range(5)
    ]
    version = VersionDrift(
        version=3, percent=100, rows=900, reference_rows=80, needed_rows=200, features=features
    )
    version.omitted = ["city"]
    record = EndpointDrift(versions=[version])
    line = summary(record)
    assert line.startswith(
        "5 of 5 changed: <b>0</b> (9.00), <b>1</b> (8.00), <b>2</b> (7.00) and 2"
    )
    assert "900 rows since the model was loaded" in line
    assert "without city, not being numbers" in line
    text, page = shown(Drift("a/b", record))
    assert "no numbers" in text
    assert "above 0" in text
    assert "<b>0" not in page
    assert "&lt;b&gt;0" in page
