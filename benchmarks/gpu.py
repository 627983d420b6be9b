"""What a CUDA device can show, part by part: `python benchmarks/gpu.py [--part NAME ...]`.

Wants torch, nvcc and a CUDA device; neither a network nor git. Every part of `gpu_parts` runs in a
process of its own, eight minutes at most, and writes `gpu_PART.json` row by row, to
benchmarks/results and to the folder that the environment variable OUT names. A part that fails
leaves a row that says so, and the next one begins. `--rehearse` runs all of it on the CPU, with
small sizes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

PARTS = {
    "build": "the native part, from nothing, for the device that is there",
    "check": "every op against float64 on the device",
    "ops": "tests/ops on the device",
    "sanitize": "compute-sanitizer's four tools on the check",
    "ceilings": "copy and matrix product rates",
    "kernels": "each op against plain torch and against the ceilings",
    "targets": "scoring GPT-2 XL, Llama-2-7B and Gemma-3-12B, against the paper's way",
    "editing": "64 requests by R-ROME, against one at a time",
    "study": "brute force over all layers of GPT-2 XL",
    "streamed": "a checkpoint larger than the memory it may use",
}
LIMIT_S = 480


def main() -> None:
    """Run the parts asked for; exit code 1 if one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"  {name:10} {about}" for name, about in PARTS.items()),
    )
    parser.add_argument("--part", action="append", choices=PARTS, help="only this one; repeatable")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, with small sizes")
    parser.add_argument("--out", type=Path, help="write here, and to $OUT; not to the results")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.rehearse and asked.out is None:
        parser.error("--rehearse writes no results: give it --out FOLDER")
    folders = [asked.out or ROOT / "benchmarks" / "results"]
    folders += [Path(os.environ["OUT"])] if os.environ.get("OUT") else []
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    parts = asked.part or list(PARTS)
    if asked.child:
        measure(parts[0], folders, asked.rehearse)
        return
    ended = {part: run(part, folders, sys.argv[1:]) for part in parts}
    for part, how in ended.items():
        print(f"{part:10} {how}", flush=True)
    raise SystemExit(any(how != "done" for how in ended.values()))


def measure(part: str, folders: list[Path], rehearse: bool) -> None:
    """Write the rows of one part, each as soon as it is there."""
    rows: list[dict[str, Any]] = []
    environment: dict[str, Any] = {}
    for row in importlib.import_module(f"gpu_parts.{part}").rows(
        "cpu" if rehearse else "cuda", rehearse
    ):
        if not environment:  # a build comes before
            import timing

            environment = timing.environment(seed=0)
        rows.append(row)
        print(f"{part}: {json.dumps(row)[:300]}", flush=True)
        write(part, folders, {"environment": environment, "rows": rows})


def run(part: str, folders: list[Path], arguments: list[str]) -> str:
    """Run one part in a process; "done", or why not, which its file says too."""
    begun = time.time()
    chosen = [a for i, a in enumerate(arguments) if a != "--part" and arguments[i - 1] != "--part"]
    command = [sys.executable, __file__, *chosen, "--child", "--part", part]
    try:
        subprocess.run(command, stderr=subprocess.PIPE, timeout=LIMIT_S, check=True)
        return "done"
    except subprocess.TimeoutExpired as error:
        why, said = f"ended after {LIMIT_S} s", error.stderr
    except subprocess.CalledProcessError as error:
        why, said = f"exit code {error.returncode}", error.stderr
    said = (said or b"").decode(errors="replace")[-3000:]
    print(f"{part}: {why}\n{said}", flush=True)
    file = folders[0] / f"gpu_{part}.json"
    fresh = file.exists() and file.stat().st_mtime >= begun
    found = json.loads(file.read_text()) if fresh else {"environment": None, "rows": []}
    found["rows"].append({"failed": why, "stderr": said})
    write(part, folders, found)
    return why


def write(part: str, folders: list[Path], result: dict[str, Any]) -> None:
    """Each file whole or not at all."""
    for folder in folders:
        unfinished = folder / f".gpu_{part}.json"
        unfinished.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        unfinished.replace(folder / f"gpu_{part}.json")


if __name__ == "__main__":
    main()
