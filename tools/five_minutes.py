"""The quick starts of docs/start as their readers follow them, with the time that each step takes.

`make five-minutes` clones this checkout, sets the clone up by the commands of docs/install.md in an
environment of its own, and runs every block of each quick start in an empty folder: files are
written under their titles, Python is run by that environment's Python. The set-up is counted apart,
since its downloads depend on the network. benchmarks/results/five_minutes.json is written.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.timing import RESULTS, environment
from lga_fast.files import write_atomic
from tools.doc_blocks import blocks

ROOT = Path(__file__).resolve().parents[1]
PEOPLE = ("easyedit", "serving", "paper")
LIMIT = 300  # seconds


def main() -> None:
    """Clone, install, follow the pages; exit 1 if one takes more than five minutes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", required=True, help="requirement: the torch to install")
    parser.add_argument("--out", type=Path, default=RESULTS / "five_minutes.json")
    arguments = parser.parse_args()
    about = environment()  # before the checkout can change under a long run
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clone, python = folder / "lga_fast", folder / "venv" / "bin" / "python"
        setup = [timed(["git", "clone", "--quiet", str(ROOT), str(clone)], folder, "git clone")]
        setup.append(timed([sys.executable, "-m", "venv", str(folder / "venv")], folder, "venv"))
        (install, *_) = (b for b in blocks(clone / "docs" / "install.md") if b.language == "sh")
        for line in install.commands:
            line = line.replace("pip install torch ", f"pip install '{arguments.torch}' ")
            if line.endswith(" ."):  # the paper's page needs them
                line = f"{line[:-1]}'.[studies]'"
            setup.append(timed(shell(line), clone, line, python))
        people = {p: follow(clone / f"docs/start/{p}.md", folder, python) for p in PEOPLE}
    totals = {
        unit: {p: round(sum(step[unit] for step in steps), 1) for p, steps in people.items()}
        for unit in ("seconds", "cpu_seconds")
    }
    report = {"environment": about, "setup": setup, "steps": people} | totals
    write_atomic(arguments.out, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    print(f"set-up: {sum(step['seconds'] for step in setup):.0f} s; {totals}")
    if late := [p for p, seconds in totals["seconds"].items() if seconds > LIMIT]:
        sys.exit(f"five-minutes: longer than {LIMIT} s: {', '.join(late)}")


def follow(page: Path, folder: Path, python: Path) -> list[dict[str, Any]]:
    """Run a page's blocks in a folder of its own."""
    here = folder / page.stem
    here.mkdir()
    steps = []
    for number, block in enumerate(blocks(page)):
        if block.title or block.language == "python":
            file = here / (block.title or f"block-{number}.py")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
        if block.language == "sh":
            for line in block.commands:
                steps.append(timed(shell(line), here, line, python))
        elif block.language == "python" and not block.title:
            steps.append(timed([str(python), file.name], here, block.first_line, python))
    return steps


def shell(line: str) -> list[str]:
    """The command that runs a line."""
    return ["bash", "-e", "-c", line]


def timed(
    command: list[str], folder: Path, name: str, python: Path | None = None
) -> dict[str, Any]:
    """Run a step, with the environment's programs first on the path; how long it took."""
    print(f"$ {name}", flush=True)
    path = [str(python.parent)] if python else []
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    env["PATH"] = os.pathsep.join([*path, os.environ["PATH"]])
    start, used = time.perf_counter(), cpu_seconds()
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"five-minutes: {name}\n{done.stdout}{done.stderr}")
    seconds = {"seconds": time.perf_counter() - start, "cpu_seconds": cpu_seconds() - used}
    return {"step": name} | {key: round(value, 1) for key, value in seconds.items()}


def cpu_seconds() -> float:
    """Of the steps until now; on a busy machine they tell more than a clock."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
