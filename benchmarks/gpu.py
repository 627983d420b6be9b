"""Everything a CUDA device can show, in one command: `python benchmarks/gpu.py`.

Wants a bare machine with torch, nvcc and a CUDA device. It builds the native part, checks every op
against float64 on the device, runs compute-sanitizer's memcheck on a small grid, measures the
copy and matmul ceilings, times the ops, a whole selection against the paper's way, an edit against
the usual way and a streamed selection under a limit of GPU memory against what binds it, and writes
one JSON under benchmarks/results/. Without a device it compiles,
says what it would do and exits 0.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

SEED = 0
DTYPES = ("float32", "bfloat16", "float16", "float64")
# (name, d_in, d_out) of the up projections; the down projections are the same turned round
SHAPES = [("GPT-2 XL", 1600, 6400), ("Llama-2-7B", 4096, 11008)]
CASES = [(8, 17), (30, 24), (30, 200)]  # pairs, tokens of a row


def main() -> None:
    """Run all parts, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=["check"], help="only this part, on a small grid")
    parser.add_argument("--device", default="cuda", help="of --part check; cpu works as well")
    parser.add_argument(
        "--skip-build", action="store_true", help="use the libraries that are there"
    )
    arguments = parser.parse_args()
    if arguments.part == "check":
        check(arguments.device, small=True)
        return
    seconds = None if arguments.skip_build else build()
    import timing
    import torch

    if not torch.cuda.is_available():
        timing.say("No CUDA device: the kernels were compiled, nothing was run. On a device this")
        timing.say(
            "would check the ops, run memcheck, measure ceilings and time ops and selection."
        )
        return
    from lga_fast import ops

    if not ops.kernels()["cuda"].startswith("CUDA"):
        raise SystemExit(f"the CUDA kernels do not serve: {ops.kernels()['cuda']}")
    rows: list[dict[str, Any]] = [{"part": "build", "seconds": seconds}]
    parts = (check, memcheck, ceilings, time_ops, time_selection, time_editing, time_streamed)
    for part in parts:
        started = time.perf_counter()
        rows += [{"part": part.__name__, **row} for row in part()]
        timing.say(f"{part.__name__}: {time.perf_counter() - started:.0f} s")
    name = torch.cuda.get_device_name().replace(" ", "_").lower()
    timing.say(f"written to {timing.write_result(f'gpu_{name}', rows, SEED)}")


