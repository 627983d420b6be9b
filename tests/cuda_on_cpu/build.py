"""Builds the CUDA sources for the CPU, with g++. What was built is found again by its content."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.cuda_on_cpu.rewrite import rewrite

ROOT = Path(__file__).parents[2]
EMULATOR = Path(__file__).parent / "emulator"
Sources = Mapping[str, str]  # texts of files by name
FOLDER = ROOT / "build" / "cuda_on_cpu"
COMPILER = shutil.which("g++")
TORCH = Path(torch.__file__).parent

# The only reason not to run: nothing else that these tests need can be missing.
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no g++ to build CUDA for the CPU")

# So that small inputs fill it, and what follows when it is full is tested.
SMALL_WORKSPACE = ("kWorkspaceBytes = 64 << 20", "kWorkspaceBytes = 1 << 18")

FLAGS = [
    *("-std=c++20", "-O2", "-g1", "-fPIC", "-fvisibility=hidden"),
    *("-Wall", "-Werror", "-Wno-unknown-pragmas"),
    "-fno-strict-aliasing",  # kernels load 16 bytes as uint4
    "-ftrivial-auto-var-init=pattern",  # a register that was not set is not 0 by chance
    "-DUSE_CUDA",  # uncovers the stream functions of the stable headers
    "-DTORCH_TARGET_VERSION=0x020b000000000000",
    *(f"-I{folder}" for folder in (EMULATOR, ROOT / "csrc")),
    f"-isystem{TORCH / 'include'}",
]
SANITIZERS = {
    "": [],
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
    "thread": ["-fsanitize=thread", "-DEMU_TSAN"],
}


def cuda_sources() -> dict[str, Sources]:
    """For each `.cu` file of the ops itself and the files that it may include, by name."""
    texts = {path.name: path.read_text() for path in sorted((ROOT / "csrc").glob("*.cu*"))}
    texts["grad_dot_cuda.cu"] = replace_once(texts["grad_dot_cuda.cu"], *SMALL_WORKSPACE)
    headers = {name: text for name, text in texts.items() if name.endswith(".cuh")}
    return {name: headers | {name: texts[name]} for name in texts if name.endswith("_cuda.cu")}


def replace_once(text: str, old: str, new: str) -> str:
    """The text with `new` for `old`, which must be there, and only once."""
    if text.count(old) != 1:
        raise ValueError(f"expected once, found {text.count(old)} times: {old}")
    return text.replace(old, new)


def build(sources: Mapping[str, Sources], sanitizer: str = "") -> Path:
    """The library made of the `.cu` files that `sources` names."""
    flags = FLAGS + SANITIZERS[sanitizer]
    objects = [_object(files, name, flags) for name, files in sources.items()]
    # the emulator tells ThreadSanitizer of its fibers and must not be watched itself
    unwatched = [flag for flag in flags if flag != "-fsanitize=thread"]
    for path in sorted(EMULATOR.glob("*.cpp")):
        objects.append(_object({path.name: path.read_text()}, path.name, unwatched))
    library = FOLDER / f"{_digest(objects, flags)}.so"
    with _locked():
        if not library.exists():
            link = ["-shared", *flags, *map(str, objects), f"-L{TORCH / 'lib'}", "-ltorch_cpu"]
            _run([*link, "-o"], library)
    return library


def _object(sources: Sources, name: str, flags: list[str]) -> Path:
    """`name` compiled in a folder that holds all of `sources`, rewritten."""
    around = [p.read_text() for p in (*EMULATOR.rglob("*.h"), *(ROOT / "csrc").glob("*.h"))]
    key = _digest(sorted(sources.items()), name, around, flags, torch.__version__)
    folder = FOLDER / key
    target = folder / "object.o"
    with _locked():
        if not target.exists():
            folder.mkdir(parents=True, exist_ok=True)
            for file, text in sources.items():
                is_cuda = file.endswith((".cu", ".cuh"))
                (folder / file).write_text(rewrite(text, f"csrc/{file}") if is_cuda else text)
            _run(["-c", "-x", "c++", *flags, str(folder / name), "-o"], target)
    return target


def _digest(*parts: object) -> str:
    version = subprocess.check_output([COMPILER, "--version"])
    return hashlib.sha256(repr((version, parts)).encode()).hexdigest()[:20]


@contextmanager
def _locked() -> Iterator[None]:
    """Other test processes wait, and then find what this one has built."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with open(FOLDER / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(arguments: list[str], target: Path) -> None:
    half = target.with_suffix(".half")
    done = subprocess.run([COMPILER, *arguments, str(half)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"g++ {' '.join(arguments)}:\n{done.stderr}")
    os.replace(half, target)
