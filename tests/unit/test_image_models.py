"""Models of images as one file, and the step that serves them, without a server."""

from __future__ import annotations

import base64
import io
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import image_files
import numpy as np
import onnx
import onnx_models
import onnxruntime
import pytest
import torch
from contexts import local_run
from image_files import BLUE, FORMATS, GREEN, RED, file, noise, plain, turned
from PIL import Image
from pydantic import ValidationError
from safetensors.numpy import load_file

import aiaas_magics as aiaas
from aiaas_hub.adapters import triton_local
from aiaas_hub.domain import parity
from aiaas_hub.schemas import pixels as shared
from aiaas_hub.schemas.errors import InvalidInput, NotFound, TooLarge
from aiaas_hub.schemas.models import Signature, TensorSpec
from aiaas_hub.schemas.pixels import Processing, opened, pixels
from aiaas_magics.image_files import contents, pixel_count
from aiaas_magics.runtime import image_processing
from aiaas_magics.runtime.exported import ExportedModel
from aiaas_magics.runtime.sources import export

BACKEND = Path(triton_local.__file__).parent / "onnxruntime_backend"
DICT = {"size": [8, 8], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}


@pytest.fixture
def step_module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """As the backend imports it, beside the file that is shared."""
    monkeypatch.syspath_prepend(str(BACKEND))
    monkeypatch.setitem(sys.modules, "pixels", shared)
    import image_step

    yield image_step
    for name in ("image_step", "label_step", "steps"):
        del sys.modules[name]


def served(module: Any, onnx_path: Path) -> tuple[Any, Any]:
    session = onnxruntime.InferenceSession(onnx_path)
    return module.ImageStep(session.get_modelmeta().custom_metadata_map, session), session


def column(*files: bytes) -> Any:
    array = np.empty((len(files), 1), np.object_)
    array[:, 0] = files
    return array


def ask(module: Any, onnx_path: Path, *files: bytes) -> dict[str, Any]:
    step, session = served(module, onnx_path)
    made = step.before(step.read(column(*files)))
    names = [output.name for output in session.get_outputs()]
    return dict(step.label.after(dict(zip(names, session.run(names, made), strict=True))))


@pytest.fixture
def step(step_module: Any, tmp_path: Path) -> Any:
    return served(step_module, onnx_models.image(tmp_path / "m.onnx"))[0]


# What becomes of an image


def processors() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers as t

        def on_pillow(name: str, **how: Any) -> Any:
            return getattr(t, f"{name}ImageProcessorPil")(**how)

        small: dict[str, Any] = {"shortest_edge": 40}
        return [
            on_pillow("ViT"),
            on_pillow("ViT", size={"height": 33, "width": 65}, resample=3),
            on_pillow("ViT", do_rescale=False),
            on_pillow("ViT", do_normalize=False, resample=0),
            on_pillow("ViT", do_normalize=False, do_rescale=False, resample=1),
            on_pillow("CLIP"),
            on_pillow("CLIP", size=small, crop_size={"height": 51, "width": 31}),
            on_pillow("DeiT"),
            on_pillow("Bit", image_mean=0.5, image_std=[0.1, 0.2, 0.3]),
            on_pillow("Siglip"),
            on_pillow("ConvNext", size=small),
            on_pillow("ConvNext", size={"shortest_edge": 384}),
        ]


@pytest.mark.parametrize("processor", processors(), ids=lambda p: type(p).__name__)
def test_it_is_what_transformers_does_to_the_bit(processor: Any, step_module: Any) -> None:
    """Also of an image that is smaller than what is cut out of it, and of one that is narrow."""
    processing = image_processing.declared(processor)
    for width, height in [(500, 333), (333, 500), (20, 30), (224, 224), (257, 1031), (1, 3)]:
        for mode in ("RGB", "RGBA", "L"):
            if mode == "RGBA" and processing.background is None:
                continue
            image = noise(width, height, mode)
            given = image.convert("RGB") if mode == "L" else image
            wanted = processor(images=[given], return_tensors="np")["pixel_values"][0]
            found = pixels(opened(file(image)), processing)
            assert (found.shape, str(found.dtype)) == (processing.shape, processing.dtype)
            assert found.dtype == wanted.dtype
            np.testing.assert_array_equal(found, wanted)


