"""Destinations are checked before the work, and the check leaves nothing behind."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys

import pytest
import tiny
import torch

from lga_fast import files
from lga_fast.errors import DataError
from lga_fast.files import (
    cache_folder,
    check_writable,
    clear_abandoned,
    locked,
    replacing,
    unfinished,
)
from tests.abandoned import killed_while_writing
from tests.models.edits import make_edit


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


def test_a_device_is_no_file_to_replace(tmp_path):
    device = tmp_path / "device"
    os.mkfifo(device)
    with pytest.raises(DataError, match="got a folder or a device"), replacing(device):
        pass
    with pytest.raises(DataError, match="got a device or the like"):
        check_writable(device)
    assert device.is_fifo()


def test_unfinished_files_are_their_writers_own(tmp_path, monkeypatch):
    path = tmp_path / ("re[s]ults" * 25 + ".jsonl")  # a name that has no room for more
    mine, dead = unfinished(path), killed_while_writing(path)
    foreign = dead.with_name(re.sub(r"(\.)(\w+)(-\d+-\d+-)", r"\1elsewhere\3", dead.name))
    pid, start = os.getpid(), files._started(os.getpid())
    before = mine.with_name(mine.name.replace(f"-{pid}-{start}-", f"-{pid}-{start - 999}-"))
    assert len({mine, unfinished(path), dead, foreign, before}) == 5
    for file in (mine, dead, foreign, before):
        file.write_text("half a li")
    clear_abandoned(path)  # as a container's next run does, with the pid of the one before
    assert set(tmp_path.iterdir()) == {mine, foreign}


@pytest.fixture
def full_disk(monkeypatch):
    """No file is taken to the disk any more."""

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)


def test_a_full_disk_leaves_what_was_there(tmp_path, full_disk, monkeypatch):
    model = tiny.model("gpt2", torch.float32)
    first, second = make_edit(model), make_edit(model, seed=1)
    with monkeypatch.context() as space:
        space.setattr(os, "fsync", lambda handle: None)
        first.save(tmp_path / "edit.safetensors")
        first.to_peft(tmp_path / "adapter", model)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.*")}
    for write in (
        lambda: second.save(tmp_path / "edit.safetensors"),
        lambda: second.to_peft(tmp_path / "adapter", model),
    ):
        with pytest.raises(DataError, match="expected to write it, got: No space left on device"):
            write()
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.*")} == before


def test_an_alarm_is_not_taken_for_a_full_disk(tmp_path):
    with pytest.raises(TimeoutError), replacing(tmp_path / "file") as beside:
        beside.write_text("half")
        raise TimeoutError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", ("below", "long"))
def test_destinations_that_cannot_be_are_refused_in_one_paragraph(tmp_path, where):
    model = tiny.model("gpt2", torch.float32)
    edit = make_edit(model)
    (tmp_path / "file").write_text("")
    path = tmp_path / {"below": "file/x", "long": "x" * 300}[where]
    for write in (edit.save, lambda path: edit.to_peft(path, model)):
        with pytest.raises(DataError, match=r"(Not a directory|a name of 300 bytes).*another path"):
            write(path)


HOLD = "import sys; from pathlib import Path; from lga_fast.files import locked\nwith locked(Path("
HOLD += "sys.argv[1])):\n    print('holds', flush=True)\n    sys.stdin.read()"


def test_two_processes_do_not_write_the_same(tmp_path):
    path, again = tmp_path / "results.jsonl", tmp_path / "other.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"holds\n"
        with pytest.raises(DataError, match="another process is writing it. Wait"), locked(path):
            pass
        with locked(again):  # of which nothing is being written
            pass
        other.kill()
    with locked(path):  # a killed process has no lock
        pass
    assert not list(tmp_path.iterdir())
