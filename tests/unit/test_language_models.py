"""Language models: what is exported of them, and how their texts are made token by token."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import language_models
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from language_models import BOS, CYCLE, EOS, TEMPLATE, byte_tokenizer
from safetensors.numpy import load_file

from aiaas_hub.adapters import triton_local
from aiaas_hub.schemas import chat_template, strings
from aiaas_hub.schemas.chat_template import ChatTemplate
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.models import Signature, TensorSpec
from aiaas_magics.runtime.sources import export, is_causal

BACKEND = Path(triton_local.__file__).parent / "onnxruntime_backend"
PROMPTS = ["The é", "a longer one, →", "x"]
USER = [{"role": "user", "content": "é"}]


@pytest.fixture
def generating(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The backend's module, as it lies where it serves."""
    monkeypatch.syspath_prepend(str(BACKEND))
    monkeypatch.setitem(sys.modules, "chat_template", chat_template)
    import generating

    yield generating
    for name in ("generating", "generation_step", "steps"):
        del sys.modules[name]


@pytest.fixture(scope="module")
def cyclic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("cyclic")
    model = language_models.cyclic_model(context=128)
    return export(model, PROMPTS, tokenizer=byte_tokenizer(), directory=directory).onnx_path


def step_of(path: Path) -> Any:
    from steps import step_of

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return step_of(session.get_modelmeta().custom_metadata_map, session)


# Exporting


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
def test_what_is_exported_goes_on_as_the_model_does(
    tmp_path: Path, generating: ModuleType, kind: str
) -> None:
    model, tokenizer = language_models.random_model(kind), byte_tokenizer()
    # An endpoint does nothing of this: nor does the comparison.
    model.generation_config.repetition_penalty = 1.8
    exported = export(model, PROMPTS, tokenizer=tokenizer, directory=tmp_path)
    assert exported.signature.generates
    assert exported.signature.outputs[0].shape == [258]
    assert exported.export_max_abs < 1e-4
    assert [path.name for path in tmp_path.glob("model*")] == ["model.onnx"]
    assert model.generation_config.repetition_penalty == 1.8
    rows = load_file(exported.evaluation_path)
    assert strings.unpack(rows["input.prompt"])[:, 0].tolist() == [p.encode() for p in PROMPTS]
    # A long text, over the borders of what is read at once, from the cache and beside others.
    step, prompt = step_of(exported.onnx_path), "→é" * 10
    tokens = torch.tensor([tokenizer(prompt)["input_ids"]])
    expected = model.generate(
        tokens, do_sample=False, max_new_tokens=60, repetition_penalty=1.0, pad_token_id=0
    )[0, tokens.shape[1] :]
    made: list[int] = []
    logits, cache, left = step.read(tokens[0].tolist(), {})
    while left:
        logits, cache, left = step.read(left, cache)
    while len(made) < len(expected):
        made.append(int(logits.argmax()))
        logits, cache = step.run(made[-1:], cache)
    assert made == expected.tolist()