def test_a_declaration_is_read_again() -> None:
    given = Processing(mode="L", size=40, crop=(30, 20), mean=(0.5,), std=(0.2,), resample="box")
    assert Processing.declared(json.loads(json.dumps(given.declaration()))) == given
    assert given.shape == (1, 30, 20)
    last = Processing(size=(30, 20), data_format="channels_last")
    assert last.shape == (30, 20, 3)
    image = noise(30, 20)
    np.testing.assert_array_equal(
        pixels(opened(file(image)), last).transpose(2, 0, 1),
        pixels(opened(file(image)), Processing(size=(30, 20))),
    )
    # Without a word about its numbers, they are 0 to 1.
    white = pixels(opened(plain("white")), Processing(size=(2, 2)))
    assert (white == np.float32(1)).all()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "needs a size or a crop"),
        ({"size": 40}, "needs a size or a crop"),
        ({"size": [40, 40], "crop": 30}, "needs a size or a crop"),
        ({"size": [0, 4]}, "1 to 4096"),
        ({"size": [1, 5000]}, "1 to 4096"),
        ({"size": [1, 2, 3]}, "neither"),
        ({"size": [1.5, 2]}, "neither"),
        ({"size": [8, 8], "mode": "CMYK"}, "none of L, RGB"),
        ({"size": [8, 8], "resample": "magic"}, "none of nearest"),
        ({"size": [8, 8], "background": "red"}, "none of white"),
        ({"size": [8, 8], "mean": [0.5]}, "come together"),
        ({"size": [8, 8], "mean": [0.5], "std": [0.5]}, "1 numbers for 3 channels"),
        ({"size": [8, 8], "mean": 0.5, "std": [1, 1, 0]}, "std is 0"),
        ({"size": [8, 8], "mean": ["a"] * 3, "std": 1}, "no number"),
        ({"size": [8, 8], "scale": float("inf")}, "scale has inf"),
        ({"size": [8, 8], "code": "import os"}, "'code' is not known"),
    ],
)
def test_a_processing_that_cannot_be_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Processing.declared(fields)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_its_camera_was(kind: str, orientation: int, step: Any) -> None:
    image = Image.new("RGB", (32, 16), BLUE)
    image.paste(RED, (0, 0, 16, 8))
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}.get(orientation)
    wanted = image if back is None else image.transpose(Image.Transpose(back))
    given = file(image, kind) if orientation == 1 else turned(image, orientation, kind)
    found = step.read(column(given))[0]
    np.testing.assert_allclose(found, step.read(column(file(wanted)))[0], atol=0.1)


def test_what_shows_through_is_paper(step: Any) -> None:
    clear = Image.new("RGBA", (10, 10), (255, 0, 0, 0))
    assert (step.read(column(file(clear))) == 1).all()
    by_palette = clear.convert("P")
    by_palette.info["transparency"] = by_palette.getpixel((0, 0))
    assert (step.read(column(file(by_palette))) == 1).all()


# What is refused


def test_an_image_comes_in_three_formats_and_in_base64(step: Any) -> None:
    for kind in FORMATS:
        for colour, place in ((RED, 0), (GREEN, 1), (BLUE, 2)):
            content = plain(colour, kind)
            (made,) = step.read(column(content))
            assert made.shape == (3, 8, 8)
            assert made.mean((1, 2)).argmax() == place
            (coded,) = step.read(column(base64.b64encode(content)))
            np.testing.assert_array_equal(coded, made)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not readable as PNG, JPEG or WEBP"),
        (b"rubbish", "nor one of them in base64"),
        (base64.b64encode(b"rubbish"), "not readable"),
        (file(Image.new("RGB", (9, 9)), "GIF"), "nor one of them in base64"),
        (base64.b64encode(file(Image.new("RGB", (9, 9)), "TIFF")), "not readable"),
        (base64.b64encode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "not readable"),
        (file(noise(50, 50))[:-2000], "damaged"),
        (file(noise(50, 50), "JPEG")[:900], "damaged"),
        (file(noise(50, 50), "WEBP")[:-900], "damaged|not readable"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "not readable"),
        (image_files.bomb(7072), "more than 50,000,000 pixels"),
        (image_files.bomb(60_000), "more than 50,000,000 pixels"),
        (plain(RED) + b"\0" * (16 << 20), "more than 16 MiB"),
        (plain(RED, "JPEG").replace(b"\xff\xda", b"\xff\xda" * 51), "more than 50 scans"),
        (file(Image.fromarray(np.zeros((9, 9), np.uint16))), "more than eight bits"),
    ],
)
def test_what_is_no_image_is_refused(content: bytes, says: str, step: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=f"^image: .*(?:{says})"):
            step.read(column(content))
    with pytest.raises(ValueError, match=r"^image 2 of 2: "):
        step.read(column(plain(RED), content))


