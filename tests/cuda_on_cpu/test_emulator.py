"""The emulator finds what CUDA does not allow, and says where."""

import ctypes
import math
import re
from pathlib import Path

import pytest

from tests.cuda_on_cpu.build import build, needs_compiler
from tests.cuda_on_cpu.rewrite import rewrite

FAULTS = Path(__file__).with_name("faults.cu")
pytestmark = needs_compiler


@pytest.fixture(scope="module")
def run():
    """Runs one of the launches of faults.cu: what was said of it, and its result."""
    function = ctypes.CDLL(str(build({FAULTS.name: {FAULTS.name: FAULTS.read_text()}}))).run_fault
    function.restype = ctypes.c_char_p

    def run_fault(name: str, guarded: bool = True) -> tuple[str, float]:
        out = (ctypes.c_float * 8)()
        aligned = ctypes.addressof(out) + (-ctypes.addressof(out)) % 16
        message = function(name.encode(), ctypes.c_bool(guarded), ctypes.c_void_p(aligned))
        return message.decode(), ctypes.c_float.from_address(aligned).value

    return run_fault


@pytest.mark.parametrize(
    "fault, message",
    [
        ("barrier_for_some", r"25 of 32 threads have ended, 7 wait at the barrier .*faults.cu:16"),
        (
            "two_barriers",
            r"some threads wait at the barrier .*faults.cu:2\d, others at .*faults.cu:2\d",
        ),
        ("mask_without_self", "a lane that its own mask does not name"),
        ("absent_lane", r"a mask that names a lane that is not there at .*faults.cu:\d+"),
        ("other_branch", "a lane that is not there|1 of 32 threads .*, 31 wait for lanes of their"),
        ("misaligned", r"misaligned vector load at .*faults.cu:\d+"),
        ("beside", "a write outside of every __shared__ variable"),
        ("much_shared", r"more than 48 KB of shared memory at .*faults.cu:\d+"),
        ("threads", "nothing: expected 1 to 1024 threads per block"),
        ("no_blocks", "expected a grid with blocks"),
        ("grid", "at most 2147483647 x 65535 x 65535 blocks"),
        ("dynamic_shared", "at most 48 KB of shared memory"),
        ("parameters", "at most 4 KB of parameters"),
        ("other_stream", "expected a device guard and the stream of torch"),
        ("unchecked", r"nobody asked cudaGetLastError\(\) about the launch before"),
    ],
)
def test_a_fault_is_told(run, fault, message):
    told, _ = run(fault)
    assert re.search(message, told), told


def test_a_launch_needs_a_device_guard(run):
    assert "expected a device guard" in run("sum_of_lanes", guarded=False)[0]


def test_what_is_allowed_runs_after_a_fault_too(run):
    run("barrier_for_some")
    assert run("sum_of_lanes") == ("", 31 * 32 / 2)


def test_shared_memory_is_nan_until_it_is_written(run):
    message, value = run("unwritten")
    assert not message and math.isnan(value)


def test_threads_run_in_no_certain_order(run):
    assert len({run("last_writer")[1] for _ in range(20)}) > 5


@pytest.mark.parametrize(
    "code, message",
    [
        ("k<<<1, 2>>>(x);", r"x.cu:1: expected <<<grid, block, shared bytes, stream>>>"),
        ("extern __shared__ char all[];", "x.cu: expected `__shared__ type name"),
    ],
)
def test_other_forms_than_ours_are_refused(code, message):
    with pytest.raises(ValueError, match=message):
        rewrite(code, "x.cu")
