"""Schemas and fake kernels of `torch.ops.lga_fast`, and loading the compiled kernels.

The reference is registered for every device; a compiled library, once loaded, adds its kernels for
CPU or CUDA, which the dispatcher prefers. So call sites have one code path. What calls an op
without the wrapper is checked too: by the kernels, or before the reference; and above both, where
tensors still say whether a derivative is asked of them.

- `lga_fast/_C` (pybind11) holds the CPU kernels and is loaded if present.
- `lga_fast/lib/liblga_fast_cuda.so` is loaded only if `torch.cuda.is_available()` and, as a second
  library beside it finds out, the devices can run what was built.
- A missing library, or one built for other devices: the reference serves, and `kernels()` says so.
- A library that is there but does not load: `BuildError`, never a silent fallback.
- `LGA_FAST_NO_EXT=1`: nothing is loaded, which one line on the `lga_fast` logger states (not a
  warning: the user asked for it, and a test suite's warning filter must not make it an error).
"""

import ctypes
import importlib
import importlib.util
import logging
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from lga_fast.errors import BuildError
from lga_fast.ops import _checks, reference

SCHEMAS = (
    "grad_dot(Tensor a_old, Tensor d_old, Tensor rows_old, "
    "Tensor a_new, Tensor d_new, Tensor rows_new, bool bias=False) -> Tensor",
    "grad_abs_sum(Tensor a, Tensor d, Tensor rows) -> Tensor",
    "low_rank_update_(Tensor(a!) weight, Tensor left, Tensor right, float scale) -> ()",
)
CUDA_LIBRARY = Path(__file__).resolve().parents[1] / "lib" / "liblga_fast_cuda.so"
CUDA_PROBE = CUDA_LIBRARY.with_name("liblga_fast_cuda_probe.so")
REBUILD = "rebuild with `python setup.py build_ext --inplace`, or set LGA_FAST_NO_EXT=1"


def _checked(name: str) -> Callable[..., Any]:
    """The reference, which refuses what the wrapper and the kernels do."""
    check, compute = getattr(_checks, f"check_{name}"), getattr(reference, name)
    tensors = _tensors(name)

    def checked(*args: Any) -> Any:
        check(*args[: len(tensors)])
        return compute(*args)

    return checked


def _without_derivatives(name: str) -> Callable[..., Any]:
    """Runs where autograd would record an op, and refuses what it would have no derivative of."""
    tensors = _tensors(name)

    def below(keys: Any, *args: Any) -> Any:
        for argument, x in zip(tensors, args, strict=False):
            _checks.check_plain(name, argument, x)
        if changes := name.endswith("_"):
            _checks.check_writable(name, args[0])
        with torch._C._AutoDispatchBelowAutograd():
            op = getattr(torch.ops.lga_fast, name).default
            result = op.redispatch(keys & torch._C._after_autograd_keyset, *args)
        if changes:  # a backward pass that saved the old weight must notice
            torch.autograd.graph.increment_version(args[0])
        return result

    return below


def run_checked(op: Callable[..., torch.Tensor], *args: Any) -> torch.Tensor:
    """An op whose arguments the wrapper has checked, which autograd has nothing to record of."""
    if torch.compiler.is_compiling():
        return op(*args)
    with torch._C._AutoDispatchBelowAutograd():
        return op(*args)


def _tensors(name: str) -> list[str]:
    """Names of an op's tensors, its first arguments."""
    schema = next(schema for schema in SCHEMAS if schema.startswith(f"{name}("))
    return re.findall(r"Tensor(?:\(a!\))? (\w+)", schema)


_definitions = torch.library.Library("lga_fast", "DEF")
for _schema in SCHEMAS:
    _definitions.define(_schema)
    _name = _schema.split("(")[0]
    _definitions.impl(_name, _checked(_name), "CompositeExplicitAutograd")
    _definitions.impl(_name, _without_derivatives(_name), "Autograd", with_keyset=True)


@torch.library.register_fake("lga_fast::grad_dot")
def _grad_dot_fake(a_old, d_old, rows_old, a_new, d_new, rows_new, bias=False):
    _check_fake("grad_dot", (a_old, d_old, a_new, d_new), (rows_old, rows_new))
    dtype = reference.accumulation_dtype(a_old.dtype)
    shape = (rows_old.shape[0], 2, 3) if bias else (rows_old.shape[0], 3)
    return a_old.new_empty(shape, dtype=dtype)


@torch.library.register_fake("lga_fast::grad_abs_sum")
def _grad_abs_sum_fake(a, d, rows):
    _check_fake("grad_abs_sum", (a, d), (rows,))
    return a.new_empty((rows.shape[0],), dtype=reference.accumulation_dtype(a.dtype))