def test_a_narrow_image_does_not_become_a_wide_one() -> None:
    with pytest.raises(ValueError, match="too narrow: 1 by 1000"):
        pixels(opened(file(noise(1, 1000))), Processing(size=256, crop=(224, 224)))


def test_the_work_of_a_request_is_bounded(step: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first of its images is decoded."""
    monkeypatch.setattr(sys.modules["image_step"], "MAX_REQUEST_PIXELS", 1000)
    decoded: list[object] = []
    monkeypatch.setattr(sys.modules["image_step"], "pixels", lambda *given: decoded.append(given))
    with pytest.raises(ValueError, match="1,200 pixels together"):
        step.read(column(plain(RED), plain(RED)))
    assert decoded == []


def test_no_reader_but_the_three_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Pillow's readers one starts a program for PostScript."""
    monkeypatch.setattr(Image, "OPEN", {})
    monkeypatch.setattr(Image, "open", None)
    for kind in FORMATS:
        assert opened(plain(RED, kind)).size == (30, 20)


@pytest.mark.parametrize("kind", FORMATS)
def test_no_entry_of_an_exif_is_read_before_its_size_is_known(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    real = Image.Exif.load
    monkeypatch.setattr(Image.Exif, "load", lambda *given: read.append(given) or real(*given))
    exif = Image.Exif()
    exif[0x0112], exif[0x9286] = 6, b"x" * 40_000
    processing = Processing(size=(8, 8))
    small = file(noise(30, 20), kind, exif=exif)
    image = opened(small)
    assert read == []
    pixels(image, processing)
    assert len(read) == 1
    if kind == "JPEG":
        # In two segments, as one has no more than 64 KiB.
        segment = small[small.index(b"\xff\xe1") :]
        segment = segment[: int.from_bytes(segment[2:4]) + 2]
        large = small.replace(segment, segment * 2)
    else:
        exif[0x9286] = b"x" * 70_000
        large = file(noise(30, 20), kind, exif=exif)
    with pytest.raises(ValueError, match="EXIF has more than 64 KiB"):
        pixels(opened(large), processing)
    assert len(read) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"pixels": {"size": [9, 8]}}, r"an image becomes float32 \[3, 9, 8\]"),
        ({"pixels": {"size": [8, 8], "scale": None}}, "becomes uint8"),
        ({"pixels": {"size": [8, 8], "mode": "L"}}, r"\[1, 8, 8\]"),
        ({"pixels": {"size": [8, 8], "module": "os"}}, "'module' is not known"),
        ({"label": {"output": "label", "names": ["one"]}}, "1 labels"),
    ],
)
def test_a_step_that_cannot_be_is_refused_before_it_serves(
    tmp_path: Path, step_module: Any, change: dict[str, Any], says: str
) -> None:
    proto = onnx.load(onnx_models.image(tmp_path / "m.onnx"))
    (entry,) = proto.metadata_props
    entry.value = json.dumps({**json.loads(entry.value), **change})
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(ValueError, match=says):
        served(step_module, tmp_path / "m.onnx")


# Models


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    from transformers import ViTImageProcessorPil

    processor = ViTImageProcessorPil(size={"height": 32, "width": 32})
    images = [noise(50, 40, seed=seed) for seed in range(4)]
    directory = tmp_path_factory.mktemp("exported")
    return export(image_files.tiny_vit(), images, processor=processor, directory=directory)


def test_an_image_goes_in_and_a_label_comes_out(exported: ExportedModel, step_module: Any) -> None:
    from transformers import ViTImageProcessorPil

    assert exported.signature == Signature(
        inputs=[TensorSpec(name="image", dtype="string", shape=[1], kind="image")],
        outputs=[
            TensorSpec(name="logits", dtype="float32", shape=[3]),
            TensorSpec(name="label", dtype="string", shape=[1], kind="label"),
        ],
        labels=["cat", "dog", "fish"],
    )
    processor = ViTImageProcessorPil(size={"height": 32, "width": 32})
    images = [noise(90, 70, seed=9), noise(20, 33, seed=8), Image.new("RGB", (40, 40), RED)]
    with torch.no_grad():
        given = processor(images=images, return_tensors="pt")
        wanted = image_files.tiny_vit()(**given).logits.numpy()
    found = ask(step_module, exported.onnx_path, *map(file, images))
    np.testing.assert_allclose(found["logits"], wanted, atol=1e-5)
    names = [[["cat", "dog", "fish"][place].encode()] for place in wanted.argmax(1)]
    assert found["label"].tolist() == names
    parity.check_labels(exported.signature, found)


