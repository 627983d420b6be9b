"""Tables of what `gpu.py` measured; empty where no device has been at hand."""

from __future__ import annotations

import statistics
from typing import Any

try:
    from benchmarks._markdown import results, source, spread, table
except ImportError:
    from _markdown import results, source, spread, table

Row = dict[str, Any]


def gpu() -> str:
    """All parts that have results, each with its source."""
    parts = {"targets": targets, "kernels": kernels, "editing": editing, "study": study}
    text = ""
    for part, of in (parts | {"streamed": streamed}).items():
        rows = [row for row in results(f"gpu_{part}")["rows"] if "failed" not in row]
        if rows:
            text += of(rows) + source(f"gpu_{part}", f"python benchmarks/gpu.py --part {part}")
    return text or "No device has been at hand yet.\n"


def counts() -> str:
    """What a pass asks of a device, counted without one."""
    head = ["scoring pass", "requests", "batches", "launches", "of `grad_dot`", "host waits"]
    head += ["multiply-adds of the model", "of `grad_dot`", "bytes that it reads"]
    cells = [
        [
            row["model"],
            f"{row['requests']} of {row['data']}",
            row["batches"],
            f"{row['launches']:,}",
            f"{row['grad_dot_launches']:,}",
            f"{row['host_waits_of_ours']} + {row['host_waits_of_transformers']}",
            f"{row['model_operations'] / 2e12:.1f} T",
            f"{row['grad_dot_multiply_adds'] / 1e12:.2f} T",
            f"{row['grad_dot_bytes'] / 1e9:.1f} GB",
        ]
        for row in results("gpu_counts")["rows"]
    ]
    return (
        f"{table(head, cells)}\nHost waits are ours, then those of transformers: one in each "
        "forward of separate rows, before the blocks, for whether they are packed.\n"
        f"{source('gpu_counts', 'python benchmarks/gpu_counts.py')}"
    )


def targets(rows: list[Row]) -> str:
    """Scoring passes of models of real sizes."""
    papers = {(r["model"], r["data"]): r for r in rows if "way" in r}
    head = ["scoring pass", "requests", "seconds (quartiles)", "share of the matmul rate"]
    head += ["bmm / ours", "the paper's way / ours", "peak memory / the paper's"]
    cells = []
    for row in (r for r in rows if "ours" in r):
        ours, bmm = row["ours"]["seconds"], row["bmm"]["seconds"]
        low, middle, high = statistics.quantiles(ours, n=4)
        paper = papers.get((row["model"], row["data"]))
        more = ["-", "-"]
        if paper:
            memory = row["ours"]["peak_bytes_above_model"] / paper["peak_bytes_above_model"]
            more = [f"{paper['times_slower_than_ours']:.0f}", f"{memory:.1%}"]
        cells.append(
            [
                row["model"],
                f"{row['requests']} of {row['data']}",
                f"{middle:.2f} ({low:.2f} to {high:.2f})",
                f"{row['share_of_matmul_rate']:.0%}",
                f"{statistics.median(bmm) / middle:.2f}",
                *more,
            ]
        )
    return table(head, cells)


def kernels(rows: list[Row]) -> str:
    """Each op against plain torch and the ceilings."""
    head = ["op", "shape", "dtype", "pairs x tokens", "ms", "times faster than plain torch"]
    head += ["share of copy rate", "of matmul rate"]
    cells = [
        [
            row["op"],
            row["shape"],
            row["dtype"],
            f"{row['pairs']} x {row['tokens']}" if "pairs" in row else "-",
            f"{row['kernel']['median_ms']:.3f}",
            f"{row['times_faster']:.1f}",
            f"{row['share_of_copy_rate']:.0%}",
            f"{row['share_of_matmul_rate']:.0%}",
        ]
        for row in rows
    ]
    return table(head, cells)


def editing(rows: list[Row]) -> str:
    """R-ROME at once against one at a time."""
    head = ["R-ROME", "requests", "dtype", "seconds per edit"]
    head += ["times faster than one at a time, the usual way"]
    cells = [
        [
            row["model"],
            row["requests"],
            row["dtype"],
            f"{row['median_seconds_per_edit']['batch']:.3f}",
            spread(row["batch_times_faster_than_usual"]),
        ]
        for row in rows
    ]
    return table(head, cells)


def study(rows: list[Row]) -> str:
    """Brute force over all layers."""
    done = [row for row in rows if row["seconds"] is not None]
    cells = [
        [row["model"], row["facts"], f"{row['seconds']:.0f}", f"{row['edits_per_second']:.0f}"]
        for row in done
    ]
    return table(["brute force", "facts", "seconds", "edits per second"], cells)


def streamed(rows: list[Row]) -> str:
    """A checkpoint larger than what it may use."""
    head = ["6 GB streamed through 3 GiB, from", "seconds", "what binds", "share of it"]
    cells = [
        [row["source"], f"{row['seconds']:.1f}", row["binds"], f"{row['share_of_the_bound']:.0%}"]
        for row in rows
    ]
    return table(head, cells)
