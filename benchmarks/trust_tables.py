"""Tables of what was tried to lose, damage or slow something down."""

from __future__ import annotations

try:
    from benchmarks._markdown import results, source, table
except ImportError:
    from _markdown import results, source, table

_KINDS = {
    "inputs": "hostile inputs",
    "exceptions_by_operation": "exceptions at a line that runs",
    "kills": "SIGKILLs",
    "disk_faults": "disk faults",
}


def torture() -> str:
    """What `make torture` tried, and what failed."""
    report = results("torture")
    rows = [
        [
            what,
            f"{sum(report[name].values()):,}",
            "; ".join(f"{where} {count:,}" for where, count in report[name].items()),
        ]
        for name, what in _KINDS.items()
    ]
    seeds, where = ", ".join(map(str, report["seeds"])), report["environment"]
    return (
        f"Seeds {seeds}, {report['seconds']:.0f} s, failures: {len(report['failures'])}.\n\n"
        f"{table(['tried', 'in all', 'where'], rows)}\n"
        f"{''.join(f'- {failure}{chr(10)}' for failure in report['failures'])}\n"
        f"`make torture`, commit {where['commit'][:12]}, torch {where['torch']}, "
        f"{where['kernels']}; [results/torture.json](results/torture.json)\n"
    )


def linear_time() -> str:
    """What a fact costs among few and among many."""
    rows = results("linear_time")["rows"]
    (few, *more) = rows[0]["cpu_us_per_fact"]
    head = ["step", *(f"µs a fact of {int(n):,}" for n in (few, *more))]
    head += [f"{int(more[-1]):,} against {int(few):,}", "bytes a fact"]
    body = [
        [row["step"], f"{row['cpu_us_per_fact'][few]:.0f} ({low:.0f} to {high:.0f})"]
        + [f"{row['cpu_us_per_fact'][n]:.0f}" for n in more]
        + [f"{row['cpu_growth'][more[-1]]:.2f}", f"{row['bytes_per_fact']:,.0f}"]
        for row in rows
        for low, high in [row[f"cpu_us_per_fact_of_{few}"]]
    ]
    return table(head, body) + source("linear_time", "python benchmarks/linear_time.py")
