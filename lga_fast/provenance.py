"""What is needed to repeat a result: versions, commit, device, dtype, kernels."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import resource
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from lga_fast import __version__, ops
from lga_fast.chat import ChatTokenizer

_KERNELS = ops.kernels()  # loaded once for a process


@runtime_checkable
class DescribedModel(Protocol):
    """What `of` asks of a model."""

    name: str
    family_name: str
    family_guess: str
    tokenizer: Any
    loaded_with: Mapping[str, str] | None

    @property
    def layers(self) -> int: ...
    @property
    def dequantised_from(self) -> str | None: ...
    @property
    def mlp_layers(self) -> list[int]: ...
    @property
    def last_reaching_layer(self) -> int: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def device(self) -> torch.device: ...
    def fingerprint(self) -> str: ...


def of(model: DescribedModel) -> dict[str, Any]:
    """Model, versions, device and kernels of a result, in plain JSON values."""
    last = model.last_reaching_layer
    return environment() | {
        "model": model.name,
        "family": model.family_name,
        "family_guess": model.family_guess or None,
        "model_fingerprint": model.fingerprint(),
        "layers": model.layers,
        "layers_without_mlp": sorted(set(range(model.layers)) - set(model.mlp_layers)) or None,
        "last_reaching_layer": None if last == model.layers - 2 else last,
        "dtype": str(model.dtype).removeprefix("torch."),
        "dequantised_from": model.dequantised_from,
        "chat": isinstance(model.tokenizer, ChatTokenizer) or None,
        "device": device_name(model.device),
        "kernel": _KERNELS[model.device.type],
        **(model.loaded_with or {}),
    }


def arithmetic(about: Mapping[str, Any]) -> str:
    """On one line, the dtype and the device of a result, and whether prompts were chat messages."""
    before = about.get("dequantised_from")
    dtype = f"{about['dtype']}{f' (from {before})' if before else ''}"
    return f"{dtype} on {about['device']}{', chat template' if about.get('chat') else ''}"


def tokenizer_checksum(tokenizer: Any) -> str:
    """A short checksum of all that decides how a tokenizer cuts texts."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        decides = [type(tokenizer).__name__, tokenizer.get_vocab(), tokenizer.init_kwargs]
    else:
        decides = json.loads(backend.to_str())
        for name in ("padding", "truncation"):  # as the last call left them
            decides.pop(name, None)
    if isinstance(tokenizer, ChatTokenizer):
        decides = [decides, tokenizer.prompt("")[0]]  # which may hold the date
    text = json.dumps(decides, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def environment() -> dict[str, Any]:
    """Versions and commit, whatever the model."""
    return {
        "lga_fast": __version__,
        "commit": commit_at_start(),
        "torch": torch.__version__,
        "transformers": metadata.version("transformers"),
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
    }


@functools.cache
def commit_at_start() -> str | None:
    """The commit of the code that runs, which a later change to its files does not change."""
    return commit()


def commit(apart_from: Sequence[str] = ()) -> str | None:
    """Commit of the checkout this package runs from; None for an installed package.

    It ends in -dirty where tracked files differ from it, apart from those of the given paths (from
    the checkout's root). Where git cannot tell, it is what the environment variable LGA_FAST_COMMIT
    says.
    """
    root = Path(__file__).parent.parent
    name = _git(root, "rev-parse", "--short=12", "HEAD") if (root / ".git").exists() else ""
    if not name:
        return os.environ.get("LGA_FAST_COMMIT")
    paths = [":/", *(f":(top,exclude){path}" for path in apart_from)]
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", *paths)
    return f"{name}-dirty" if changed else name


def _git(root: Path, *command: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True)
    except OSError:  # git is not installed
        return ""
    return done.stdout.strip()


def peak_bytes(device: torch.device) -> int:
    """Most memory held so far: on the device by torch, on a CPU by the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def device_name(device: torch.device) -> str:
    """What the device is called."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
