"""`make test-sanitize`: the ops' tests on CUDA and CPU kernels, under the sanitizers of g++."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cuda_on_cpu.build import COMPILER, FOLDER, ROOT, build, cuda_sources, needs_compiler
from tests.cuda_on_cpu.ops_tests import PASSED, run_ops_tests
from tests.cuda_on_cpu.planted_bugs import BUGS

pytestmark = needs_compiler
HERE = Path(__file__).parent


def cpu_kernels(sanitizer: str) -> Path:
    """The folder of a `_C` that was built for the sanitizer."""
    folder = FOLDER / f"cpu_{sanitizer}"
    beside = str(Path(sys.executable).parent)
    cmake, ninja = (shutil.which(t, path=beside) or shutil.which(t) for t in ("cmake", "ninja"))
    configure = [cmake, "-G", "Ninja", "-S", ROOT, "-B", folder, "-DLGA_FAST_CUDA=OFF"]
    configure += [f"-DLGA_FAST_SANITIZE={sanitizer}", f"-DCMAKE_INSTALL_PREFIX={folder}"]
    configure += [f"-DPython_EXECUTABLE={sys.executable}", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
    for command in (configure, [cmake, "--build", folder], [cmake, "--install", folder]):
        subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return folder / "lga_fast"


@pytest.mark.parametrize("sanitizer", ["address", "undefined", "thread"])
def test_cpu_kernels(sanitizer: str):
    preload = []
    if sanitizer == "thread":
        preload.append(FOLDER / "parallel_for.so")
        flags = ["-fsanitize=thread", "-O1", "-shared", "-fPIC", "-o", preload[0]]
        subprocess.run([COMPILER, HERE / "parallel_for.cpp", *flags], check=True)
    done = run_ops_tests(
        cpu_kernels=cpu_kernels(sanitizer), sanitizer=sanitizer, preload=tuple(preload)
    )
    assert done.returncode == PASSED, done.stdout


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_cuda_kernels(sanitizer: str):
    """`address` includes undefined behaviour."""
    done = run_ops_tests(emulated=build(cuda_sources(), sanitizer), sanitizer=sanitizer)
    assert done.returncode == PASSED, done.stdout


@pytest.mark.parametrize(
    "sanitizer, piece, message",
    [
        ("address", "if (col >= side.x.cols) return;", "AddressSanitizer: heap-buffer-overflow"),
        ("thread", "at += kDepth) {\n    __syncthreads();", "data race"),  # within a block
        ("thread", "blockIdx.x) * 3", "data race"),  # between blocks
    ],
)
def test_they_find(sanitizer: str, piece: str, message: str):
    (bug,) = (bug for bug in BUGS if bug.old.endswith(piece))
    done = run_ops_tests(
        *bug.tests, emulated=build(bug.plant(cuda_sources()), sanitizer), sanitizer=sanitizer
    )
    assert done.returncode != PASSED and message in done.stdout, done.stdout
