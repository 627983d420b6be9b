from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
import torch

from lga_fast.errors import LgaFastWarning, OptionError, UnknownName, warn
from lga_fast.options import SEEDS, Options, option
from lga_fast.records import LayerRanking


@dataclass(frozen=True)
class Some(Options):
    steps: int = option(3, "Steps.", min=1, max=9)
    rate: float = option(0.5, "Rate.", above=0)
    limit: float | None = option(None, "Limit.", min=0)
    kind: Literal["a", "b"] = option("a", "Kind.")
    layers: tuple[int, ...] = option((), "Layers.", min=0)
    seed: int = option(42, "Seed.", **SEEDS)
    file: str | None = option(None, "File.", path=True)
    editor: str = option("rome", "Editor.", member="lga_fast.editors")
    unchecked: object = None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"steps": 0}, "steps: expected a whole number from 1 to 9, got 0"),
        ({"steps": 10}, "from 1 to 9, got 10"),
        ({"steps": True}, "got True"),
        ({"steps": 1.5}, "got 1.5"),
        ({"rate": 0}, "rate: expected a number above 0, got 0"),
        ({"rate": float("nan")}, "got nan"),
        ({"limit": -1}, "limit: expected a number of at least 0, got -1"),
        ({"kind": "c"}, "kind: expected one of 'a', 'b', got 'c'"),
        ({"layers": 3}, "layers: expected a list, each a whole number of at least 0, got 3"),
        ({"layers": [1, -1]}, r"layers\[1\]: expected a whole number of at least 0, got -1"),
        ({"seed": 2**64}, "seed: expected a whole number"),
        ({"file": "no/such"}, "file: expected a file or folder that exists, got 'no/such'"),
        ({"seed": -5}, "seed: expected a whole number from 0 to"),
    ],
)
def test_no_instance_holds_a_value_out_of_its_limits(given, expected):
    with pytest.raises(OptionError, match=expected):
        Some(**given)


def test_a_registry_says_which_names_there_are():
    with pytest.raises(UnknownName, match="no 'romr' in editors. Did you mean 'rome'"):
        Some(editor="romr")


def test_numbers_may_be_text_and_lists_become_tuples():
    some = Some(steps="4", rate="5e-1", layers=["1", 2])
    assert (some.steps, some.rate, some.layers) == (4, 0.5, (1, 2))
    assert type(some.steps) is int
    assert Some(file=__file__).file == __file__


def test_whole_numbers_may_be_whatever_python_counts_with():
    ranking = LayerRanking(layer=4, selector="fixed", scores=(), order=(4,))
    assert int(ranking) == 4 and "abcde"[ranking] == "e"
    some = Some(steps=ranking, layers=[ranking, np.int64(1), torch.tensor(2)])
    assert (some.steps, some.layers) == (4, (4, 1, 2))
    for value in (np.array([1, 2]), torch.ones(2), object()):
        with pytest.raises(OptionError, match="steps: expected a whole number"):
            Some(steps=value)


def test_a_field_that_is_no_option_is_not_checked():
    value = object()
    assert Some(unchecked=value).unchecked is value


def test_a_warning_points_at_the_line_that_called_the_package():
    with pytest.warns(LgaFastWarning, match="something") as caught:
        warn("something")
    assert caught[0].filename == __file__
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(compile("warn('other')", "inside", "exec"), {"__name__": "lga_fast.x", "warn": warn})
    assert caught[0].filename == __file__
