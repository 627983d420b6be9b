"""Tables of what was tried to lose, damage or slow something down, and of the quick starts."""

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
    seeds = ", ".join(map(str, report["seeds"]))
    return (
        f"Seeds {seeds}, {report['seconds']:.0f} s, failures: {len(report['failures'])}.\n\n"
        f"{table(['tried', 'in all', 'where'], rows)}"
        f"{''.join(f'{chr(10)}- {failure}' for failure in report['failures'])}"
    ) + source("torture", "make torture")


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


def quick_starts() -> str:
    """How long a newcomer waits for each step of `docs/start`."""
    report = results("five_minutes")
    rows = [
        [who, f"`{step['step']}`", f"{step['seconds']:.0f}"]
        for who, steps in {"set-up": report["setup"], **report["steps"]}.items()
        for step in steps
    ]
    totals = (f"{who} {seconds:.0f} s" for who, seconds in report["seconds"].items())
    intro = f"In all: {', '.join(totals)}.\n\n"
    steps = table(["page", "command, or first line of Python", "seconds"], rows)
    return intro + steps + source("five_minutes", "make five-minutes")
