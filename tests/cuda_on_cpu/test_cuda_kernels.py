"""`tests/ops`, unchanged, on the CUDA kernels, which the emulator runs on the CPU."""

import os

import pytest

from tests.cuda_on_cpu.build import build, cuda_sources, needs_compiler
from tests.cuda_on_cpu.ops_tests import PASSED, run_ops_tests

pytestmark = [
    needs_compiler,
    # `make test` runs all tests with and without the extension; these have their own kernels
    pytest.mark.skipif(
        os.environ.get("LGA_FAST_NO_EXT") == "1", reason="the same in the run with the extension"
    ),
]


def test_the_ops_tests_pass_on_the_cuda_kernels():
    done = run_ops_tests(emulated=build(cuda_sources()))
    assert done.returncode == PASSED, done.stdout
