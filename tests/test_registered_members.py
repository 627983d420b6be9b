"""Members of other packages, found by their entry points."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import EntryPoint

import pytest

from lga_fast import load, load_edits, registry, select_layer
from lga_fast.commands import _static
from lga_fast.errors import UnknownName

SELECTOR = '''"""Takes the deepest layer that the user allows."""

from dataclasses import dataclass

from lga_fast.options import option
from lga_fast.selectors import fixed


@dataclass(frozen=True)
class Selector(fixed.Selector):
    """The layer that is given."""

    reason: str = option("none", "Why this one.")
'''


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package beside lga_fast with a selector, in no folder of lga_fast's."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "__init__.py").write_text("")
    (tmp_path / "elsewhere" / "deepest.py").write_text(SELECTOR)
    monkeypatch.syspath_prepend(tmp_path)
    points = [EntryPoint("deepest", "elsewhere.deepest", "lga_fast.selectors")]

    def found(group):
        return [point for point in points if point.group == group]

    monkeypatch.setattr(registry, "entry_points", found)
    registry.registered.cache_clear()
    yield points
    registry.registered.cache_clear()
    _static.module.cache_clear()
    for name in [n for n in sys.modules if n.split(".")[0] == "elsewhere"]:
        del sys.modules[name]


def test_a_selector_of_another_package_is_one_everywhere(installed):
    names = registry.names("lga_fast.selectors")
    assert "deepest" in names and names == sorted(names)
    assert registry.summary("lga_fast.selectors", "deepest").startswith("Takes the deepest")
    assert "elsewhere.deepest" not in sys.modules  # listing imports no member
    field_options = importlib.import_module("lga_fast.commands._field_options")
    options = {o.name: o.help for o in field_options.fields("lga_fast.selectors", "Selector")}
    assert options["reason"].startswith("deepest: Why this one.")
    ranking = select_layer(load("atlas"), load_edits("atlas")[:2], "deepest", layer=3, reason="b")
    assert int(ranking) == 3 and ranking.selector == "deepest"


def test_a_name_that_is_taken_is_refused(installed):
    installed[:] = [EntryPoint("lga", "elsewhere.lga", "lga_fast.selectors")]
    with pytest.raises(UnknownName, match=r"has a member 'lga', and 'elsewhere.lga' is registered"):
        registry.names("lga_fast.selectors")


def test_a_module_that_is_gone_is_said(installed):
    installed[:] = [EntryPoint("gone", "elsewhere.gone", "lga_fast.selectors")]
    with pytest.raises(UnknownName, match="expected a module 'elsewhere.gone', got none"):
        registry.summary("lga_fast.selectors", "gone")
