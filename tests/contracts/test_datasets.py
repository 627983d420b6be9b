"""What holds of every member of the data sets."""

from __future__ import annotations

import json

import pytest

from lga_fast import datasets, registry
from lga_fast.errors import DataError, LgaFastError, OptionError

NAMES = registry.names("lga_fast.datasets")


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_not_there_is_named(name, tmp_path):
    with pytest.raises(LgaFastError, match="nowhere"):
        datasets.load(name, tmp_path / "nowhere.json")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "text",
    ["", "[]", "[1, 2]", "{", '[{"nothing": "known"}]', json.dumps([{"prompt": 3}] * 2), "\0\1"],
)
def test_another_content_is_refused_with_its_place(name, text, tmp_path):
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(DataError, match=r"other\.json"):
        datasets.load(name, file)


@pytest.mark.parametrize("name", NAMES)
def test_a_member_reads_what_it_ships_or_asks_for_a_path(name):
    member = registry.member("lga_fast.datasets", name)
    assert callable(member.read) and isinstance(member.FORMS, tuple)
    if hasattr(member, "default_path"):
        records = datasets.load(name, limit=3)
        assert len(records) == 3 and records.provenance.sha256
    else:
        with pytest.raises(DataError, match="give the path of its file"):
            datasets.load(name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("limit", [0, -1, 1.5, "x"])
def test_a_limit_out_of_range_is_refused(name, limit):
    with pytest.raises(OptionError, match="limit: expected"):
        datasets.load(name, limit=limit)
