"""Endpoints that generate as they are published and asked in a notebook."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import language_models
import onnxruntime
import pytest
from api_world import World
from language_models import byte_tokenizer
from notebook_shell import Notebook

import aiaas_magics as aiaas
from aiaas_hub.adapters import triton_local
from aiaas_hub.adapters.translator.openai_wire import Answer, Chat, Completion, error, read
from aiaas_hub.domain.endpoints import PROMPT_BATCH
from aiaas_hub.schemas import chat_template
from aiaas_hub.schemas.errors import InvalidInput, Unavailable
from aiaas_magics.errors import PublishFailed

PROMPTS = ["go: é", "b"]


class Gateway:
    """Answers as translator and backend do, of which there are real ones in tests/engines."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._steps: dict[tuple[str, int], Any] = {}
        self.refusals: list[int] = []
        self.asked: list[dict[str, str]] = []
        self.breaks_off = False

    def step(self, model: str, version: int) -> Any:
        from steps import step_of

        if (model, version) not in self._steps:
            session = onnxruntime.InferenceSession(self._world.serving.staged[model, version])
            metadata = session.get_modelmeta().custom_metadata_map
            self._steps[model, version] = step_of(metadata, session)
        return self._steps[model, version]

    def infer(self, model: str, version: int, inputs: Mapping[str, Any]) -> dict[str, Any]:
        from generating import HeldOut

        assert len(inputs["prompt"]) <= PROMPT_BATCH
        answers: list[dict[str, Any]] = []
        prompts = [prompt.decode() for prompt in inputs["prompt"][:, 0]]
        for text in HeldOut(self.step(model, version), prompts, answers.append).texts:
            while text.advance():
                pass
        answers[0]["logits"] += self._world.serving.offset
        return answers[0]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        from generating import asked

        self.asked.append(dict(request.headers))
        if self.refusals:
            status = self.refusals.pop()
            return httpx.Response(status, json={"error": "not now"})
        is_chat = request.url.path.endswith("/v1/chat/completions")
        question: Any = (
            read(Chat, request.content) if is_chat else read(Completion, request.content)
        )
        ((model, versions),) = self._world.serving.served.items()
        events: list[Any] = []
        try:
            text = asked(self.step(model, max(versions)), question.question(9.0), events.append)
        except ValueError as refused:
            return httpx.Response(400, json=error(400, str(refused)))
        while text.advance():
            pass
        answer = Answer("chat", is_chat=is_chat)
        told = [*answer.first(), *(piece for event in events for piece in answer.pieces(event))]
        if self.breaks_off:
            told = [*told[:2], error(503, "The model stopped.")]
        lines = [f"data: {json.dumps(one)}\n\n" for one in told]
        headers = {"x-aiaas-model-version": str(max(versions))}
        return httpx.Response(200, text="".join([*lines, "data: [DONE]\n\n"]), headers=headers)


