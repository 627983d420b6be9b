"""Which implementation serves: asked for, missing, broken.

In subprocesses, since a process loads once.
"""

import importlib.machinery
import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from lga_fast import ops

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
