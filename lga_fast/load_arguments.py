"""What `load` is given: what transformers takes too, sizes, dtypes, a folder's editing options."""

from __future__ import annotations

import math
import re
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lga_fast.errors import LgaFastError, shortened
from lga_fast.options import checked
from lga_fast.parsing import parse_json

_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]  # what streaming may need
_OF_MODEL = ("attn_implementation", "allow_pickle")
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_MAX_BYTES = 2**63 - 1  # of a memory budget
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass(frozen=True)
class FromPretrained:
    """What `load` passes on to transformers where it is given."""

    revision: str | None = None
    token: str | bool | None = None
    trust_remote_code: bool = False
    attn_implementation: str | None = None
    allow_pickle: bool = False

    @property
    def specified(self) -> list[str]:
        """Names of those that are given."""
        return [name for name, value in vars(self).items() if value not in (None, False)]

    def of_files(self) -> dict[str, Any]:
        """Arguments of `from_pretrained` of configs and tokenizers, which have no attention."""
        names = [name for name in self.specified if name not in _OF_MODEL]
        # said where it is False, too: transformers would ask on the terminal
        given = {name: getattr(self, name) for name in names}
        return {"trust_remote_code": self.trust_remote_code} | given

    def of_model(self) -> dict[str, Any]:
        """Arguments of `from_pretrained` of a model."""
        given = (
            {"attn_implementation": self.attn_implementation} if self.attn_implementation else {}
        )
        return self.of_files() | given | {"use_safetensors": None if self.allow_pickle else True}

    def refuse(self, why: str, *names: str) -> None:
        """Raise `LgaFastError` if one of these is given, or any if none is named."""
        if wrong := [name for name in self.specified if not names or name in names]:
            raise LgaFastError(f"load: {wrong[0]}: {why}")  # without its value: a token is secret

    def set_attention(self, hf: Any) -> None:
        """Use the attention asked for in a model that was made without it."""
        wanted = self.attn_implementation
        if wanted is None:
            return
        hf.set_attn_implementation(wanted)
        if (actual := hf.config._attn_implementation) != wanted:
            raise LgaFastError(
                f"load: attn_implementation={wanted!r}: expected one that {type(hf).__name__} can "
                f"be set to, it stays at {actual!r}"
            )

    def snapshot(self, hub_id: str) -> str:
        """The folder of this version on the Hub, downloaded; for readers that take no version."""
        from huggingface_hub import snapshot_download

        options = {"revision": self.revision, "token": self.token}
        return snapshot_download(hub_id, allow_patterns=_FILES, **options)

    def provenance(self, hf: Any) -> dict[str, str]:
        """What changes results of those that are given."""
        about: dict[str, str] = {}
        if self.revision is not None:  # a branch moves; its commit stays
            about["revision"] = getattr(hf.config, "_commit_hash", None) or self.revision
        if self.attn_implementation is not None:
            about["attention"] = self.attn_implementation
        return about


def parse_bytes(text: str) -> int:
    """Bytes of a size such as "8GiB" or "500 MB".

    Raises:
        LgaFastError: it is not a number with a known unit.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    size = float(match[1]) * _UNITS.get(match[2].upper(), math.inf) if match else math.inf
    if size > _MAX_BYTES:
        raise LgaFastError(
            f"memory size {reprlib.repr(text)}: expected a number and a unit, such as 8GiB"
        )
    return int(size)


def parse_budget(size: int | str | None) -> int | None:
    """Bytes of a memory budget, given as such or as of `parse_bytes`.

    Raises:
        LgaFastError: it is no size.
        OptionError: it is not a positive number of bytes.
    """
    size = parse_bytes(size) if isinstance(size, str) else size
    return checked(size, int | None, {"min": 1}, "load: memory_budget")


def parse_dtype(dtype: Any) -> torch.dtype | None:
    """A floating-point dtype that models run in, or the one of this name; None: the checkpoint's.

    Raises:
        LgaFastError: it is none.
    """
    if dtype in (None, "auto"):
        return None
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if found not in _DTYPES:
        raise LgaFastError(
            f"dtype {reprlib.repr(dtype)}: expected auto, float32, bfloat16, float16 or float64"
        )
    return found


def parse_device(device: Any) -> str | torch.device:
    """A device that is here, "auto" for all of them; None: CUDA if it is here, else the CPU.

    Raises:
        LgaFastError: it is none, or is not here.
    """
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "auto":
        return device
    try:
        place = torch.device(device)
        problem = "weights on it are no numbers" if place.type == "meta" else ""
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError) as error:
        problem = shortened(str(error).partition("\n")[0])
    if problem:
        raise LgaFastError(
            f"device {reprlib.repr(device)}: expected cpu, auto, or a device that is here, such as "
            f"cuda or cuda:0, got: {problem}"
        )
    return place


def read_editing(file: Path) -> dict[str, dict[str, Any]]:
    """A model's `editing.json`: options by editor; none if there is no such file.

    Raises:
        LgaFastError: it holds something else.
    """
    if not file.is_file():
        return {}
    try:
        editing = parse_json(file.read_text(encoding="utf-8"))
        if all(isinstance(options, dict) for options in editing.values()):
            return editing
        problem = f"got {reprlib.repr(editing)}"
    except (OSError, ValueError, AttributeError) as error:
        problem = str(error)
    raise LgaFastError(f"{file}: expected editors with their options, {problem}")