def test_a_prompt_is_read_in_parts(
    generating: ModuleType, cyclic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = step_of(cyclic)
    whole, _ = step.run(list(b"abcdefghij"), {})
    monkeypatch.setattr("generation_step._READ_AT_ONCE", 4)
    left, cache, runs = list(b"abcdefghij"), {}, 0
    while left:
        logits, cache, left = step.read(left, cache)
        runs += 1
    assert runs == 3
    np.testing.assert_allclose(logits, whole, atol=1e-5)


def test_what_goes_along(tmp_path: Path) -> None:
    model, tokenizer = language_models.random_model("llama", 64), byte_tokenizer()
    model.generation_config.eos_token_id = [EOS, 10]
    tokenizer.padding_side = "left"
    exported = export(model.double(), PROMPTS, tokenizer=tokenizer, directory=tmp_path)
    # What was handed over is as it was.
    assert next(model.parameters()).dtype == torch.float64
    metadata = {m.key: m.value for m in onnx.load(exported.onnx_path).metadata_props}
    declared = json.loads(metadata["aiaas.step"])["generation"]
    assert declared["end_tokens"] == [10, EOS]
    assert declared["context"] == 64
    assert declared["chat_template"] == TEMPLATE
    assert declared["special_tokens"]["bos_token"] == "<bos>"
    assert len(declared["cache"]) == 4
    assert json.loads(metadata["aiaas.tokenizer"])["padding"] is None


def test_what_is_taken_for_a_language_model() -> None:
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        T5Config,
        T5ForConditionalGeneration,
    )

    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    assert is_causal(language_models.random_model("gpt2"))
    assert not is_causal(BertForSequenceClassification(BertConfig(**small, vocab_size=9)))
    encodes = T5Config(vocab_size=9, d_model=8, d_ff=8, num_layers=1, num_heads=1)
    assert not is_causal(T5ForConditionalGeneration(encodes))
    assert not is_causal(torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"example_input": [""]}, "has 0 tokens"),
        ({"example_input": ["x" * 200]}, "has 200 tokens, and the model's context is of 128"),
        ({"example_input": [1]}, "not made of texts"),
        ({"max_length": 129}, "takes up to 128 tokens, and max_length is 129"),
        ({"labels": ["a"]}, "has no labels"),
        (
            {"tokenizer": byte_tokenizer("{% generation %}{% endgeneration %}{{ messages }}")},
            "chat template does not render",
        ),
        ({"tokenizer": byte_tokenizer("{{ messages | length }}{{ tools is defined }}")}, None),
        ({"tokenizer": byte_tokenizer("{{ messages | urlize }}")}, None),
    ],
)
def test_what_cannot_be_exported(
    tmp_path: Path, options: Mapping[str, Any], says: str | None
) -> None:
    given = {"example_input": PROMPTS, "tokenizer": byte_tokenizer(), **options}
    model = language_models.random_model("gpt2")
    if says is None:
        export(model, **given, directory=tmp_path)
        return
    with pytest.raises(InvalidInput) as caught:
        export(model, **given, directory=tmp_path)
    assert says in caught.value.message


def test_a_model_that_looks_back_only_so_far_has_that_context(tmp_path: Path) -> None:
    model = language_models.random_model("qwen2")
    model.config.use_sliding_window, model.config.sliding_window = True, 40
    with pytest.raises(InvalidInput, match="up to 40 tokens"):
        export(model, PROMPTS, tokenizer=byte_tokenizer(), max_length=41, directory=tmp_path)


def test_a_model_with_another_cache_is_refused(tmp_path: Path) -> None:
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(vocab_size=258, hidden_size=8, num_hidden_layers=1, state_size=4)
    with pytest.raises(InvalidInput, match="another cache than keys and values"):
        export(MambaForCausalLM(config), PROMPTS, tokenizer=byte_tokenizer(), directory=tmp_path)


def test_a_signature_of_a_prompt() -> None:
    string: dict[str, Any] = {"dtype": "string", "shape": [1]}
    prompt = TensorSpec(name="prompt", kind="prompt", **string)
    completion = TensorSpec(name="completion", kind="completion", **string)
    logits = TensorSpec(name="logits", dtype="float32", shape=[9])
    whole = Signature(inputs=[prompt], outputs=[logits, completion])
    assert whole.generates
    assert whole.has_step
    assert not whole.takes_text
    for inputs, outputs in (
        ([prompt], [logits]),
        ([prompt], [completion, logits]),
        ([prompt], [logits, completion, logits]),
        ([logits], [logits, completion]),
        ([completion], [logits]),
        ([prompt, logits], [logits, completion]),
        ([logits], [prompt]),
    ):
        with pytest.raises(ValueError, match=r"prompt|completion"):
            Signature(inputs=inputs, outputs=outputs)


# Chat templates


def test_a_template_is_rendered_as_transformers_does() -> None:
    source = (
        "{%- for m in messages %}\n    {%- if m.role == 'skip' %}{% continue %}{% endif %}\n"
        "[{{ m.role }}] {{ m | tojson }}\n{%- endfor %}{{ eos_token }}"
        "{% if tools %}no{% endif %}{{ strftime_now('%Y') }}"
    )
    tokenizer = byte_tokenizer(source)
    messages = [*USER, {"role": "assistant", "content": "<b>'ä'</b>\n"}]
    expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert ChatTemplate(source, {"eos_token": "<eos>"}).render(messages) == expected


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{{ raise_exception('no') }}", "refuses the messages: no"),
        ("{{ messages.__class__.__mro__ }}", "refuses the messages"),
        ("{{ messages.append(1) }}", "refuses the messages"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "refuses the messages"),
        ("{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", "more than 4,194,304"),
        ("{% include '/etc/passwd' %}", "refuses the messages"),
        ("{{ cycler.__init__.__globals__.os.system('true') }}", "refuses the messages"),
        ("{{ undefined_thing.x }}", "refuses the messages"),
    ],
)
def test_a_template_cannot_do_more_than_render(source: str, says: str) -> None:
    with pytest.raises(ValueError, match=r".*") as caught:
        ChatTemplate(source, {}).render(USER)
    assert says in str(caught.value)


