"""What the extension says in Chinese, as JupyterLab's own server finds it."""

from __future__ import annotations

from pathlib import Path

import pytest
from jupyterlab_server.translation_utils import get_installed_packages_locale, get_language_pack
from language_pack import make_language_pack


def test_the_catalogue_is_found_by_its_entry_point() -> None:
    found, trouble = get_installed_packages_locale("zh_CN")
    assert trouble == ""
    assert found["aiaas_hub"]["Datasets"] == ["数据集"]


def test_it_comes_with_a_language_pack_of_jupyterlabs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # JupyterLab offers a language only where a pack of it is installed.
    monkeypatch.syspath_prepend(make_language_pack(tmp_path, "zh_CN"))
    pack, trouble = get_language_pack("zh_CN")
    assert trouble == ""
    head = pack["aiaas_hub"][""]
    assert (head["language"], head["plural_forms"]) == ("zh-CN", "nplurals=1; plural=0;")
    assert pack["aiaas_hub"]["Run %1 failed."] == ["运行 %1 失败。"]
