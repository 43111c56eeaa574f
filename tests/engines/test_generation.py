"""Language models before Envoy, the translator and Triton, as OpenAI's own client calls them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import httpx
import language_models
import numpy as np
import openai
import psutil
import pytest
from gateway_world import OWNER, World
from programs import run
from safetensors.numpy import load_file

from aiaas_hub.domain import parity
from aiaas_hub.domain.endpoints import PROMPT_BATCH
from aiaas_hub.domain.ports import Route, RouteTarget
from aiaas_hub.schemas.endpoints import Endpoint, EndpointToken, ServingOptions
from aiaas_hub.schemas.errors import AiaasError, InvalidInput
from aiaas_magics.generation import GeneratesText
from aiaas_magics.inference import Caller
from aiaas_magics.runtime.exported import ExportedModel
from aiaas_magics.runtime.sources import export
from aiaas_magics.snippets import LANGUAGES, snippet

pytestmark = pytest.mark.engines

MODEL = "chat-1"
OPTIONS = ServingOptions(max_batch=PROMPT_BATCH)
PROMPTS = ["The é", "b→ and", "ab", "x" * 300]
CONTEXT = 8192
ENDLESS = 2000
"""Tokens that take seconds."""


def route(*shares: tuple[int, int], timeout: float | None = None) -> Route:
    targets = [RouteTarget(MODEL, version, percent, timeout) for version, percent in shares]
    return Route(OWNER, "chat", targets, f"{OWNER}/chat")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[int, ExportedModel]:
    """1: goes on with `CYCLE` for ever; 2: to its end, and without a chat template; 3: anything."""
    tokenizer = language_models.byte_tokenizer()
    plain = language_models.byte_tokenizer(None)
    models = {
        1: (language_models.cyclic_model(context=CONTEXT), tokenizer, CONTEXT),
        2: (language_models.cyclic_model(ends=True), plain, None),
        3: (language_models.random_model("qwen2", 512), tokenizer, None),
    }
    found = {}
    for version, (model, its, length) in models.items():
        directory = tmp_path_factory.mktemp(f"v{version}")
        found[version] = export(
            model, PROMPTS, tokenizer=its, max_length=length, directory=directory
        )
    return found


@pytest.fixture(scope="module")
def loaded(gateway_started: World, exported: Mapping[int, ExportedModel]) -> World:
    triton = gateway_started.triton
    for version, model in exported.items():
        triton.install(triton.stage(MODEL, version, model.signature, model.onnx_path, OPTIONS))
    triton.set_versions(MODEL, exported[1].signature, sorted(exported), OPTIONS)
    return gateway_started


@pytest.fixture
def chat(loaded: World) -> World:
    """Version 1 has all requests."""
    loaded.envoy.apply([route((1, 100), (2, 0), (3, 0))])
    return loaded


def key(world: World, scope: str = "infer", endpoint: str = "chat") -> str:
    expires = datetime.now(UTC) + timedelta(minutes=10)
    return world.keys.sign(f"{OWNER}/{endpoint}", "k1", "ann", expires, scope)


def address(world: World) -> str:
    return f"{world.envoy.url}/{quote(OWNER, safe='')}/chat"


@pytest.fixture
def client(chat: World) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address(chat)}/v1", api_key=key(chat), max_retries=0) as client:
        yield client


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def chosen(world: World, version: int) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{address(world)}/v1",
        api_key=key(world, "versions"),
        default_headers={"x-aiaas-version": str(version)},
        max_retries=0,
    )


def test_triton_answers_held_out_prompts_as_the_source_does(
    loaded: World, exported: Mapping[int, ExportedModel]
) -> None:
    for version, model in exported.items():
        tensors = load_file(model.evaluation_path)
        inputs, expected = parity.split_evaluation(tensors, model.signature)

        def infer(rows: Any, version: int = version) -> Any:
            return loaded.triton.infer(MODEL, version, rows)

        measured, scale = parity.measure(infer, inputs, expected, PROMPT_BATCH)
        assert measured.max_abs < 1e-4 * scale
    for prompt, why in (("", "the prompt is empty"), ("x" * 600, "the model's context is of 512")):
        with pytest.raises(AiaasError, match=why):
            loaded.triton.infer(MODEL, 3, {"prompt": np.array([[prompt]], object)})


def test_a_completion_whole_and_in_pieces(client: openai.OpenAI, chat: World) -> None:
    """A character of several tokens comes when its last one does."""
    answer = client.completions.with_raw_response.create(
        model="any", prompt="go: é", max_tokens=16, temperature=0
    )
    assert answer.headers["x-aiaas-model-version"] == "1"
    whole = answer.parse()
    assert (whole.object, whole.model) == ("text_completion", "chat")
    assert whole.choices[0].text == "→🙂abé→\N{REPLACEMENT CHARACTER}"
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (6, 16)


def test_a_stream_has_whole_characters_and_the_same_text(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "m", "prompt": "é", "max_tokens": 150, "temperature": 0}
    whole = client.completions.create(**asked).choices[0].text
    with client.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    pieces = [chunk.choices[0].text for chunk in chunks if chunk.choices]
    assert "".join(pieces) == whole
    # Four bytes are one piece.
    assert {"→", "🙂", "a", "b", "é"} >= set(pieces[:-1])
    assert len(pieces) > 60
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-2:] == [
        None,
        "length",
    ]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 150
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_chat_and_where_it_ends(client: openai.OpenAI, chat: World) -> None:
    answer = client.chat.completions.create(
        model="m", messages=user(" go: é "), max_completion_tokens=7, temperature=0
    )
    # The template leaves the spaces out, and lets the assistant speak: `>` is not of the cycle.
    message = answer.choices[0].message
    assert (message.role, answer.object) == ("assistant", "chat.completion")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len("<user>go: é<assistant>".encode()) + 1
    asked = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "é"}, {"type": "text", "text": "→"}]},
    ]
    with client.chat.completions.create(
        model="m",
        messages=asked,
        stream=True,
        max_tokens=5,  # type: ignore[arg-type]
    ) as stream:
        chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "length"
    assert chunks[0].object == "chat.completion.chunk"
    # Of itself, of a stop and of nothing else.
    with chosen(chat, 2) as ends:
        completion = ends.completions.create(model="m", prompt="é", max_tokens=400, temperature=0)
    assert completion.choices[0].text == "→🙂ab"
    assert completion.choices[0].finish_reason == "stop"
    for stop, text in (("🙂", "→"), (["xx", "bé"], "→🙂a"), ("a", "→🙂")):
        completion = client.completions.create(
            model="m", prompt="é", stop=stop, max_tokens=400, temperature=0
        )
        assert (completion.choices[0].text, completion.choices[0].finish_reason) == (text, "stop")


def test_lots_are_drawn_alike_from_a_seed(chat: World) -> None:
    with chosen(chat, 3) as client:

        def said(**options: Any) -> str:
            answer = client.completions.create(model="m", prompt="a", max_tokens=30, **options)
            return answer.choices[0].text

        likeliest = said(temperature=0)
        assert said(temperature=0, seed=5) == likeliest
        assert said(temperature=1.5, top_p=0) == likeliest
        assert said(seed=5) == said(seed=5)
        assert said(seed=5) != said(seed=6)
        assert said(seed=-1) == said(seed=-1)


class Asked(GeneratesText):
    """The part of a notebook's endpoint that generates, with keys of the world's."""

    def __init__(self, world: World) -> None:
        token = EndpointToken(
            token=key(world, "versions"), expires_at=datetime.now(UTC) + timedelta(minutes=10)
        )
        client: Any = SimpleNamespace(
            user="ann", endpoints=SimpleNamespace(token=lambda owner, name: token)
        )
        self.caller = Caller(client, OWNER, "chat")
        self._record: Any = SimpleNamespace(name="chat", url=address(world), sticky=False)

    def _calls(self) -> Caller:
        return self.caller

    def _now(self) -> Endpoint:
        endpoint: Endpoint = self._record
        return endpoint


def test_a_notebook_asks_through_the_gateway(chat: World) -> None:
    endpoint = Asked(chat)
    assert endpoint.generate("é", max_tokens=11, temperature=0) == "→🙂abé"
    assert endpoint.caller.last_version == 1
    assert endpoint.generate("é", max_tokens=300, temperature=0, version=2) == "→🙂ab"
    assert endpoint.caller.last_version == 2
    messages = [{"role": "user", "content": "é"}]
    assert len(endpoint.generate(messages, max_tokens=40, temperature=0)) > 10
    stream = endpoint.stream("é", max_tokens=ENDLESS, temperature=0)
    assert [next(stream) for _ in range(4)] == ["→", "🙂", "a", "b"]
    stream.close()
    for prompt, says in (("", "the prompt is empty"), (messages, "has no chat template")):
        with pytest.raises(InvalidInput, match=says):
            endpoint.generate(prompt, version=2)


def test_models_are_listed_by_the_endpoint_s_name(client: openai.OpenAI, loaded: World) -> None:
    assert [model.id for model in client.models.list()] == ["chat"]
    assert client.models.retrieve("chat").id == "chat"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"prompt": ""}, "the prompt is empty"),
        ({"prompt": "x" * 9000}, "the prompt has 9,000 tokens"),
        ({"max_tokens": 8192}, "ask for at most 8,190"),
        ({"max_tokens": 10**9}, "'max_tokens': Input should be less than"),
        ({"max_tokens": 0}, "'max_tokens': Input should be greater"),
        ({"temperature": 3}, "'temperature': Input should be less than"),
        ({"n": 2}, "'n' is not supported here."),
        ({"logprobs": 0}, "'logprobs' is not supported"),
        ({"presence_penalty": 0.5}, "'presence_penalty' is not supported"),
        ({"prompt": ["a", "b"]}, "'prompt'"),
        ({"prompt": [[1, 2]]}, "'prompt'"),
        ({"extra_body": {"guided_json": {}}}, "'guided_json': Extra inputs"),
        ({"stop": ["x"] * 17}, "'stop'"),
    ],
)
def test_what_cannot_be_is_refused(
    client: openai.OpenAI, options: Mapping[str, Any], says: str
) -> None:
    asked = {"model": "m", "prompt": "é", "max_tokens": 4, "presence_penalty": 0.0, **options}
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            client.completions.create(**asked, stream=stream)
        assert says in caught.value.message
        assert isinstance(caught.value.body, dict)
        assert sorted(caught.value.body) == ["code", "message", "param", "type"]


def test_messages_that_a_template_refuses(client: openai.OpenAI, chat: World) -> None:
    late = [*user("a"), {"role": "system", "content": "b"}]
    for messages, says in (
        (late, "the chat template refuses the messages: the system speaks first"),
        ([], "'messages'"),
        ([{"role": "tool", "content": "x"}], "'messages.0.role'"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": ""}]}], "'messages.0."),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="m", messages=messages)
        assert says in caught.value.message
    with chosen(chat, 2) as plain, pytest.raises(openai.BadRequestError) as caught:
        plain.chat.completions.create(model="m", messages=user("a"))
    assert "the model has no chat template" in caught.value.message


def test_refusals_of_the_gateway_are_openai_s_too(chat: World) -> None:
    base = f"{address(chat)}/v1"

    def call(token: str, url: str = base, prompt: str = "é", **headers: str) -> None:
        with openai.OpenAI(base_url=url, api_key=token, max_retries=0) as client:
            client.completions.create(model="m", prompt=prompt, max_tokens=2, extra_headers=headers)

    for kind, says, how in (
        (openai.AuthenticationError, "needs a valid key", ("rubbish",)),
        (openai.PermissionDeniedError, "for another endpoint", (key(chat, endpoint="scale"),)),
        (openai.PermissionDeniedError, "revoked or for", (key(chat, "metadata"),)),
        (openai.NotFoundError, "no such endpoint", (key(chat), base.replace("/chat/", "/none/"))),
        (openai.APIStatusError, "at most", (key(chat), base, "x" * (2 << 20))),
    ):
        with pytest.raises(kind) as caught:
            call(*how)
        assert says in caught.value.message
        assert isinstance(caught.value.body, dict)
        assert sorted(caught.value.body) == ["code", "message", "param", "type"]
    with pytest.raises(openai.PermissionDeniedError):
        call(key(chat), **{"x-aiaas-version": "2"})


def test_other_models_and_other_protocols(chat: World, world: World) -> None:
    """A model of numbers does not go on with texts, and one that does answers nothing else."""
    from gateway_world import route as scale

    chat.envoy.apply([route((1, 100)), scale((1, 100))])
    base = address(chat).replace("/chat", "/scale")
    with openai.OpenAI(
        base_url=f"{base}/v1", api_key=key(chat, endpoint="scale"), max_retries=0
    ) as client:
        with pytest.raises(openai.BadRequestError, match="does not generate text"):
            client.completions.create(model="m", prompt="a")
        assert list(client.models.list()) == []
    headers = {"Authorization": f"Bearer {key(chat)}"}
    for path, status, body, says in (
        ("v1/models/m:predict", 400, {"instances": ["a"]}, "generates text"),
        (
            "v2/models/m/infer",
            501,
            {"inputs": [{"name": "prompt", "shape": [1, 1], "datatype": "BYTES", "data": ["a"]}]},
            "decoupled transaction policy",
        ),
    ):
        answer = httpx.post(f"{address(chat)}/{path}", json=body, headers=headers)
        assert answer.status_code == status
        assert says in answer.json()["error"]
    for path in (
        "v2/models/m/generate",
        "v2/models/m/generate_stream",
        "v1/chat",
        "v1/completions/x",
    ):
        answer = httpx.post(f"{address(chat)}/{path}", json={"prompt": "a"}, headers=headers)
        assert answer.status_code == 404


def test_two_callers_are_served_at_once(chat: World) -> None:
    """The one that asks for little does not wait for the one that asked for much."""
    begun, ended = threading.Event(), threading.Event()

    def long() -> None:
        with (
            chosen(chat, 1) as client,
            client.completions.create(
                model="m", prompt="é", max_tokens=ENDLESS, temperature=0, stream=True
            ) as stream,
        ):
            for _ in stream:
                begun.set()
        ended.set()

    thread = threading.Thread(target=long)
    thread.start()
    assert begun.wait(30)
    with chosen(chat, 1) as client:
        answer = client.completions.create(model="m", prompt="é", max_tokens=16, temperature=0)
        assert answer.choices[0].finish_reason == "length"
        assert not ended.is_set()
    thread.join(60)
    assert ended.is_set()


def test_the_platform_s_own_look_at_a_model_does_not_wait_for_callers(chat: World) -> None:
    """However many there are: it would be taken for dead, and started anew."""
    ended: list[float] = []

    def long() -> None:
        with chosen(chat, 1) as client:
            client.completions.create(model="m", prompt="é", max_tokens=ENDLESS, temperature=0)
        ended.append(time.monotonic())

    threads = [threading.Thread(target=long) for _ in range(12)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    chat.triton.infer(MODEL, 1, {"prompt": np.array([["é"]], object)})
    answered = time.monotonic()
    for thread in threads:
        thread.join(120)
    assert len(ended) == 12
    assert answered < min(ended)


def test_who_goes_away_is_not_gone_on_with(chat: World) -> None:
    def made() -> int:
        """Runs of the model count nowhere: but the process has work as long as there is some."""
        (stub,) = [p for p in stubs(chat) if f"/{MODEL}/1/" in " ".join(p.cmdline())]
        times = stub.cpu_times()
        return round(100 * (times.user + times.system))

    with chosen(chat, 1) as client:
        with client.completions.create(
            model="m", prompt="é", max_tokens=CONTEXT - 10, temperature=0, stream=True
        ) as stream:
            for _, _ in zip(stream, range(5), strict=False):
                pass
            busy = made()
            time.sleep(0.5)
            assert made() - busy > 10
        # Nobody waits for it any more.
        time.sleep(0.5)
        busy = made()
        time.sleep(1)
        assert made() - busy < 10
        # And the next one is answered.
        answer = client.completions.create(model="m", prompt="é", max_tokens=3, temperature=0)
        assert answer.choices[0].text == "→"


def test_a_version_that_goes_ends_its_texts_first(
    chat: World, exported: Mapping[int, ExportedModel]
) -> None:
    for change in ("narrowed", "healed"):
        with (
            chosen(chat, 1) as client,
            client.completions.create(
                model="m", prompt="é", max_tokens=ENDLESS, temperature=0, stream=True
            ) as stream,
        ):
            next(stream)
            if change == "narrowed":
                chat.triton.set_versions(MODEL, exported[1].signature, [2, 3], OPTIONS)
            else:
                chat.triton.heal(MODEL)
            reasons = [chunk.choices[0].finish_reason for chunk in stream]
        assert reasons[-1] == "length"
        assert len(reasons) > 100
        chat.triton.set_versions(MODEL, exported[1].signature, [1, 2, 3], OPTIONS)


def test_a_text_ends_before_its_endpoint_s_time(chat: World) -> None:
    chat.envoy.apply([route((1, 100), timeout=1.0)])
    with openai.OpenAI(base_url=f"{address(chat)}/v1", api_key=key(chat), max_retries=0) as client:
        answer = client.completions.create(
            model="m", prompt="é", max_tokens=CONTEXT - 10, temperature=0
        )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert 10 < answer.usage.completion_tokens < CONTEXT - 10


def test_versions_share_and_a_shadow_gets_copies(chat: World) -> None:
    with openai.OpenAI(base_url=f"{address(chat)}/v1", api_key=key(chat), max_retries=0) as client:

        def version() -> str:
            answer = client.completions.with_raw_response.create(
                model="m", prompt="é", max_tokens=1
            )
            return answer.headers["x-aiaas-model-version"]

        chat.envoy.apply([route((1, 50), (2, 50))])
        assert {version() for _ in range(40)} == {"1", "2"}
        before = chat.triton.counts(MODEL)[2].requests
        shadowed = replace(route((1, 100), (2, 0)), shadow=RouteTarget(MODEL, 2, 100))
        chat.envoy.apply([shadowed])
        assert {version() for _ in range(5)} == {"1"}
        deadline = time.monotonic() + 30
        while chat.triton.counts(MODEL)[2].requests < before + 5:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert chat.envoy.traffic()[MODEL, 1].requests > 0


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_snippet_asks_for_a_text(
    chat: World, exported: Mapping[int, ExportedModel], tmp_path: Path, language: str
) -> None:
    text = snippet(language, address(chat), "chat", exported[1].signature)
    ran = run(language, text, tmp_path, key(chat))
    assert "version 1" in ran or "x-aiaas-model-version: 1" in ran
    assert ran.count("→") > 2 or ran.count("\\u2192") > 2


def test_a_model_whose_process_dies(chat: World) -> None:
    """Its callers hear of it, in the middle of an answer too; then it is started again."""
    with chosen(chat, 1) as client:
        with client.completions.create(
            model="m", prompt="é", max_tokens=CONTEXT - 10, temperature=0, stream=True
        ) as stream:
            next(stream)
            for stub in stubs(chat):
                if f"/{MODEL}/1/" in " ".join(stub.cmdline()):
                    stub.kill()
            died = time.monotonic()
            with pytest.raises(openai.APIError):
                list(stream)
            # Not when the gateway's patience ends: a process that is alive would have said so.
            assert time.monotonic() - died < 60
        with pytest.raises(openai.APIStatusError):
            client.completions.create(model="m", prompt="é", max_tokens=3)
        chat.triton.heal(MODEL)
        answer = client.completions.create(model="m", prompt="é", max_tokens=3, temperature=0)
        assert answer.choices[0].text == "→"


def stubs(world: World) -> list[psutil.Process]:
    process = world.supervisor.process("triton")
    assert process is not None
    return psutil.Process(process.pid).children(recursive=True)
