"""Texts and paths from outside: what cannot be read is refused in a sentence."""

from __future__ import annotations

import pytest
import yaml

from lga_fast.errors import DataError, LgaFastError, shortened
from lga_fast.parsing import parse_json, parse_path, parse_yaml

BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        (r'["a \ud800 b"]', "half a surrogate pair"),
        ("{", "Expecting property name"),
    ],
)
def test_json_that_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_json(text)


def test_a_whole_pair_is_a_character():
    assert parse_json(r'["\ud83d\ude00"]') == ["\U0001f600"]
    assert parse_yaml(r'"\U0001f600"') == "\U0001f600"


@pytest.mark.parametrize(
    "text",
    [
        *("!!float", "!!bool x", "!!timestamp x", "!!int x", "!!binary x", "!!pairs 3"),
        *("2020-99-99", "[" * 2000, "{a: " * 2000, BOMB, "&a [*a]", "a: *b", r'"\ud800"'),
        *("a: \0", "x: [" + "y" * 9999, "!!python/object/apply:os.system [ls]"),
    ],
)
def test_yaml_that_is_refused(text):
    with pytest.raises(ValueError) as caught:
        parse_yaml(text)
    assert not isinstance(caught.value, yaml.YAMLError) and 10 < len(str(caught.value)) < 400


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000])
def test_deep_yaml_is_refused_before_it_takes_time(text):
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_yaml(text)
    assert parse_yaml("[" * 100 + "]" * 100) == parse_json("[" * 100 + "]" * 100)


@pytest.mark.parametrize(
    "path", ["~nouser/x", "x" * 300, "a\0b", "\ud800", 3, None, b"x"], ids=ascii
)
def test_paths_that_cannot_be(path):
    with pytest.raises(DataError, match="expected a path, got") as caught:
        parse_path(path)
    assert len(str(caught.value)) < 200


def test_a_long_text_keeps_both_ends():
    assert shortened("x" * 300) == "x" * 300
    assert shortened("a" * 500 + "b" * 500, 100) == "a" * 50 + " ... " + "b" * 50
    assert len(str(LgaFastError("x" * 10_000))) == 3005
