from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from aiaas_hub.local.shipped import shipped
from aiaas_hub.schemas.errors import Forbidden, InvalidInput
from aiaas_hub.spawner.profiles import (
    Capacity,
    Profiles,
    choose,
    kubespawner_profile_list,
    load_profiles,
    offers,
    options_form,
    thread_environment,
)

SMALL = {
    "slug": "small",
    "name": "Small",
    "description": "For a start.",
    "cpus": 1,
    "memory": "2G",
    "default": True,
}
LARGE = {
    "slug": "large",
    "name": "Large",
    "description": "For more.",
    "cpus": 4,
    "memory": "8G",
}
GPU = {**LARGE, "slug": "gpu", "name": "GPU", "gpus": 1}


def profiles(*entries: dict[str, object]) -> Profiles:
    return Profiles.model_validate({"profiles": list(entries)})


def test_the_shipped_file_has_small_large_and_gpu() -> None:
    shipped_profiles = load_profiles(shipped("hub_config") / "profiles.yaml")
    assert [profile.slug for profile in shipped_profiles.profiles] == ["small", "large", "gpu"]
    assert [profile.gpus for profile in shipped_profiles.profiles] == [0, 0, 1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("profiles: []", "profiles"),
        ("- a\n- b", "the file"),
        ("profiles: [", "is not YAML"),
        ("profiles:\n  - {slug: small}", "profiles.0.name"),
        ("profiles:\n  - {slug: ../x}", "profiles.0.slug"),
        ("profiles:\n  - {slug: small, cpu: 3}", "profiles.0.cpu: Extra inputs"),
    ],
)
def test_a_wrong_file_says_where(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "profiles.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput, match="profiles") as caught:
        load_profiles(path)
    assert says in caught.value.message
    assert str(path) in caught.value.message


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        load_profiles(tmp_path / "profiles.yaml")


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([SMALL, {**LARGE, "slug": "small"}], "slug used twice: small"),
        ([LARGE], "these do: none"),
        ([SMALL, {**LARGE, "default": True}], "these do: small, large"),
        ([{**SMALL, "memory": "2 GB"}], "memory"),
        ([{**SMALL, "memory": "2G\n"}], "memory"),
        ([{**SMALL, "slug": "small\n"}], "slug"),
        ([{**SMALL, "cpus": 0}], "cpus"),
        ([{**SMALL, "gpus": -1}], "gpus"),
    ],
)
def test_inconsistent_profiles_are_refused(entries: list[dict[str, object]], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        profiles(*entries)


def test_a_gpu_profile_needs_a_gpu() -> None:
    reasons = [offer.unavailable for offer in offers(profiles(SMALL, GPU), Capacity(gpus=0))]
    assert reasons == ["", "no NVIDIA GPU on this machine"]
    two = offers(profiles(SMALL, {**GPU, "gpus": 2}), Capacity(gpus=1))
    assert two[1].unavailable == "needs 2 NVIDIA GPUs, this machine has 1"
    assert not offers(profiles(SMALL, GPU), Capacity(gpus=1))[1].unavailable


def test_no_choice_means_the_default() -> None:
    offered = offers(profiles(LARGE, SMALL), Capacity(gpus=0))
    assert choose(offered, {}).slug == "small"
    assert choose(offered, {"profile": "large"}).slug == "large"


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"profile": "huge"}, Forbidden, "no profile 'huge'"),
        ({"profile": "gpu"}, Forbidden, "no NVIDIA GPU on this machine"),
        ({"profile": ["small", "gpu"]}, InvalidInput, "must be one name"),
        ({"profile": {"slug": "small"}}, InvalidInput, "must be one name"),
        ({"profile": ""}, Forbidden, "no profile ''"),
        ({"profile": "small", "cmd": ["sh"]}, InvalidInput, "cmd"),
        ({"image": "evil"}, InvalidInput, "image"),
    ],
)
def test_a_tampered_request_is_refused(
    options: dict[str, object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=re.escape(says)):
        choose(offers(profiles(SMALL, GPU), Capacity(gpus=0)), options)


def test_an_unavailable_default_is_refused_not_replaced() -> None:
    offered = offers(
        profiles({**GPU, "default": True}, {**SMALL, "default": False}), Capacity(gpus=0)
    )
    with pytest.raises(Forbidden, match="Choose one of: small"):
        choose(offered, {})


def test_threads_follow_the_profile_within_the_machine() -> None:
    small, gpu = profiles(SMALL, GPU).profiles
    assert thread_environment(small, cores=8)["OMP_NUM_THREADS"] == "1"
    assert thread_environment(gpu, cores=8)["OMP_NUM_THREADS"] == "4"
    assert thread_environment(gpu, cores=2)["OMP_NUM_THREADS"] == "2"
    assert thread_environment(small, cores=8)["CUDA_VISIBLE_DEVICES"] == ""
    assert thread_environment(gpu, cores=8)["CUDA_VISIBLE_DEVICES"] == "0"


class Inputs(HTMLParser):
    """What a browser would make of the form."""

    def __init__(self) -> None:
        super().__init__()
        self.radios: dict[str, dict[str, str | None]] = {}
        self.labels: list[str | None] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        found = dict(attrs)
        if tag == "input":
            self.radios[str(found["value"])] = found
        if tag == "label":
            self.labels.append(found["for"])


def test_the_form_marks_what_cannot_be_had_and_labels_everything() -> None:
    form = Inputs()
    form.feed(options_form(offers(profiles(SMALL, GPU), Capacity(gpus=0))))
    assert set(form.radios) == {"small", "gpu"}
    assert "checked" in form.radios["small"]
    assert "disabled" in form.radios["gpu"]
    assert "disabled" not in form.radios["small"]
    assert form.labels == [radio["id"] for radio in form.radios.values()]
    assert {"fieldset", "legend"} <= form.tags


def test_the_form_escapes_everything() -> None:
    nasty = {**SMALL, "name": "<script>'&\">", "description": "<img src=x onerror=alert(1)>"}
    html = options_form(offers(profiles(nasty), Capacity(gpus=0)))
    form = Inputs()
    form.feed(html)
    assert not form.tags & {"script", "img"}
    assert "&lt;script&gt;" in html


def test_kubespawner_profiles_whole() -> None:
    threads = dict.fromkeys(
        (
            "OMP_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "MKL_NUM_THREADS",
            "NUMEXPR_NUM_THREADS",
            "POLARS_MAX_THREADS",
        )
    )
    assert kubespawner_profile_list(profiles({**SMALL, "name": "<Small>"}, GPU)) == [
        {
            "slug": "small",
            "display_name": "&lt;Small&gt;",
            "description": "1 CPU · 2G memory. For a start.",
            "default": True,
            "kubespawner_override": {
                "cpu_limit": 1,
                "mem_limit": "2G",
                "mem_guarantee": "2G",
                "environment": dict.fromkeys(threads, "1") | {"CUDA_VISIBLE_DEVICES": ""},
            },
        },
        {
            "slug": "gpu",
            "display_name": "GPU",
            "description": "4 CPUs · 8G memory · 1 GPU. For more.",
            "default": False,
            "kubespawner_override": {
                "cpu_limit": 4,
                "mem_limit": "8G",
                "mem_guarantee": "8G",
                "environment": dict.fromkeys(threads, "4"),
                "extra_resource_limits": {"nvidia.com/gpu": "1"},
            },
        },
    ]
