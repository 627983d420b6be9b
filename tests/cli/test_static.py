"""What is read from source is what importing gives."""

from __future__ import annotations

import dataclasses
import typing

import pytest

from lga_fast import registry
from lga_fast.commands import _static

KINDS = {
    "lga_fast.selectors": "Selector",
    "lga_fast.editors": "Editor",
    "lga_fast.metrics": "Metric",
    "lga_fast.studies": "Study",
}
MEMBERS = [(package, name) for package in KINDS for name in registry.names(package)]
HEAVY = {"torch", "transformers", "matplotlib", "scipy", "numpy", "jaxtyping", "rich"}


@pytest.mark.parametrize(("package", "name"), MEMBERS)
def test_fields_are_those_of_the_imported_class(package, name):
    read = getattr(_static.module(f"{package}.{name}"), KINDS[package]).fields
    real = getattr(registry.member(package, name), KINDS[package])
    hints = typing.get_type_hints(real)
    assert list(read) == [field.name for field in dataclasses.fields(real)]
    for field in dataclasses.fields(real):
        assert read[field.name].default == field.default
        assert read[field.name].metadata == field.metadata
        assert read[field.name].hint == hints[field.name]


def test_aliases_and_constants_are_those_of_the_module():
    from lga_fast import editors, loading
    from lga_fast.evaluation import evaluate

    assert _static.module("lga_fast.editors").Preset == editors.Preset
    assert _static.module("lga_fast.loading").Weights == loading.Weights
    assert evaluate.METRICS == _static.module("lga_fast.evaluation.evaluate").METRICS


def test_a_name_that_a_module_does_not_bind_is_an_error():
    with pytest.raises(AttributeError, match="lga_fast.editors binds no 'Prest' at its top level"):
        _static.module("lga_fast.editors").Prest  # noqa: B018