@pytest.mark.parametrize("source", ["{% if %}", "x" * (300 << 10)])
def test_what_is_no_template(source: str) -> None:
    with pytest.raises(ValueError, match="the chat template"):
        ChatTemplate(source, {})


# Tokens and texts


@pytest.mark.parametrize(
    "text", [CYCLE * 9, "aé🙂" * 30, "👩‍👩‍👧 family", "\N{REPLACEMENT CHARACTER}x"]
)
def test_pieces_are_whole_characters_and_together_the_text(
    generating: ModuleType, text: str
) -> None:
    from generation_step import Detokenizer

    tokenizer = byte_tokenizer().backend_tokenizer
    for prompt in ([], list(b"before")):
        detokenizer = Detokenizer(tokenizer, prompt)
        pieces = [detokenizer.add(byte) for byte in text.encode()]
        assert all(piece == "" or piece.encode().decode() == piece for piece in pieces)
        assert "".join(pieces) + detokenizer.end() == text
        if "\N{REPLACEMENT CHARACTER}" not in text:
            assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


def test_a_space_before_a_word_is_a_part_of_the_text(generating: ModuleType) -> None:
    """Of the first token of a text such tokenizers leave it out, as Llama's does."""
    from generation_step import Detokenizer
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    words = [f"▁w{number}" for number in range(40)]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, "▁w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    detokenizer = Detokenizer(tokenizer, tokenizer.encode("w1 w2").ids)
    pieces = [detokenizer.add(number) for number in range(3, 40)]
    assert "".join(pieces) == "".join(f" w{number}" for number in range(3, 40))
    assert pieces[0] == " w3"


def test_what_becomes_no_character_comes_at_the_end(generating: ModuleType) -> None:
    from generation_step import Detokenizer

    detokenizer = Detokenizer(byte_tokenizer().backend_tokenizer, [])
    assert [detokenizer.add(byte) for byte in b"a\xf0\x9f\x99"] == ["a", "", "", ""]
    assert detokenizer.end().startswith("\N{REPLACEMENT CHARACTER}")


def test_a_text_ends_at_the_first_of_its_stops(generating: ModuleType) -> None:
    from generation_step import Stops

    stops = Stops(["END", "ENE", "."])
    assert [stops.add(piece) for piece in ("on", " EN", "C ", "E", "N")] == [
        ("on", False),
        (" ", False),
        ("ENC ", False),
        ("", False),
        ("", False),
    ]
    assert stops.add("E more. END") == ("", True)
    assert stops.end() == ""
    assert Stops([]).add("anything") == ("anything", False)
    half = Stops(["abc"])
    assert half.add("xab") == ("x", False)
    assert half.end() == "ab"


def test_tokens_are_drawn_by_their_chances(generating: ModuleType) -> None:
    from generation_step import choose

    logits = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    random = np.random.default_rng(0)
    assert choose(logits, 0, 1, random) == 0
    drawn = [choose(logits, 1, 1, random) for _ in range(4000)]
    shares = np.bincount(drawn) / len(drawn)
    np.testing.assert_allclose(shares, [0.5, 0.3, 0.2], atol=0.03)
    assert {choose(logits, 1, 0.5, random) for _ in range(200)} == {0}
    assert {choose(logits, 1, 0.6, random) for _ in range(200)} == {0, 1}
    assert {choose(logits, 1, 0, random) for _ in range(50)} == {0}
    assert {choose(logits, 0.01, 1, random) for _ in range(50)} == {0}


def told(text: Any, events: list[Mapping[str, Any]]) -> str:
    while text.advance():
        pass
    return "".join(event["text"] for event in events)