def test_held_out_images_are_what_publishing_compares(exported: ExportedModel) -> None:
    inputs, outputs = parity.split_evaluation(
        load_file(exported.evaluation_path), exported.signature
    )
    assert inputs["image"][:, 0].tolist() == [file(noise(50, 40, seed=seed)) for seed in range(4)]
    assert list(outputs) == ["logits"]
    assert outputs["logits"].shape == (4, 3)


def test_a_pipeline_brings_its_processor(tmp_path: Path, step_module: Any) -> None:
    """What shows through has the colour that its file says: so a pipeline sees it."""
    from transformers import CLIPImageProcessorPil, ImageClassificationPipeline

    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}
    )
    pipeline = ImageClassificationPipeline(
        model=image_files.tiny_vit(), image_processor=processor, device="cpu"
    )
    images = [file(noise(50, 40, "RGBA")), file(noise(30, 90))]
    exported = export(pipeline, images, directory=tmp_path)
    assert exported.signature.labels == ["cat", "dog", "fish"]
    paths = []
    for number, content in enumerate(images):
        paths.append(tmp_path / f"{number}.png")
        paths[-1].write_bytes(content)
    found = ask(step_module, exported.onnx_path, *images)
    chances = np.exp(found["logits"]) / np.exp(found["logits"]).sum(1, keepdims=True)
    for path, row, label in zip(paths, chances, found["label"][:, 0], strict=True):
        wanted = pipeline(str(path))
        assert label.decode() == wanted[0]["label"]
        scores = {one["label"]: one["score"] for one in wanted}
        np.testing.assert_allclose(
            row, [scores[name] for name in ["cat", "dog", "fish"]], atol=1e-5
        )


def test_any_model_takes_images_with_a_dict(tmp_path: Path, step_module: Any) -> None:
    colours = ["red", "green", "blue"]
    exported = export(
        image_files.colours(), [plain(RED)], labels=colours, processor=DICT, directory=tmp_path
    )
    assert exported.signature.takes_image
    found = ask(step_module, exported.onnx_path, *map(plain, (RED, GREEN, BLUE)))
    assert [label.decode() for label in found["label"][:, 0]] == colours
    # An ONNX file is one as well.
    again = export(
        onnx_models.image(tmp_path / "given.onnx"),
        [plain(RED)],
        processor={"size": [8, 8]},
        directory=tmp_path,
    )
    assert [spec.name for spec in again.signature.outputs] == ["scores"]


def test_a_run_hands_a_model_of_images_over(tmp_path: Path, step_module: Any) -> None:
    with local_run(tmp_path) as run:
        with run.attempt() as ctx:
            ctx.save_model(
                image_files.colours(), [plain(RED)], labels=["r", "g", "b"], processor=DICT
            )
        handed_over = run.recorded.model
        assert handed_over is not None
        signature = Signature.model_validate(handed_over["signature"])
        assert signature.takes_image
        assert signature.labels == ["r", "g", "b"]
        metadata = run.model().get_modelmeta().custom_metadata_map
        assert step_module.ImageStep(metadata, run.model()).label.names == signature.labels


def test_an_encoder_gives_its_vector(tmp_path: Path, step_module: Any) -> None:
    from transformers import ViTImageProcessorPil

    encoder = image_files.tiny_vit().vit
    encoder.pooler = None
    processor = ViTImageProcessorPil(size={"height": 32, "width": 32})

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, pixel_values: torch.Tensor) -> Any:
            found = self.encoder(pixel_values)
            found.pooler_output = found.last_hidden_state[:, 0]
            return found

    exported = export(Pooled(), [plain(RED)], processor=processor, directory=tmp_path)
    assert [(spec.name, spec.shape) for spec in exported.signature.outputs] == [
        ("image_embedding", [16])
    ]


