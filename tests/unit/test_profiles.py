from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from aiaas_hub.local.shipped import shipped
from aiaas_hub.schemas.errors import Forbidden, InvalidInput
from aiaas_hub.schemas.usage import Allowance
from aiaas_hub.spawner.limits import thread_environment
from aiaas_hub.spawner.profiles import Capacity, Profiles, choose, load_profiles, offers
from aiaas_hub.spawner.spawn_page import form_options, options_form

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
    assert choose(offered, {}).profile.slug == "small"
    assert choose(offered, {"profile": "large"}).profile.slug == "large"


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
    assert thread_environment(1, cores=8)["OMP_NUM_THREADS"] == "1"
    assert thread_environment(4, cores=8)["OMP_NUM_THREADS"] == "4"
    assert thread_environment(4, cores=2)["OMP_NUM_THREADS"] == "2"


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


IMAGE = {
    "slug": "image",
    "name": "Image",
    "sets": "image",
    "pattern": r"\Aours/[a-z]+:[0-9.]+\Z",
    "choices": [
        {"slug": "torch", "name": "PyTorch", "value": "ours/torch:1", "default": True},
        {"slug": "jax", "name": "<JAX>", "value": "ours/jax:1"},
    ],
}
MODE = {
    "slug": "mode",
    "name": "Mode",
    "sets": "MODE",
    "choices": [{"slug": "fast", "name": "Fast", "value": "1", "default": True}],
}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"gpu_kind": "mig", "gpus": 1}, "go together"),
        ({"mig_slice": "1g.10gb"}, "go together"),
        ({"gpu_kind": "time-sliced"}, "needs `gpus`"),
        ({"max_lifetime": "8 hours"}, "90m, 8h or 7d"),
        ({"max_lifetime": 3600}, "90m, 8h or 7d"),
        ({"idle_limit": "0h"}, "90m, 8h or 7d"),
        ({"idle_limit": "4m"}, "at least 5m"),
        ({"price_per_hour": -1}, "price_per_hour"),
        ({"image": "a b"}, "image"),
        ({"image": "a\n"}, "image"),
        ({"options": [{**IMAGE, "pattern": "^ours/.*$"}]}, r"begins with \A"),
        ({"options": [{**IMAGE, "pattern": r"\A(\Z"}]}, "no regular expression"),
        ({"options": [{**IMAGE, "choices": IMAGE["choices"][1:]}]}, "exactly one choice"),  # type: ignore[index]
        ({"options": [IMAGE, IMAGE]}, "option used twice"),
        ({"options": [IMAGE, {**IMAGE, "slug": "other"}]}, "variable or image set used twice"),
        ({"options": [{**MODE, "sets": "LD_PRELOAD"}]}, "the platform's own"),
        ({"options": [{**MODE, "sets": "JUPYTERHUB_API_TOKEN"}]}, "the platform's own"),
        ({"options": [{**MODE, "slug": "profile"}]}, "may be called `profile`"),
        ({"volumes": [{"kind": "home", "path": "/a/../b"}]}, "path"),
        ({"volumes": [{"kind": "disk", "path": "/a"}]}, "kind"),
        ({"tolerations": [{"key": "a", "effect": "Now"}]}, "effect"),
    ],
)
def test_a_field_that_cannot_be_meant_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        profiles({**SMALL, **changes})


def test_who_may_have_what() -> None:
    mixed = profiles(SMALL, {**LARGE, "groups": ["staff"]})
    assert [o.profile.slug for o in offers(mixed, Capacity(0))] == ["small"]
    both = offers(mixed, Capacity(0), frozenset({"staff", "x"}))
    assert [o.profile.slug for o in both] == ["small", "large"]
    with pytest.raises(Forbidden, match="no profile 'large'"):
        choose(offers(mixed, Capacity(0)), {"profile": "large"})
    with pytest.raises(Forbidden, match="No profile is open to you"):
        offers(profiles({**SMALL, "groups": ["staff"]}), Capacity(0))