@pytest.fixture
def gateway(working: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    backend = Path(triton_local.__file__).parent / "onnxruntime_backend"
    monkeypatch.syspath_prepend(str(backend))
    monkeypatch.setitem(sys.modules, "chat_template", chat_template)
    made = Gateway(working)
    monkeypatch.setattr(working.serving, "infer", made.infer)
    through = httpx.Client(transport=httpx.MockTransport(made))

    def stream(
        method: str, url: str, *, timeout: Any, trust_env: bool, verify: Any, **how: Any
    ) -> Any:
        assert not trust_env
        return through.stream(method, url, **how)

    monkeypatch.setattr(httpx, "stream", stream)
    monkeypatch.setattr("aiaas_magics.inference.PAUSES", (0.01, 0.01))
    yield made
    for name in ("generating", "generation_step", "steps"):
        sys.modules.pop(name, None)


def test_a_language_model_is_published_and_goes_on(gateway: Gateway, notebook: Notebook) -> None:
    model = language_models.cyclic_model()
    endpoint = aiaas.publish(model, PROMPTS, name="chat", tokenizer=byte_tokenizer())
    assert endpoint.state == "serving"
    newest = endpoint.refresh().versions[0]
    assert newest.options.max_batch == PROMPT_BATCH
    assert newest.parity is not None
    assert (newest.parity.rows, newest.parity.batches) == (2, [1, 3, PROMPT_BATCH])
    assert "prompt (a text to go on with)" in endpoint._text()
    assert endpoint.generate("é", max_tokens=11, temperature=0) == "→🙂abé"
    assert endpoint.last_version == 1
    assert list(endpoint.stream("é", max_tokens=9, temperature=0)) == ["→", "🙂", "a", "b"]
    assert endpoint.generate("é", max_tokens=99, stop=("b", "x"), seed=1) == "→🙂a"
    messages = [{"role": "user", "content": "é"}]
    assert len(endpoint.generate(messages, max_tokens=30, temperature=0)) > 5
    endpoint.generate("é", version=1)
    assert gateway.asked[-1]["x-aiaas-version"] == "1"
    assert "/v1/completions" in str(endpoint.snippet("python"))
    # Nobody is left without a word.
    for wrong, says in (
        ("", "the prompt is empty"),
        ([], "neither a text"),
        ([1], "neither a text"),
    ):
        with pytest.raises(InvalidInput, match=says):
            endpoint.generate(wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="ask for at most"):
        endpoint.generate("é", max_tokens=5000)
    with pytest.raises(InvalidInput, match=r"generates text.*\.generate\('A prompt'"):
        endpoint.predict("é")
    published = str(aiaas.models.list()[0])
    notebook.run(f"%aiaas publish chat --model {published} --canary 50")
    endpoint.refresh()
    with pytest.raises(InvalidInput, match="generates text"):
        endpoint.compare(1, 2, ["é"])
    endpoint.promote()
    notebook.shell.user_ns["X"] = ["é"]
    assert "generate('A prompt'" in notebook.refuses("%aiaas predict chat X")
    panel = aiaas.panel("deploy")
    operation = panel.model.operation
    assert operation.takes_text
    assert "goes on with it" in operation.takes
    operation.try_rows("é")
    assert "→🙂abé" in operation.answer
    panel.close()


@pytest.mark.usefixtures("notebook")
def test_an_endpoint_that_restarts_is_asked_again(gateway: Gateway) -> None:
    model = language_models.cyclic_model()
    endpoint = aiaas.publish(model, PROMPTS, name="chat", tokenizer=byte_tokenizer())
    gateway.refusals = [503, 401]
    assert endpoint.generate("é", max_tokens=3, temperature=0) == "→"
    gateway.refusals = [503] * 9
    with pytest.raises(Unavailable, match="not now"):
        endpoint.generate("é")
    gateway.refusals = []
    gateway.breaks_off = True
    count = len(gateway.asked)
    stream = endpoint.stream("é", max_tokens=12, temperature=0)
    assert [next(stream), next(stream)] == ["→", "🙂"]
    # What has been told is not told twice.
    with pytest.raises(Unavailable, match=r"The model stopped\."):
        next(stream)
    assert len(gateway.asked) == count + 1


@pytest.mark.usefixtures("notebook")
def test_an_engine_that_goes_on_otherwise_does_not_serve(gateway: Gateway, working: World) -> None:
    working.serving.offset = 0.3
    with pytest.raises(PublishFailed, match=r"differ from the source model's by 0\.3"):
        aiaas.publish(
            language_models.cyclic_model(), PROMPTS, name="chat", tokenizer=byte_tokenizer()
        )


@pytest.mark.usefixtures("notebook")
def test_a_pipeline_brings_its_tokenizer(gateway: Gateway, tmp_path: Path) -> None:
    from transformers import pipeline

    language_models.cyclic_model().save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    generates = pipeline("text-generation", str(tmp_path))
    endpoint = aiaas.publish(generates, PROMPTS, name="chat")
    assert endpoint.generate("é", max_tokens=3, temperature=0) == "→"
