"""Destinations are checked before the work, and the check leaves nothing behind."""

from __future__ import annotations

import os
import sys

import pytest

from lga_fast.errors import DataError
from lga_fast.files import cache_folder, check_writable


def test_a_writable_destination_passes_and_nothing_stays(tmp_path):
    check_writable(tmp_path / "results.jsonl")
    check_writable(tmp_path / "new" / "folders" / "results.jsonl")
    check_writable(str(tmp_path / "new" / "out"), folder=True)
    check_writable(tmp_path, folder=True)
    assert not list(tmp_path.iterdir())
    (tmp_path / "there.json").write_text("old")
    check_writable(tmp_path / "there.json")
    assert (tmp_path / "there.json").read_text() == "old"


def test_a_destination_of_the_wrong_kind_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"expected a file to write, got a folder"):
        check_writable(tmp_path)
    with pytest.raises(DataError, match=r"expected a folder to write, got a file"):
        check_writable(tmp_path / "file", folder=True)
    with pytest.raises(DataError, match=r"below: expected a file that can be written, got: "):
        check_writable(tmp_path / "file" / "below")


def test_the_cache_is_where_the_standard_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder("moments") == tmp_path / "x" / "lga_fast" / "moments"
    assert not cache_folder("moments").exists()
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder("moments") == tmp_path / ".cache" / "lga_fast" / "moments"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match=r"got: Permission denied\. Give another path"):
        check_writable(tmp_path / "results.jsonl")
    tmp_path.chmod(0o700)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_file_system_that_takes_no_files_is_refused():
    with pytest.raises(DataError, match=r"expected a file that can be written, got: "):
        check_writable("/proc/results.jsonl")