@torch.library.register_fake("lga_fast::low_rank_update_")
def _low_rank_update_fake(weight, left, right, scale):
    _check_fake("low_rank_update_", (weight, left, right), ())
    return None


def _check_fake(op: str, tensors: Sequence[torch.Tensor], rows: Sequence[torch.Tensor]) -> None:
    """One meta tensor among others leads here, where nothing would be computed."""
    devices = {x.device for x in tensors}
    if len(devices) > 1:
        raise ValueError(f"{op}: expected tensors on one device, got {sorted(map(str, devices))}")
    (device,) = devices
    for x in rows:
        if x.device.type != "cpu" and device.type != "meta":
            raise ValueError(f"{op}: rows: expected a CPU tensor, got {x.device}")


def _load_cpu() -> tuple[dict[str, Any] | None, str]:
    """Build info of `_C` (None if it is not loaded) and its line in `kernels()`."""
    if importlib.util.find_spec("lga_fast._C") is None:
        return None, "torch reference (lga_fast._C is not built)"
    try:
        info = importlib.import_module("lga_fast._C").build_info()
    except Exception as error:  # a broken library may raise anything
        raise BuildError(f"lga_fast._C is there but does not load: {error}; {REBUILD}") from error
    return info, f"C++ ({info['cpu_level']})"


def _load_cuda() -> tuple[list[str], str]:
    """Architectures of the CUDA library ([] if not loaded) and its line in `kernels()`."""
    if not torch.cuda.is_available():
        return [], "none: no device"
    if not CUDA_LIBRARY.exists():
        return [], f"torch reference ({CUDA_LIBRARY.name} is not built)"
    try:
        probe = ctypes.CDLL(str(CUDA_PROBE))
        probe.lga_fast_cuda_archs.restype = probe.lga_fast_cuda_probe.restype = ctypes.c_char_p
        archs = probe.lga_fast_cuda_archs().decode().split(",")
        unfit = _why_not_here(probe, archs)
        if unfit is None:
            ctypes.CDLL(str(CUDA_LIBRARY))
    except (OSError, AttributeError) as error:
        raise BuildError(
            f"{CUDA_LIBRARY.name} is there but does not load: {error}; {REBUILD}"
        ) from error
    if unfit is not None:
        logging.getLogger("lga_fast").warning(
            "CUDA kernels are not loaded, the torch reference serves: %s", unfit
        )
        return [], f"torch reference ({unfit})"
    return archs, f"CUDA ({', '.join(archs)})"


def _why_not_here(probe: ctypes.CDLL, archs: list[str]) -> str | None:
    """Why the CUDA kernels cannot run on the devices of this machine; None if they can.

    A kernel that runs is the last proof: the static CUDA runtime may be newer than the driver. It
    runs on the device of this process alone, as each process on a device takes memory there.
    """
    count = torch.cuda.device_count()
    error = probe.lga_fast_cuda_probe(int(os.environ.get("LOCAL_RANK", "0")) % max(count, 1))
    for device in range(count):
        capability = probe.lga_fast_cuda_capability(device)
        if capability and not any(_runs_on(arch, capability) for arch in archs):
            return (
                f"built for {', '.join(archs)}, but device {device} is sm_{capability}: rebuild "
                f"with TORCH_CUDA_ARCH_LIST={capability // 10}.{capability % 10}"
            )
    return error and f"a first kernel did not run: {error.decode()}"


def _runs_on(arch: str, capability: int) -> bool:
    """Whether code for `arch` runs on a device, whose capability 8.6 is 86 here."""
    kind, _, number = arch.partition("_")
    if number.endswith("a"):  # of one architecture only
        return kind == "sm" and int(number[:-1]) == capability
    same_major = int(number) // 10 == capability // 10
    return int(number) <= capability and (kind == "compute" or same_major)


def _load() -> tuple[dict[str, Any], dict[str, str]]:
    if os.environ.get("LGA_FAST_NO_EXT") == "1":
        logging.getLogger("lga_fast").warning(
            "LGA_FAST_NO_EXT=1: native kernels are not loaded, the torch reference serves"
        )
        served = "torch reference (LGA_FAST_NO_EXT=1)"
        return {"extension": None}, {"cpu": served, "cuda": served}
    cpu_info, cpu = _load_cpu()
    cuda_archs, cuda = _load_cuda()
    return {"extension": cpu_info, "cuda_archs_loaded": cuda_archs}, {"cpu": cpu, "cuda": cuda}


_build_info, _kernels = _load()


def kernels() -> dict[str, str]:
    """The implementation that serves each device, with the reason if it is the reference.

    For example `{"cpu": "C++ (avx512)", "cuda": "none: no device"}`.
    """
    return dict(_kernels)


def build_info() -> dict[str, Any]:
    """How the native extension was built (None without one) and which CUDA architectures loaded."""
    return dict(_build_info)