def test_a_text_and_its_bounds(generating: ModuleType, cyclic: Path) -> None:
    step, events = step_of(cyclic), list[Mapping[str, Any]]()

    def made(**options: Any) -> Mapping[str, Any]:
        events.clear()
        tokens = step.tokens_of_prompt("é")
        said = told(generating.Text(step, tokens, events.append, **options), events)
        return {"said": said, **{k: v for k, v in events[-1].items() if k != "text"}}

    assert made(max_tokens=9) == {
        "said": "→🙂ab",
        "finish_reason": "length",
        "prompt_tokens": 2,
        "completion_tokens": 9,
    }
    # Without a limit the context is one.
    assert made()["completion_tokens"] == 126
    with pytest.raises(generating.Busy, match="no time for a first token"):
        made(max_tokens=100, seconds=-1)
    assert made(max_tokens=30, stop=["bé"])["finish_reason"] == "stop"
    with pytest.raises(ValueError, match="ask for at most 126"):
        made(max_tokens=127)
    for prompt, says in (("", "empty"), ("x" * 128, "128 tokens"), ("<unk>" * 99, "tokens")):
        with pytest.raises(ValueError, match=says):
            step.tokens_of_prompt(prompt)
    assert step.tokens_of_messages(USER)[:2] == [BOS, ord("<")]


def test_texts_take_turns(generating: ModuleType) -> None:
    """One that is long, one that is short, one that fails and one whose caller has gone."""
    line, log, done = generating.Line(), list[str](), threading.Event()

    class Fake:
        def __init__(self, name: str, runs: int) -> None:
            self.name, self.left = name, runs

        def advance(self) -> bool:
            log.append(self.name)
            time.sleep(0.002)
            if self.name == "fails":
                raise RuntimeError("no memory")
            self.left -= 1
            if self.left == 0 and self.name == "long":
                done.set()
            return self.left > 0

        def reassure(self) -> None:
            log.append(f"{self.name} waits")

    def unheard(error: Exception) -> None:
        failures.append(error)
        raise ConnectionError

    failures: list[Exception] = []
    wanted: Callable[[], bool] = lambda: True  # noqa: E731
    line.add(Fake("long", 60), wanted, failures.append)
    line.add(Fake("fails", 9), wanted, unheard)
    line.add(Fake("gone", 9), lambda: False, failures.append)
    line.add(Fake("short", 5), wanted, failures.append)
    assert done.wait(10)
    line.close()
    assert [str(error) for error in failures] == ["no memory"]
    assert log.count("short") == 5
    assert log.count("fails") == 1
    assert "gone" not in log
    # In turn, not one after the other.
    assert max(i for i, name in enumerate(log) if name == "short") < 16


def test_no_more_texts_than_have_caches_are_on_their_way(
    generating: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generating, "REASSURE_SECONDS", 0.05)
    line, begun, release = generating.Line(), list[int](), threading.Event()
    waited: list[int] = []

    class Fake:
        def __init__(self, number: int) -> None:
            self.number = number

        def advance(self) -> bool:
            if self.number not in begun:
                begun.append(self.number)
            release.wait(0.001)
            return not release.is_set()

        def reassure(self) -> None:
            waited.append(self.number)

    for number in range(generating.MAX_ACTIVE + 3):
        line.add(Fake(number), lambda: True, lambda error: None)
    deadline = time.monotonic() + 10
    while len(begun) < generating.MAX_ACTIVE or len(set(waited)) < generating.MAX_ACTIVE + 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert sorted(begun) == list(range(generating.MAX_ACTIVE))
    monkeypatch.setattr(generating, "MAX_WAITING", 3)
    with pytest.raises(generating.Busy, match="too many texts"):
        line.add(Fake(99), lambda: True, lambda error: None)
    # The platform's own look at the model waits for nobody.
    line.add(Fake(100), lambda: True, lambda error: None, first=True)
    while 100 not in begun:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    release.set()
    while len(begun) < generating.MAX_ACTIVE + 4:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    line.close()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"context": 10**6}, "context is not of"),
        ({"cache": [["past", "present"]]}, "not input_ids and its cache"),
        ({"held_out_tokens": 1000}, "held-out prompts"),
        ({"chat_template": "{% if %}"}, "does not compile"),
    ],
)
def test_what_is_declared_has_to_fit(
    generating: ModuleType, cyclic: Path, change: Mapping[str, Any], says: str
) -> None:
    from steps import step_of

    session = onnxruntime.InferenceSession(cyclic, providers=["CPUExecutionProvider"])
    metadata = dict(session.get_modelmeta().custom_metadata_map)
    declared = json.loads(metadata["aiaas.step"])
    declared["generation"] |= change
    with pytest.raises(ValueError, match=says):
        step_of({**metadata, "aiaas.step": json.dumps(declared)}, session)
    with pytest.raises(ValueError, match="tokenizer does not load"):
        step_of({**metadata, "aiaas.tokenizer": "{}"}, session)