def test_what_is_free_now_is_said() -> None:
    [free] = offers(profiles({**SMALL, "gpus": 1}), Capacity(gpus=2, free_gpus=1))
    assert (free.unavailable, free.note) == ("", "1 of 2 GPUs free now")
    [taken] = offers(profiles({**SMALL, "gpus": 1}), Capacity(gpus=2, free_gpus=0))
    assert taken.unavailable == "none is free of 2 NVIDIA GPUs: others' servers use them"
    sliced = {**SMALL, "gpus": 1, "gpu_kind": "time-sliced"}
    assert not offers(profiles(sliced), Capacity(gpus=2, free_gpus=0))[0].unavailable
    mig = {**SMALL, "gpus": 1, "gpu_kind": "mig", "mig_slice": "1g.10gb"}
    assert "no slices" in offers(profiles(mig), Capacity(gpus=2, free_gpus=2))[0].unavailable


@pytest.mark.parametrize(
    ("sent", "value"),
    [
        ({}, "ours/torch:1"),
        ({"image": "jax"}, "ours/jax:1"),
        ({"image": ""}, "ours/torch:1"),
        ({"image": "ours/mine:2.0"}, "ours/mine:2.0"),
    ],
)
def test_options_have_the_chosen_value(sent: dict[str, str], value: str) -> None:
    offered = offers(profiles({**SMALL, "options": [IMAGE, MODE]}), Capacity(0))
    assert choose(offered, sent).values == {"image": value, "MODE": "1"}


@pytest.mark.parametrize(
    ("sent", "error", "says"),
    [
        ({"image": "theirs/x:1"}, Forbidden, "no choice of 'Image', or not any more"),
        ({"image": "ours/x:1\n"}, Forbidden, "no choice"),
        ({"image": "ours/x:1 "}, Forbidden, "no choice"),
        ({"image": ["torch"]}, InvalidInput, "one short text"),
        ({"image": "x" * 1000}, InvalidInput, "one short text"),
        ({"mode": "2"}, Forbidden, "Choose one of: fast."),
        ({"gone": "1"}, InvalidInput, "choose again on the spawn page"),
        ({"profile": "gone"}, Forbidden, "no profile 'gone', or not any more"),
    ],
)
def test_options_that_are_stale_or_forged_are_refused_with_a_sentence(
    sent: dict[str, object], error: type[Exception], says: str
) -> None:
    offered = offers(profiles({**SMALL, "options": [IMAGE, MODE]}), Capacity(0))
    with pytest.raises(error, match=re.escape(says)):
        choose(offered, sent)


def test_a_form_sends_the_options_of_the_chosen_profile_only() -> None:
    form = {
        "_xsrf": ["x"],
        "profile": ["gpu"],
        "gpu--image": ["torch"],
        "gpu--image--text": ["ours/mine:2"],
        "gpu--mode": ["fast"],
        "small--image": ["jax"],
    }
    assert form_options(form) == {"profile": "gpu", "image": "ours/mine:2", "mode": "fast"}
    form["gpu--image--text"] = [""]
    assert form_options(form)["image"] == "torch"
    assert form_options({"profile": ["a", "b"]}) == {"profile": ["a", "b"]}


def test_the_page_groups_prices_and_says_what_is_left() -> None:
    offered = offers(
        profiles(
            {**SMALL, "section": "CPUs", "options": [IMAGE]},
            {**GPU, "section": "GPUs", "price_per_hour": 2.5},
            {**LARGE, "section": "CPUs"},
        ),
        Capacity(gpus=2, free_gpus=1),
    )
    left = Allowance(name="GPU-hours", used=3, limit=10, group="<b>")
    html = options_form(offered, [left], 4.2)
    assert html.index("CPUs</legend>") < html.index("Large") < html.index("GPUs</legend>")
    assert html.count("<fieldset") == 2
    assert "2.5 per hour · 1 of 2 GPUs free now." in html
    assert "Left of your GPU-hours shared by &lt;b&gt;: 7 of 10." in html
    assert "ready in about 4 s" in html
    assert "&lt;JAX&gt;" in html
    for control in re.findall(r'<(?:input|select)[^>]* id="([^"]+)"', html):
        assert f'for="{control}"' in html, control