def test_what_cannot_take_images_says_what_can(tmp_path: Path) -> None:
    import transformers as t

    def refused(says: str, processor: Any, images: Any = None, **more: Any) -> None:
        model = image_files.colours()
        given = [plain(RED)] if images is None else images
        with pytest.raises(InvalidInput, match=says):
            export(model, given, processor=processor, directory=tmp_path, **more)

    refused("not one that an endpoint can be", object())
    refused("'sizes' is not known", {"sizes": [8, 8]})
    refused("needs a size or a crop", t.ViTImageProcessorPil(size={"shortest_edge": 9}))
    refused("its size has longest_edge", t.ViTImageProcessorPil(size={"longest_edge": 9}))
    # It turns the order of the colours.
    refused("does more than an endpoint can", t.MobileViTImageProcessorPil())
    refused("images and texts at once", DICT, tokenizer=object())
    refused("There is no image", DICT, [])
    refused("An image cannot be taken: the file is not readable", DICT, [b"\x89PNG rubbish"])
    refused("A float is no image", DICT, [0.5])


@pytest.mark.parametrize(("levels", "is_taken"), [(20, True), (40, False)])
def test_a_processor_on_torchvision_may_round_otherwise(levels: int, is_taken: bool) -> None:
    """It is served as the same on Pillow, and compared as that."""
    from transformers import ViTImageProcessorPil

    class OnTorchvision(ViTImageProcessorPil):
        @property
        def backend(self) -> str:
            return "torchvision"

        def __call__(self, **given: Any) -> Any:
            found = super().__call__(**given)
            found["pixel_values"][0][0, 0, 0] += levels / 255 / 0.5
            return found

    processor, files = OnTorchvision(), [plain(RED)]
    processing = image_processing.declared(processor)
    if not is_taken:
        with pytest.raises(InvalidInput, match=r"backend='pil'"):
            image_processing.numbers(processor, processing, files)
        return
    (made,) = image_processing.numbers(processor, processing, files)
    np.testing.assert_array_equal(made, pixels(opened(files[0]), processing))


def test_files_of_images() -> None:
    image = noise(9, 7)
    content = file(image)
    assert contents(content) == contents([content]) == [content]
    assert contents(image) == contents([image]) == contents(np.asarray(image)) == [content]
    assert contents(np.stack([np.asarray(image)] * 2)) == [content] * 2
    camera = Image.open(io.BytesIO(turned(image, 6)))
    assert Image.open(io.BytesIO(contents(camera)[0])).size == (7, 9)
    assert pixel_count(content) == 63
    assert pixel_count(b"rubbish") == 0
    with pytest.raises(NotFound, match=r"no image at 'nowhere.png'"):
        contents("nowhere.png")
    with pytest.raises(InvalidInput, match="A NoneType is no image"):
        contents([None])
    with pytest.raises(TooLarge, match="16 MiB"):
        contents(b"\0" * ((16 << 20) + 1))


def test_files_are_read_from_their_paths(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(plain(RED))
    assert contents(path) == contents(str(path)) == contents([str(path)]) == [plain(RED)]


def test_a_signature_says_what_an_endpoint_of_images_is() -> None:
    image = {"name": "image", "dtype": "string", "shape": [1], "kind": "image"}
    label = {"name": "label", "dtype": "string", "shape": [1], "kind": "label"}
    scores = {"name": "scores", "dtype": "float32", "shape": [2]}
    whole = Signature.model_validate(
        {"inputs": [image], "outputs": [scores, label], "labels": ["a", "b"]}
    )
    assert whole.takes_image
    assert whole.has_step
    assert not whole.takes_text
    wrong: list[dict[str, Any]] = [
        {"inputs": [image | {"dtype": "uint8"}], "outputs": [scores]},
        {"inputs": [image, scores], "outputs": [scores]},
        {"inputs": [scores], "outputs": [image]},
    ]
    for each in wrong:
        with pytest.raises(ValidationError):
            Signature.model_validate(each)


def test_a_model_is_trained_on_what_its_endpoint_will_give_it() -> None:
    given = [file(noise(30, 20), "PNG"), file(noise(9, 40), "JPEG")]
    made = aiaas.pixels(given, DICT)
    assert (made.shape, made.dtype) == ((2, 3, 8, 8), np.float32)
    processing = Processing.declared({"background": "white", **DICT})
    assert (made == [pixels(opened(one), processing) for one in given]).all()
    with pytest.raises(InvalidInput, match="it needs a size or a crop"):
        aiaas.pixels(given, {})
    with pytest.raises(InvalidInput, match="cannot be taken"):
        aiaas.pixels([b"no image"], DICT)
