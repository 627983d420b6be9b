"""Inputs that are nearly right are read or refused, at every door that reads text."""

from __future__ import annotations

import pytest

from lga_fast import load_arguments
from lga_fast.errors import LgaFastError
from tests.torture import doors, hostile


def test_no_other_error_and_no_endless_message():
    failures: list[str] = []
    assert hostile.tried(seed=0, failures=failures, each=15).total() > 400
    assert not failures, "\n".join(failures)


def test_doors_of_models_and_files():
    failures: list[str] = []
    assert doors.tried(seed=0, failures=failures, each=24).total() > 80
    assert not failures, "\n".join(failures)


def test_a_raw_error_is_seen(monkeypatch):
    """The test above can fail."""

    def raw(*args):
        raise KeyError("x" * 9999)

    monkeypatch.setattr(hostile, "parse_path", raw)
    failures: list[str] = []
    hostile.tried(seed=0, failures=failures, each=2)
    assert len(failures) == 2 and all(one.startswith("path: seed 0, ") for one in failures)


def test_a_size_beyond_numbers_is_no_device():
    with pytest.raises(LgaFastError, match="a device that is here"):
        load_arguments.parse_device(2**64)
