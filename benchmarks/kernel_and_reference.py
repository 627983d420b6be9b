"""A kernel and its reference on the same inputs, in one pytest-benchmark group.

`pytest benchmarks --benchmark-only` uses torch's default number of threads; OMP_NUM_THREADS=1 for
one. `python benchmarks/test_bench_grad_dot.py` times the same and writes results/grad_dot.json.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch

try:
    from benchmarks import timing
except ImportError:  # run as a script: this folder is on the path instead of the repository
    import timing

SEED = 0
IMPLEMENTATIONS = ("kernel", "reference")
DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
HALF_AND_FULL = (torch.float32, torch.bfloat16)


def name_of(shape: dict[str, int]) -> str:
    """For example `pair=8 t=17 d_in=768 d_out=3072`."""
    return " ".join(f"{axis}={size}" for axis, size in shape.items())


def normal(*shape: int, dtype: torch.dtype, device: str) -> torch.Tensor:
    """Seeded normal values."""
    generator = torch.Generator().manual_seed(SEED + sum(shape))
    return torch.randn(*shape, generator=generator).to(dtype).to(device)


def write(
    name: str,
    shapes: Iterable[dict[str, int]],
    call_of: Callable[[str, dict[str, int], torch.dtype, str], Callable[[], object]],
) -> None:
    """Times all shapes, dtypes and devices and writes one JSON."""
    rows: list[dict[str, Any]] = []
    for device in DEVICES:
        for shape in shapes:
            for dtype in HALF_AND_FULL:
                row: dict[str, Any] = {"device": device, "dtype": str(dtype)[6:], **shape}
                for implementation in IMPLEMENTATIONS:
                    call = call_of(implementation, shape, dtype, device)
                    row[implementation] = timing.measure(call, device=device)
                kernel, plain = (row[i]["median_ms"] for i in IMPLEMENTATIONS)
                row["times_faster"] = plain / kernel
                rows.append(row)
    timing.write_result(name, rows, SEED)
