"""The folder is the registry."""

from __future__ import annotations

import sys

import pytest

from lga_fast import registry
from lga_fast.errors import UnknownName


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "shelf"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "apple.py").write_text("NAME = 'apple'")
    (folder / "quince.py").write_text("raise RuntimeError('imported')")
    (folder / "_helper.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield "shelf"
    for name in [n for n in sys.modules if n.split(".")[0] == "shelf"]:
        del sys.modules[name]


def test_names_are_file_stems_and_listing_imports_no_member(package):
    assert registry.names(package) == ["apple", "quince"]
    assert "shelf.quince" not in sys.modules


def test_a_member_is_its_module(package):
    assert registry.member(package, "apple").NAME == "apple"


def test_an_unknown_name_brings_suggestions_and_the_list(package):
    with pytest.raises(UnknownName) as caught:
        registry.member(package, "aple")
    assert (
        str(caught.value) == "no 'aple' in shelf. Did you mean 'apple'? There are: apple, quince."
    )
    with pytest.raises(UnknownName, match="no '_helper' in shelf"):
        registry.member(package, "_helper")


@pytest.mark.parametrize(
    ("name", "member"),
    [("R-ROME", "r_rome"), ("AlphaEdit", "alphaedit"), ("rome", "rome"), ("ROMA", "ROMA")],
)
def test_members_may_be_spelled_as_papers_do(name, member):
    assert registry.canonical("lga_fast.editors", name) == member
