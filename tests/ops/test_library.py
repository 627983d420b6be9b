"""Which implementation serves: asked for, missing, broken.

In subprocesses, since a process loads once.
"""

import importlib.machinery
import importlib.util
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from lga_fast import ops
from lga_fast.ops import _library

built = pytest.mark.skipif(
    importlib.util.find_spec("lga_fast._C") is None, reason="the extension is not built"
)


def run(code: str, **environment: str) -> subprocess.CompletedProcess:
    env = {k: v for k, v in os.environ.items() if k != "LGA_FAST_NO_EXT"} | environment
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120
    )


ASSERT_NO_EXTENSION = """
import sys
from types import SimpleNamespace
import lga_fast.ops as ops
assert "lga_fast._C" not in sys.modules, "native kernels were loaded"
assert ops.kernels()["cpu"] == "torch reference (LGA_FAST_NO_EXT=1)", ops.kernels()
assert ops.build_info()["extension"] is None
"""


def test_without_the_extension_the_reference_serves_and_says_so():
    done = run(ASSERT_NO_EXTENSION, LGA_FAST_NO_EXT="1")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("LGA_FAST_NO_EXT=1: native kernels are not loaded") == 1


@built
def test_the_test_above_can_fail():
    done = run(ASSERT_NO_EXTENSION)
    assert done.returncode != 0 and "native kernels were loaded" in done.stderr


@built
def test_with_and_without_the_extension_agree():
    code = """
import torch
import lga_fast.ops as ops
torch.manual_seed(0)
a, d, rows = torch.randn(40, 64), torch.randn(40, 96), torch.tensor([[0, 25], [25, 15]])
print(ops.grad_dot(a, d, rows, a, d, rows.flip(0)).flatten().tolist())
"""
    results = [eval(run(code, **env).stdout) for env in ({}, {"LGA_FAST_NO_EXT": "1"})]
    torch.testing.assert_close(torch.tensor(results[0]), torch.tensor(results[1]))


def test_an_extension_that_is_not_built_is_named_in_kernels():
    code = """
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "lga_fast._C" else found(name, *a)
import lga_fast.ops as ops
assert ops.kernels()["cpu"] == "torch reference (lga_fast._C is not built)", ops.kernels()
"""
    done = run(code)
    assert done.returncode == 0, done.stderr


def test_a_broken_extension_is_an_error_with_its_cause(tmp_path):
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    (tmp_path / f"_C{suffix}").write_bytes(b"\x7fELF but no more")
    code = f"""
import lga_fast
lga_fast.__path__.insert(0, {str(tmp_path)!r})
from lga_fast.errors import BuildError
try:
    import lga_fast.ops
except BuildError as error:
    assert error.__cause__ is not None
    print(error)
"""
    done = run(code)
    assert "lga_fast._C is there but does not load" in done.stdout, done.stderr
    assert "rebuild with" in done.stdout


def test_import_starts_no_cuda():
    done = run("import torch, lga_fast.ops; assert not torch.cuda.is_initialized()")
    assert done.returncode == 0, done.stderr


@built
def test_build_info_tells_how_it_was_built():
    info = ops.build_info()["extension"]
    if info is None:
        pytest.skip("not loaded here")
    assert info["cpu_level"] in info["cpu_levels"]
    assert int(info["torch_target_version"], 16) == 0x020B000000000000
    assert info["compiler"] and info["flags"] and info["cuda_archs"]


def test_kernels_names_every_device():
    assert set(ops.kernels()) == {"cpu", "cuda"}
    ops.kernels()["cpu"] = "changed"
    assert ops.kernels()["cpu"] != "changed", "callers get a copy"


def fake_probe(capabilities: list[int], error: bytes | None) -> SimpleNamespace:
    """The library that knows the devices: their capabilities, and what a launch says."""
    launched_on = []
    return SimpleNamespace(
        lga_fast_cuda_archs=lambda: b"sm_80,sm_90,compute_90",
        lga_fast_cuda_capability=lambda device: capabilities[device],
        lga_fast_cuda_probe=lambda device: launched_on.append(device) or error,
        launched_on=launched_on,
    )


@pytest.mark.parametrize(
    "capabilities, error, served",
    [
        ([80], None, "CUDA (sm_80, sm_90, compute_90)"),
        ([86, 90, 120], None, "CUDA (sm_80, sm_90, compute_90)"),
        (
            [75],
            b"no kernel image is available for execution on the device",
            "torch reference (built for sm_80, sm_90, compute_90, but device 0 is sm_75: rebuild "
            "with TORCH_CUDA_ARCH_LIST=7.5)",
        ),
        (
            [90, 70],
            None,
            "torch reference (built for sm_80, sm_90, compute_90, but device 1 is sm_70: rebuild "
            "with TORCH_CUDA_ARCH_LIST=7.0)",
        ),
        (
            [0],
            b"CUDA driver version is insufficient for CUDA runtime version",
            "torch reference (a first kernel did not run: CUDA driver version is insufficient for "
            "CUDA runtime version)",
        ),
    ],
)
def test_cuda_kernels_are_loaded_where_they_run(
    capabilities, error, served, monkeypatch, tmp_path, caplog
):
    probe, loaded = fake_probe(capabilities, error), []

    def load(path: str) -> SimpleNamespace:
        loaded.append(path)
        return probe

    library = tmp_path / "kernels.so"
    library.touch()
    monkeypatch.setattr(_library, "CUDA_LIBRARY", library)
    monkeypatch.setattr(_library.ctypes, "CDLL", load)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setenv("LOCAL_RANK", "3")
    archs, line = _library._load_cuda()
    assert line == served
    # what loads the kernels registers them, for good
    assert bool(archs) == (str(library) in loaded) == served.startswith("CUDA")
    assert probe.launched_on == [3 % len(capabilities)]
    assert len(caplog.messages) == (0 if archs else 1)


@pytest.mark.parametrize("arch, runs_on", [("sm_86", [86, 89]), ("sm_90a", [90])])
def test_code_of_an_architecture_runs_on_its_own_kind(arch, runs_on):
    assert [c for c in (75, 80, 86, 89, 90, 100, 120) if _library._runs_on(arch, c)] == runs_on


@pytest.mark.skipif(
    not _library.CUDA_PROBE.exists() or torch.cuda.is_available(),
    reason="the CUDA library is not built, or a device is there",
)
def test_the_built_probe_answers_without_a_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert re.fullmatch(r"torch reference \(a first kernel .*\)", _library._load_cuda()[1])
