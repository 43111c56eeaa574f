"""What every serving engine must do, on each that this machine can run."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import onnx_models
import psutil
import pytest
from bed.control_plane import missing
from image_files import BLUE, FORMATS, GREEN, RED, bomb, file, noise, plain
from onnx import TensorProto
from serving_worlds import Local, OnPods, World, wait_ready

from aiaas_hub.adapters.triton_local import TritonLocal
from aiaas_hub.domain.endpoints import IMAGE_BATCH
from aiaas_hub.domain.ports import DoesNotAnswer, ServingEngine
from aiaas_hub.schemas.endpoints import MAX_BATCH, ServingOptions
from aiaas_hub.schemas.errors import AiaasError, Conflict, InvalidInput, NotFound, Unavailable
from aiaas_hub.schemas.models import DType, Signature, TensorSpec
from aiaas_hub.schemas.pixels import Processing, opened, pixels
from aiaas_hub.schemas.platform import EngineState

pytestmark = pytest.mark.engines

SIGNATURE = onnx_models.SCALE_SIGNATURE
IMAGE_OPTIONS = ServingOptions(max_batch=IMAGE_BATCH)
ROWS = np.arange(1, 7, dtype=np.float32).reshape(2, 3)


@pytest.fixture(scope="module", params=[Local, OnPods])
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    if request.param is OnPods and (reason := missing()):
        pytest.skip(reason)
    world: World = request.param(tmp_path_factory.mktemp("serving"))
    try:
        world.start()
        wait_ready(world.engine)
        yield world
    finally:
        world.stop()


@pytest.fixture
def engine(world: World) -> Iterator[ServingEngine]:
    """Running, and empty again after each test."""
    engine: ServingEngine = world.engine
    engine.start()
    wait_ready(engine)
    yield engine
    engine.start()
    wait_ready(engine)
    for model in engine.models():
        engine.set_versions(model, SIGNATURE, [])
        engine.remove(model)


def publish(engine: ServingEngine, version: int, tmp_path: Path, model: str = "scale-1") -> None:
    onnx = onnx_models.scale(tmp_path / f"{version}.onnx", float(version))
    engine.install(engine.stage(model, version, SIGNATURE, onnx))


def factor(engine: ServingEngine, version: int, model: str = "scale-1") -> float:
    """What this version multiplies by: it is made so that this is its number."""
    answer = engine.infer(model, version, {"x": ROWS})
    y: Any = answer["y"]
    total: Any = answer["total"]
    assert total.shape == (2,)
    np.testing.assert_allclose(total, y.sum(axis=1))
    np.testing.assert_allclose(y / ROWS, y[0, 0])
    return float(y[0, 0])


def test_options_are_triton_s_own(engine: ServingEngine, tmp_path: Path) -> None:
    options = ServingOptions(instances=2, max_batch=2, timeout_seconds=30)
    onnx = onnx_models.scale(tmp_path / "m.onnx", 5.0)
    single = engine.stage("scale-2", 1, SIGNATURE, onnx)
    staged = engine.stage("scale-1", 1, SIGNATURE, onnx, options)
    # A process with Python and onnxruntime; twice as much for two.
    assert 20e6 < single.memory < 1e9
    assert 1.5 * single.memory < staged.memory < 2.5 * single.memory
    engine.discard(single)
    with pytest.raises(Conflict):
        engine.install(single)
    engine.install(staged)
    assert engine.memory() == {("scale-1", 1): staged.memory}
    assert engine.stage("scale-1", 1, SIGNATURE, onnx, options).memory == staged.memory
    engine.set_versions("scale-1", SIGNATURE, [1], options)
    assert factor(engine, 1) == 5
    with pytest.raises(InvalidInput, match="batch-size must be <= 2"):
        engine.infer("scale-1", 1, {"x": np.ones((3, 3), np.float32)})
    # The same again changes nothing, and other options are another configuration.
    engine.set_versions("scale-1", SIGNATURE, [1], options)
    engine.set_versions("scale-1", SIGNATURE, [1])
    assert len(engine.infer("scale-1", 1, {"x": np.ones((3, 3), np.float32)})["y"]) == 3


def test_requests_share_a_run_as_their_batch_delay_says(
    engine: ServingEngine, tmp_path: Path
) -> None:
    onnx = onnx_models.scale(tmp_path / "m.onnx", 5.0)
    shared = {}
    for name, delay in (("scale-1", 1000.0), ("scale-2", "off")):
        options = ServingOptions.model_validate({"batch_delay": delay, "max_batch": 2})
        engine.install(engine.stage(name, 1, SIGNATURE, onnx, options))
        engine.set_versions(name, SIGNATURE, [1], options)
        threads = [Thread(target=engine.infer, args=(name, 1, {"x": ROWS[:1]})) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        shared[name] = engine.counts(name)[1].batch_sizes
    # Two rows fill a run, so that nobody waits a second for a third.
    assert sum(n for size, n in shared["scale-1"].items() if size == 2) >= 1
    assert set(shared["scale-2"]) == {1}


def test_publish_two_versions_then_narrow(engine: ServingEngine, tmp_path: Path) -> None:
    publish(engine, 1, tmp_path)
    assert engine.models() == {"scale-1"}
    assert engine.ready_versions("scale-1") == set()
    engine.set_versions("scale-1", SIGNATURE, [1])
    publish(engine, 2, tmp_path)
    assert engine.ready_versions("scale-1") == {1}
    engine.set_versions("scale-1", SIGNATURE, [1, 2])
    assert engine.ready_versions("scale-1") == {1, 2}
    assert (factor(engine, 1), factor(engine, 2)) == (1, 2)
    engine.set_versions("scale-1", SIGNATURE, [2])
    assert engine.ready_versions("scale-1") == {2}
    with pytest.raises(NotFound):
        engine.infer("scale-1", 1, {"x": ROWS})
    assert factor(engine, 2) == 2
    with pytest.raises(Conflict):
        engine.remove("scale-1", 2)
    engine.remove("scale-1", 1)
    engine.remove("scale-1", 1)
    engine.set_versions("scale-1", SIGNATURE, [])
    assert engine.ready_versions("scale-1") == set()
    engine.remove("scale-1")
    assert engine.models() == set()


def test_rolling_back_to_a_version_that_was_narrowed_away(
    engine: ServingEngine, tmp_path: Path
) -> None:
    for version in (1, 2):
        publish(engine, version, tmp_path)
        engine.set_versions("scale-1", SIGNATURE, [version])
    engine.set_versions("scale-1", SIGNATURE, [1])
    assert factor(engine, 1) == 1


def test_every_step_may_be_repeated(engine: ServingEngine, tmp_path: Path) -> None:
    onnx = onnx_models.scale(tmp_path / "m.onnx", 1)
    engine.stage("scale-1", 1, SIGNATURE, onnx)
    staged = engine.stage("scale-1", 1, SIGNATURE, onnx)
    engine.install(staged)
    engine.install(staged)
    # A crash after the rename: the whole protocol begins again.
    engine.install(engine.stage("scale-1", 1, SIGNATURE, onnx))
    engine.set_versions("scale-1", SIGNATURE, [1])
    engine.set_versions("scale-1", SIGNATURE, [1])
    assert factor(engine, 1) == 1
    with pytest.raises(Conflict, match="another model"):
        engine.stage("scale-1", 1, SIGNATURE, onnx_models.scale(tmp_path / "o.onnx", 9))


def test_a_damaged_stage_is_not_installed(engine: ServingEngine, tmp_path: Path) -> None:
    staged = engine.stage("scale-1", 1, SIGNATURE, onnx_models.scale(tmp_path / "m.onnx", 1))
    (staged.path / "model.onnx").write_bytes(b"half")
    with pytest.raises(Conflict, match="damaged"):
        engine.install(staged)
    assert engine.models() == set()


def test_what_does_not_load_or_match_is_refused_at_once(
    engine: ServingEngine, world: World, tmp_path: Path
) -> None:
    def stage(onnx: Path, signature: Signature = SIGNATURE) -> None:
        engine.stage("scale-1", 1, signature, onnx)

    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"junk")
    with pytest.raises(InvalidInput, match="does not load") as caught:
        stage(junk)
    assert not any(place in str(caught.value) for place in world.places())
    with pytest.raises(InvalidInput, match=r"batch dimension .* is fixed at 4"):
        stage(onnx_models.scale(tmp_path / "fixed.onnx", 1, batch=4))
    good = onnx_models.scale(tmp_path / "good.onnx", 1)
    wrong = SIGNATURE.model_copy(deep=True)
    wrong.inputs[0].name = "z"
    with pytest.raises(InvalidInput, match="inputs are 'x', its signature says 'z'"):
        stage(good, wrong)
    wrong = SIGNATURE.model_copy(deep=True)
    wrong.inputs[0].dtype = "float64"
    with pytest.raises(InvalidInput, match="signature says float64"):
        stage(good, wrong)
    wrong = SIGNATURE.model_copy(deep=True)
    wrong.inputs[0].shape = [4]
    with pytest.raises(InvalidInput, match=r"shape \[\?, 3\], its signature says \[\?, 4\]"):
        stage(good, wrong)
    # Weights elsewhere: anything of this machine could be read into a model.
    secret = tmp_path / "secret"
    secret.write_bytes(b"0" * 12)
    for location in (str(secret), "../../../secret", "/etc/hostname", "weights.bin"):
        with pytest.raises(InvalidInput, match="does not load"):
            stage(onnx_models.external(tmp_path / "external.onnx", location))
    assert engine.models() == set()
    for version in (0, -1, 2**63):
        with pytest.raises(InvalidInput):
            engine.stage("scale-1", version, SIGNATURE, good)
    for name in ("../x", "", "a/b", ".hidden"):
        with pytest.raises(InvalidInput):
            engine.stage(name, 1, SIGNATURE, good)


def test_a_version_that_does_not_load_leaves_the_former_one_serving(
    engine: ServingEngine, world: World, tmp_path: Path
) -> None:
    publish(engine, 1, tmp_path)
    engine.set_versions("scale-1", SIGNATURE, [1])
    publish(engine, 2, tmp_path)
    world.spoil("scale-1", 2)
    with pytest.raises(InvalidInput, match="does not load in Triton") as caught:
        engine.set_versions("scale-1", SIGNATURE, [1, 2])
    assert not any(place in str(caught.value) for place in world.places())
    # By default Triton would call itself unready from here on, and who balances load believes it.
    assert world.ready_servers() == world.servers
    assert engine.ready_versions("scale-1") == {1}
    assert factor(engine, 1) == 1
    # The failed version is in nobody's way, whatever loads the model next.
    engine.heal("scale-1")
    assert factor(engine, 1) == 1
    publish(engine, 3, tmp_path)
    engine.set_versions("scale-1", SIGNATURE, [1, 3])
    assert (factor(engine, 1), factor(engine, 3)) == (1, 3)
    assert engine.health().state is EngineState.READY
    assert world.ready_servers() == world.servers


def test_a_stray_entry_is_in_nobodys_way(
    engine: ServingEngine, world: World, tmp_path: Path
) -> None:
    publish(engine, 1, tmp_path)
    engine.set_versions("scale-1", SIGNATURE, [1])
    world.litter("scale-1")
    publish(engine, 2, tmp_path)
    engine.set_versions("scale-1", SIGNATURE, [1, 2])
    assert engine.ready_versions("scale-1") == engine.installed_versions("scale-1") == {1, 2}
    assert (factor(engine, 1), factor(engine, 2)) == (1, 2)


def test_what_is_counted(engine: ServingEngine, world: World, tmp_path: Path) -> None:
    publish(engine, 1, tmp_path)
    engine.set_versions("scale-1", SIGNATURE, [1])
    before = engine.counts("scale-1")[1].requests
    for _ in range(3):
        factor(engine, 1)
    # Each server is asked, and counts after it has answered.
    asked = 3 * world.servers
    deadline = time.monotonic() + 60
    while (counted := engine.counts("scale-1")[1]).requests < before + asked:
        assert time.monotonic() < deadline, counted
        time.sleep(0.02)
    assert (counted.requests - before, counted.rows) == (asked, asked * len(ROWS))
    assert counted.batch_sizes == {len(ROWS): asked}
    assert counted.runs == asked
    assert min(counted.queue_ns, counted.compute_ns) > 0
    with pytest.raises(NotFound):
        engine.counts("scale-2")


def test_a_version_without_files(engine: ServingEngine, tmp_path: Path) -> None:
    publish(engine, 1, tmp_path)
    with pytest.raises(NotFound):
        engine.set_versions("scale-1", SIGNATURE, [1, 2])
    engine.set_versions("scale-1", SIGNATURE, [1])
    assert factor(engine, 1) == 1


@pytest.mark.parametrize(
    ("dtype", "onnx_type", "shape"),
    [
        ("bool", TensorProto.BOOL, []),
        ("uint8", TensorProto.UINT8, []),
        ("int8", TensorProto.INT8, []),
        ("int16", TensorProto.INT16, []),
        ("int32", TensorProto.INT32, []),
        ("int64", TensorProto.INT64, []),
        ("float16", TensorProto.FLOAT16, []),
        ("float32", TensorProto.FLOAT, []),
        ("float64", TensorProto.DOUBLE, []),
        ("bool", TensorProto.BOOL, [2, None]),
        ("float16", TensorProto.FLOAT16, [2, None]),
        ("int64", TensorProto.INT64, [2, None]),
        ("string", TensorProto.STRING, []),
        ("string", TensorProto.STRING, [2, None]),
    ],
)
def test_every_type_arrives_whole(
    engine: ServingEngine,
    tmp_path: Path,
    dtype: DType,
    onnx_type: int,
    shape: list[int | None],
) -> None:
    signature = Signature(
        inputs=[TensorSpec(name="x", dtype=dtype, shape=shape)],
        outputs=[TensorSpec(name="y", dtype=dtype, shape=shape)],
    )
    dims: list[int | str] = [2, "free"] if shape else []
    onnx = onnx_models.identity(tmp_path / "m.onnx", onnx_type, dims)
    engine.install(engine.stage("identity", 1, signature, onnx))
    engine.set_versions("identity", signature, [1])
    for batch in (1, 3, MAX_BATCH):
        size = (batch, 2, 5) if shape else (batch,)
        values = np.random.default_rng(batch).integers(0, 100, size)
        sent: Any = (values % 2 if dtype == "bool" else values).astype(
            "str" if dtype == "string" else dtype
        )
        if dtype == "string":
            sent = np.char.encode(sent, "ascii").astype(object)
        got = engine.infer("identity", 1, {"x": sent})["y"]
        assert got.dtype == sent.dtype
        np.testing.assert_array_equal(got, sent)


def said(engine: TritonLocal, version: int, *texts: str | bytes) -> list[str]:
    """The labels of texts."""
    given = np.array([one if isinstance(one, bytes) else one.encode() for one in texts], object)
    answer: Any = engine.infer("text-1", version, {"text": given.reshape(-1, 1)})
    assert answer["scores"].shape == (len(texts), 2)
    assert answer["label"].shape == (len(texts), 1)
    return [label.decode() for label in answer["label"][:, 0]]


def test_texts_go_in_and_labels_come_out(engine: TritonLocal, tmp_path: Path) -> None:
    """Of two versions each has its own names, and a version that does not load changes nothing."""
    signature = onnx_models.TEXT_SIGNATURE
    onnx = onnx_models.text(tmp_path / "1.onnx")
    others = signature.model_copy(update={"labels": ["schlecht", "gut"]})
    engine.install(engine.stage("text-1", 1, signature, onnx))
    engine.set_versions("text-1", signature, [1])
    texts = ["good, good bad", "bad", "", "gööd " * 9 + "good"]
    assert said(engine, 1, *texts) == ["good", "bad", "bad", "bad"]
    assert [said(engine, 1, text) for text in texts] == [["good"], ["bad"], ["bad"], ["bad"]]
    with pytest.raises(InvalidInput, match="labels in the model are others"):
        engine.stage("text-1", 2, others, onnx)
    began = time.monotonic()
    second = onnx_models.text(tmp_path / "2.onnx", ["schlecht", "gut"])
    engine.install(engine.stage("text-1", 2, others, second))
    engine.set_versions("text-1", others, [1, 2])
    assert said(engine, 2, "good") == ["gut"]
    print(f"a version of texts served after {time.monotonic() - began:.2f} s")
    assert said(engine, 1, "good") == ["good"]
    with pytest.raises(AiaasError, match="UTF-8"):
        said(engine, 1, b"\xff\xfe")
    broken = tmp_path / "3.onnx"
    broken.write_bytes(onnx.read_bytes().replace(b"WordLevel", b"WordLovel"))
    with pytest.raises(InvalidInput, match="the tokenizer does not load"):
        engine.stage("text-1", 3, signature, broken)
    assert said(engine, 2, "bad") == ["schlecht"]


def test_texts_that_come_together_get_their_own_answers(
    engine: TritonLocal, tmp_path: Path
) -> None:
    """They share one run, padded to the longest; one that is no text is refused alone."""
    signature = onnx_models.TEXT_SIGNATURE
    engine.install(engine.stage("text-1", 1, signature, onnx_models.text(tmp_path / "1.onnx")))
    engine.set_versions("text-1", signature, [1])
    wrong: list[object] = []

    def call(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(40):
            words = random.choice(["good", "bad", "so"], (2, int(random.integers(1, 8))))
            wanted = ["good" if (r == "good").sum() > (r == "bad").sum() else "bad" for r in words]
            try:
                if seed == 0:
                    with pytest.raises(AiaasError, match="UTF-8"):
                        said(engine, 1, b"\xff")
                found = said(engine, 1, *(" ".join(row) for row in words))
            except AiaasError as error:
                wrong.append(error)
                continue
            if found != wanted:
                wrong.append((words, found))

    threads = [Thread(target=call, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def seen(engine: ServingEngine, version: int, *files: bytes) -> list[str]:
    """The labels of images."""
    given = np.empty((len(files), 1), object)
    given[:, 0] = files
    answer: Any = engine.infer("image-1", version, {"image": given})
    assert answer["scores"].shape == (len(files), 3)
    return [label.decode() for label in answer["label"][:, 0]]


def test_images_go_in_and_labels_come_out(engine: ServingEngine, tmp_path: Path) -> None:
    """In three formats and any size, through one version's numbers or another's."""
    signature = onnx_models.IMAGE_SIGNATURE
    engine.install(
        engine.stage("image-1", 1, signature, onnx_models.image(tmp_path / "1.onnx"), IMAGE_OPTIONS)
    )
    engine.set_versions("image-1", signature, [1], IMAGE_OPTIONS)
    files = [plain(RED, "PNG"), plain(GREEN, "JPEG", (200, 7)), plain(BLUE, "WEBP", (900, 700))]
    assert seen(engine, 1, *files) == ["red", "green", "blue"]
    assert seen(engine, 1, base64.b64encode(files[1])) == ["green"]
    # What an endpoint answers is what its step makes, bit for bit, whichever Pillow it runs on.
    image = noise(333, 250)
    answer: Any = engine.infer("image-1", 1, {"image": np.array([[file(image)]], object)})
    made = pixels(opened(file(image)), Processing(size=(8, 8), background="white"))
    np.testing.assert_allclose(answer["scores"][0], made.mean((1, 2)), atol=1e-6)
    dark = {"size": 9, "crop": [8, 8], "mean": [1, 1, 1], "std": [-1, -1, -1]}
    second = onnx_models.image(tmp_path / "2.onnx", pixels=dark)
    engine.install(engine.stage("image-1", 2, signature, second, IMAGE_OPTIONS))
    engine.set_versions("image-1", signature, [1, 2], IMAGE_OPTIONS)
    assert seen(engine, 2, plain((0, 255, 255))) == ["red"]
    assert seen(engine, 1, *files) == ["red", "green", "blue"]
    broken = onnx_models.image(tmp_path / "3.onnx", pixels={"size": [8, 9]})
    with pytest.raises(InvalidInput, match="an image becomes float32"):
        engine.stage("image-1", 3, signature, broken)
    text = onnx_models.TEXT_SIGNATURE.model_copy(
        update={"inputs": [TensorSpec(name="image", dtype="string", shape=[1], kind="text")]}
    )
    mixed = Signature(inputs=text.inputs, outputs=signature.outputs, labels=signature.labels)
    with pytest.raises(InvalidInput, match="takes image, its signature says text"):
        engine.stage("image-1", 3, mixed, second)


def test_an_image_that_is_none_is_refused_alone(engine: ServingEngine, tmp_path: Path) -> None:
    """Those that come with it share runs of the model, and get their own answers."""
    signature = onnx_models.IMAGE_SIGNATURE
    onnx = onnx_models.image(tmp_path / "1.onnx")
    engine.install(engine.stage("image-1", 1, signature, onnx, IMAGE_OPTIONS))
    engine.set_versions("image-1", signature, [1], IMAGE_OPTIONS)
    colours = {"red": RED, "green": GREEN, "blue": BLUE}
    wrong: list[object] = []

    def call(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(20):
            wanted = [str(one) for one in random.choice(list(colours), int(random.integers(1, 4)))]
            if seed == 0:
                for bad, says in (
                    (b"rubbish", "neither PNG, JPEG or WEBP"),
                    (bomb(20_000), "more than 50,000,000 pixels"),
                    (plain(RED)[:-30], "damaged"),
                ):
                    try:
                        seen(engine, 1, plain(RED), bad)
                    except InvalidInput as error:
                        if says not in error.message or "image 2 of 2" not in error.message:
                            wrong.append(error)
                    else:
                        wrong.append(bad)
            kind = FORMATS[int(random.integers(3))]
            try:
                found = seen(engine, 1, *(plain(colours[name], kind) for name in wanted))
            except AiaasError as error:
                wrong.append(error)
                continue
            if found != wanted:
                wrong.append((wanted, found))

    threads = [Thread(target=call, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_requests_that_come_together_get_their_own_answers(
    engine: ServingEngine, tmp_path: Path
) -> None:
    """Triton joins them into one run of the model: rows must not get mixed up."""
    publish(engine, 2, tmp_path)
    engine.set_versions("scale-1", SIGNATURE, [2])
    wrong: list[object] = []

    def call(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(40):
            rows = random.random((int(random.integers(1, 9)), 3), dtype=np.float32)
            try:
                answer = engine.infer("scale-1", 2, {"x": rows})["y"]
            except AiaasError as error:
                wrong.append(error)
                continue
            if answer.shape != rows.shape or not np.allclose(answer, 2 * rows):
                wrong.append((rows, answer))

    threads = [Thread(target=call, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_bad_input_is_told_without_paths(
    engine: ServingEngine, world: World, tmp_path: Path
) -> None:
    publish(engine, 1, tmp_path)
    engine.set_versions("scale-1", SIGNATURE, [1])
    for inputs in (
        {"x": np.ones((1, 4), np.float32)},
        {"z": ROWS},
        {"x": ROWS.astype(np.float64)},
        {"x": np.ones((1025, 3), np.float32)},
    ):
        with pytest.raises(InvalidInput) as caught:
            engine.infer("scale-1", 1, inputs)
        assert not any(place in str(caught.value) for place in world.places())
    with pytest.raises(NotFound):
        engine.infer("scale-1", 7, {"x": ROWS})
    with pytest.raises(NotFound):
        engine.infer("nobody", 1, {"x": ROWS})


def test_killed_and_started_again(engine: ServingEngine, world: World, tmp_path: Path) -> None:
    publish(engine, 1, tmp_path)
    engine.set_versions("scale-1", SIGNATURE, [1])
    world.kill()
    while engine.health().state is EngineState.READY:
        time.sleep(0.01)
    for call in (
        lambda: engine.infer("scale-1", 1, {"x": ROWS}),
        lambda: engine.ready_versions("scale-1"),
        lambda: engine.set_versions("scale-1", SIGNATURE, [1]),
    ):
        with pytest.raises(Unavailable):
            call()
    world.revive()
    wait_ready(engine)
    assert engine.ready_versions("scale-1") == (set() if world.forgets else {1})
    engine.set_versions("scale-1", SIGNATURE, [1])
    assert factor(engine, 1) == 1


def test_a_second_service_adopts(engine: ServingEngine, world: World, tmp_path: Path) -> None:
    publish(engine, 1, tmp_path)
    engine.set_versions("scale-1", SIGNATURE, [1])
    before = world.running()
    other: ServingEngine = world.another()
    other.start()
    wait_ready(other)
    assert world.running() == before
    assert other.ready_versions("scale-1") == {1}
    assert other.installed_versions("scale-1") == {1}
    assert factor(other, 1) == 1


def test_an_instance_that_died_is_healed(
    engine: ServingEngine, world: World, tmp_path: Path
) -> None:
    publish(engine, 1, tmp_path)
    engine.set_versions("scale-1", SIGNATURE, [1])
    world.kill_instances()
    with pytest.raises(DoesNotAnswer):
        engine.infer("scale-1", 1, {"x": ROWS})
    assert engine.ready_versions("scale-1") == {1}
    engine.heal("scale-1")
    assert factor(engine, 1) == 1


@pytest.mark.parametrize("world", [Local], indirect=True)
def test_it_listens_on_no_port_and_its_sockets_are_private(
    engine: TritonLocal, world: Local
) -> None:
    """What guards one on pods: tests/kubernetes/test_serving.py."""
    process = world.supervisor.process("triton")
    assert process is not None
    assert psutil.Process(process.pid).net_connections(kind="inet") == []
    assert engine.http_socket.parent.stat().st_mode & 0o777 == 0o700
    assert engine.http_socket.is_socket()
    secrets = [path.read_text().strip() for path in world.home.secrets.iterdir()]
    command_line = " ".join(psutil.Process(process.pid).cmdline())
    assert not any(secret in command_line for secret in secrets)