def build() -> float:
    """Seconds of a build from nothing."""
    started = time.perf_counter()
    subprocess.check_call([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=ROOT)
    return time.perf_counter() - started


def factors(pairs: int, tokens: int, d_in: int, d_out: int, dtype: Any, device: str) -> tuple:
    """Random a and d on the device, and rows of old and new, one after the other."""
    import torch

    torch.manual_seed(SEED)
    a = torch.randn(2 * pairs * tokens, d_in, device=device).to(dtype)
    d = torch.randn(2 * pairs * tokens, d_out, device=device).to(dtype)
    starts = torch.arange(2 * pairs) * tokens
    rows = torch.stack([starts, torch.full_like(starts, tokens)], 1)
    return a, d, rows[:pairs], rows[pairs:]


def check(device: str = "cuda", small: bool = False) -> list[dict[str, Any]]:
    """Errors of the kernels and of plain torch in the same dtype, against float64."""
    import timing
    import torch

    from lga_fast import ops
    from lga_fast.ops import reference

    sizes = [(3, 1, 1, 33), (2, 5, 40, 24), (2, 17, 65, 129)]
    sizes += [] if small else [(8, 17, 1600, 6400), (2, 513, 768, 3072), (30, 24, 1, 6400)]
    rows = []
    for dtype in DTYPES:
        for size in sizes:
            for op, run in _checked(size, getattr(torch, dtype), device):
                oracle = run(reference, torch.float64)
                kernel, plain, again = run(ops), run(reference), run(ops)
                errors = [
                    float((out.double() - oracle).norm() / oracle.norm()) for out in (kernel, plain)
                ]
                # The oracle's own rounding counts where the op itself is in float64.
                allowed = 2 * errors[1] + 4 * torch.finfo(kernel.dtype).eps
                row = {"op": op, "dtype": dtype, "size": list(size), "error": errors[0]}
                row |= {"torch_error": errors[1], "allowed": allowed}
                row["same_bits_twice"] = torch.equal(kernel, again)
                rows.append(row)
                if not (errors[0] <= allowed and row["same_bits_twice"]):
                    raise SystemExit(f"check failed: {row}")
    timing.say(f"check: {len(rows)} cases within the allowed error, each the same bits twice")
    return rows


def _checked(size: tuple[int, int, int, int], dtype: Any, device: str) -> list[tuple[str, Any]]:
    """Each op's name and a function that runs `module`'s version of it on the same values."""
    import torch

    a, d, old, new = factors(*size, dtype, device)
    weight = torch.randn(size[3], size[2], device=device).to(dtype)
    left, right = (torch.randn(n, 2, device=device) for n in weight.shape)

    def grad_dot(module: Any, to: Any = dtype) -> torch.Tensor:
        return module.grad_dot(a.to(to), d.to(to), old, a.to(to), d.to(to), new)

    def grad_abs_sum(module: Any, to: Any = dtype) -> torch.Tensor:
        return module.grad_abs_sum(a.to(to), d.to(to), old)

    def low_rank_update_(module: Any, to: Any = dtype) -> torch.Tensor:
        changed = weight.to(to, copy=True)
        wide = torch.promote_types(left.dtype, to)
        module.low_rank_update_(changed, left.to(wide), right.to(wide), 0.5)
        return changed

    return [(f.__name__, f) for f in (grad_dot, grad_abs_sum, low_rank_update_)]


def memcheck() -> list[dict[str, Any]]:
    """compute-sanitizer's verdict on the small grid of `check`."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return [{"ran": False, "why": "compute-sanitizer is not installed"}]
    command = [tool, "--tool", "memcheck", "--error-exitcode", "9", sys.executable, __file__]
    done = subprocess.run([*command, "--part", "check"], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"memcheck failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return [{"ran": True, "summary": done.stdout.strip().splitlines()[-1]}]


def ceilings() -> list[dict[str, float]]:
    """What the device can do at best: copying, bytes read plus written, and matrix products."""
    import timing
    import torch

    source, target = (torch.randn(2**30, device="cuda") for _ in range(2))
    spent = timing.cuda_ms(lambda: target.copy_(source))["median_ms"]
    row = {"copy_gb_per_s": 2 * source.nbytes / spent / 1e6}
    for dtype in (torch.bfloat16, torch.float32):
        x, y = (torch.randn(8192, 8192, device="cuda").to(dtype) for _ in range(2))
        spent = timing.cuda_ms(lambda x=x, y=y: x @ y)["median_ms"]
        row[f"matmul_{str(dtype)[6:]}_tflops"] = 2 * 8192**3 / spent / 1e9
    return [row]


def time_ops() -> list[dict[str, Any]]:
    """Each op and its reference in one run."""
    import torch

    from lga_fast import ops
    from lga_fast.ops import reference

    rows = []
    for shape, d_in, d_out in SHAPES:
        for dtype in (torch.float32, torch.bfloat16):
            for pairs, tokens in CASES:
                a, d, old, new = factors(pairs, tokens, d_in, d_out, dtype, "cuda")
                work = {
                    "grad_dot": (a, d, old, a, d, new),
                    "grad_abs_sum": (a[: pairs * tokens], d[: pairs * tokens], old),
                }
                for op, inputs in work.items():
                    moved = sum(t.nbytes for t in inputs[:2])
                    rows.append(
                        {"op": op, "shape": shape, "dtype": str(dtype)[6:]}
                        | {"pairs": pairs, "tokens": tokens, "bytes_read_once": moved}
                        | _against(getattr(ops, op), getattr(reference, op), inputs)
                    )
            weight = torch.randn(d_out, d_in, device="cuda").to(dtype)
            left, right = (torch.randn(n, 1, device="cuda") for n in (d_out, d_in))
            rows.append(
                {"op": "low_rank_update_", "shape": shape, "dtype": str(dtype)[6:]}
                | {"bytes_read_once": weight.nbytes, "bytes_written": weight.nbytes}
                | _against(
                    ops.low_rank_update_, reference.low_rank_update_, (weight, left, right, 1e-6)
                )
            )
    return rows


def _against(kernel: Any, reference: Any, inputs: tuple) -> dict[str, Any]:
    import timing

    times = {
        name: timing.cuda_ms(lambda call=call: call(*inputs))
        for name, call in (("kernel", kernel), ("reference", reference))
    }
    ratio = times["reference"]["median_ms"] / times["kernel"]["median_ms"]
    return times | {"times_faster": ratio}


def time_selection() -> list[dict[str, Any]]:
    """A whole scoring pass on GPT-2 XL's shape, random weights, against the paper's way."""
    import selection
    import torch
    from transformers import GPT2Config

    config = GPT2Config(n_embd=1600, n_layer=48, n_head=25)
    return [
        selection.compare(config, "cuda", dtype, facts=30, repeats=5)
        for dtype in (torch.float32, torch.bfloat16)
    ]


def time_editing() -> list[dict[str, Any]]:
    """An edit on GPT-2 124M's shape, random weights, against the usual way."""
    import editing
    import torch

    rows = [editing.compare(dtype, "cuda") for dtype in (torch.float32, torch.bfloat16)]
    return [{name: value for name, value in row.items() if name[0] != "_"} for row in rows]


def time_streamed() -> list[dict[str, Any]]:
    """A checkpoint of 6 GB streamed through 3 GiB of the device."""
    import streamed
    import streamed_cuda

    config = streamed.shape(36, 2560, 6912, 32000)
    return streamed_cuda.measure(config, 3 << 30, facts=32, device="cuda")


if __name__ == "__main__":
    main()
