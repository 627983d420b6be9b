"""WeightEdit: a low-rank change of weights as data, and its file format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float32
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lga_fast.errors import DataError, EditError, shortened
from lga_fast.files import replacing
from lga_fast.parsing import parse_json, parse_path

KIND = "lga_fast.WeightEdit"  # the only metadata key: with several, the order of bytes would vary
VERSION = 1


@dataclass(frozen=True, eq=False)
class LowRank:
    """The change `left · rightᵀ` of one matrix, whichever way its weight is stored."""

    left: Float32[Tensor, "d_out rank"]
    right: Float32[Tensor, "d_in rank"]

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in) of the matrix."""
        return self.left.shape[0], self.right.shape[0]

    @property
    def rank(self) -> int:
        """Number of columns of either side."""
        return self.left.shape[1]


@dataclass(frozen=True, eq=False, repr=False)
class WeightEdit:
    """Low-rank changes of some matrices of one model, independent of the model object.

    `W_name += left · rightᵀ` for each name in `deltas`, e.g. ROME's rank-1 update (Meng et al.
    2022, arXiv 2202.05262, eq. 2). The factors are copied to the CPU, so the edit does not follow
    later changes of the tensors passed in. A change of rank 0 is refused, since it means that
    nothing was solved; factors of zeros are a valid change.

    Args:
        deltas: by the model's own parameter name, e.g. `transformer.h.5.mlp.c_proj.weight`.
        provenance: how it was made. Applying it checks `model_fingerprint`, that of the model it
            was solved on; `editor`, `layer`, `config`, `requests` and what
            `lga_fast.provenance.of(model)` returns document it and allow repeating it. Dataclasses
            become dicts and tuples become lists, as they would when read back from a file.

    Raises:
        EditError: a factor is not float32, not finite, of rank 0, or of another rank than its
            other side; there is no factor at all; or the provenance cannot be written as JSON.
    """

    deltas: Mapping[str, LowRank]
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check and copy the factors and the provenance."""
        if not self.deltas:
            raise EditError("edit: expected at least one parameter, got none")
        deltas = {name: _checked(name, delta) for name, delta in sorted(self.deltas.items())}
        object.__setattr__(self, "deltas", MappingProxyType(deltas))
        try:
            provenance = json.loads(json.dumps(self.provenance, default=_plain))
        except (TypeError, ValueError) as error:
            raise EditError(f"edit: expected provenance that JSON can hold: {error}") from None
        object.__setattr__(self, "provenance", provenance)

    def __repr__(self) -> str:
        """Names, shapes and ranks; no values."""
        parts = [f"{n} {d.shape[0]}x{d.shape[1]} rank {d.rank}" for n, d in self.deltas.items()]
        return f"WeightEdit({self.provenance.get('editor', 'unnamed editor')}: {', '.join(parts)})"

    def _repr_html_(self) -> str:
        from lga_fast.reports.notebook import edit_html

        return edit_html(self)

    @property
    def model_fingerprint(self) -> str | None:
        """Fingerprint of the model that the edit was solved on; None if not recorded."""
        return self.provenance.get("model_fingerprint")

    @cached_property
    def checksum(self) -> str:
        """A short checksum of names and factors, without the provenance."""
        digest = hashlib.sha256()
        for name, tensor in self._tensors().items():
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()[:16]

    def save(self, path: str | Path) -> None:
        """Write factors and provenance atomically to one safetensors file."""
        with replacing(parse_path(path)) as beside:
            beside.write_bytes(self.to_bytes(self._tensors()))

    def to_bytes(self, tensors: dict[str, Tensor]) -> bytes:
        """`tensors` and this edit's provenance, as a safetensors file has them.

        safetensors' own way to write a file leaves another one where it is killed.
        """
        content = {"version": VERSION, "provenance": self.provenance}
        return save(tensors, {KIND: json.dumps(content, ensure_ascii=False)})

    @classmethod
    def load(cls, path: str | Path) -> WeightEdit:
        """Read a file written by `save`; the edit equals the saved one bit for bit.

        Raises:
            DataError: there is no such file, or it does not hold an edit.
        """
        path = parse_path(path)
        try:
            with safe_open(path, framework="pt") as file:
                metadata = (file.metadata() or {}).get(KIND)
                names = file.keys()  # a list: the file itself cannot be iterated over
                tensors = {name: file.get_tensor(name) for name in names}
        except (SafetensorError, OSError) as error:
            raise DataError(
                f"{path}: expected a readable safetensors file, got: {shortened(str(error))}"
            ) from None
        if metadata is None:
            raise DataError(
                f"{path}: expected {KIND!r} in the metadata, found {_summary(list(tensors))}. Only "
                "files written by WeightEdit.save hold a WeightEdit."
            )
        try:
            return cls(_paired(tensors), _provenance(metadata))
        except (EditError, ValueError) as error:
            raise DataError(f"{path}: {error}") from None

    def to_peft(self, folder: str | Path, model: Any) -> None:
        """Write the edit as a LoRA adapter for `peft.PeftModel.from_pretrained(base, folder)`.

        LoRA adds `scale · B A x` (Hu et al. 2021, arXiv 2106.09685, §4.1): with `B = left`,
        `A = rightᵀ` and `lora_alpha = r` this is the edit itself, of the same rank, but not rounded
        to the weight's dtype. Writing it does not need peft. The base must be the model that the
        edit was solved on, earlier edits included.

        Args:
            folder: created if needed; an adapter in it is replaced.
            model: an `EditableModel`, of which only names, shapes and orientation are used.

        Raises:
            EditError: `model` has no such matrix, or one of another shape.
        """
        from lga_fast.export.lora_adapter import write_adapter

        write_adapter(self, parse_path(folder), model)

    def to_model(self, folder: str | Path, model: Any) -> None:
        """Write edited model and tokenizer atomically, for plain `from_pretrained(folder)`.

        What that loads is `model` with this edit and all others in effect, bit for bit. If `model`
        was loaded from safetensors in their own dtype, its files are copied and only the bytes of
        changed tensors are overwritten, one tensor in memory at a time. Licence, generation and
        processor settings and `editing.json` are copied too; `lga_fast_edits.json` and a new model
        card record the edits.

        Args:
            folder: new, or empty.
            model: an `EditableModel`; it is left unchanged.

        Raises:
            EditError: as for `model.edited`, or `folder` is neither new nor empty.
        """
        from lga_fast.export.merged_checkpoint import write_merged

        write_merged(self, parse_path(folder), model)

    def _tensors(self) -> dict[str, Tensor]:
        sides = {name: (delta.left, delta.right) for name, delta in self.deltas.items()}
        return {
            f"{name}.{side}": tensor
            for name, pair in sides.items()
            for side, tensor in zip(("left", "right"), pair, strict=True)
        }


def _checked(name: str, delta: LowRank) -> LowRank:
    """A copy of the factors on the CPU."""
    if not isinstance(delta, LowRank):
        raise EditError(f"edit of {name}: expected a LowRank, got {type(delta).__name__}")
    sides = {"left": delta.left, "right": delta.right}
    for side, x in sides.items():
        if not isinstance(x, Tensor) or x.ndim != 2 or x.dtype != torch.float32:
            got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise EditError(f"edit of {name}: {side}: expected a float32 matrix, got {got}")
        if bad := int((~torch.isfinite(x)).sum()):
            raise EditError(
                f"edit of {name}: {side}: expected finite numbers, got {bad} of {x.numel()} that "
                "are NaN or infinite. The editor did not find a solution; nothing was changed."
            )
    left, right = delta.left.shape[1], delta.right.shape[1]
    if left != right:
        raise EditError(f"edit of {name}: right: expected rank {left} as left, got {right}")
    if not left:
        raise EditError(f"edit of {name}: expected rank 1 or more, got rank 0: no change")
    copies = [x.detach().to("cpu", copy=True).contiguous() for x in sides.values()]
    return LowRank(*copies)


def _paired(tensors: dict[str, Tensor]) -> dict[str, LowRank]:
    names = {name.rpartition(".")[0] for name in tensors}
    if {f"{name}.{side}" for name in names for side in ("left", "right")} != set(tensors):
        raise EditError(f"expected left and right of each parameter, got {_summary(list(tensors))}")
    return {name: LowRank(tensors[f"{name}.left"], tensors[f"{name}.right"]) for name in names}


def _provenance(metadata: str) -> dict[str, Any]:
    data = parse_json(metadata)
    version = data.get("version") if isinstance(data, dict) else None
    if version != VERSION or not isinstance(data.get("provenance"), dict):
        raise EditError(f"expected a {KIND} of version {VERSION}, got version {version}")
    return data["provenance"]


def _plain(x: Any) -> Any:
    if is_dataclass(x) and not isinstance(x, type):
        return asdict(x)
    raise TypeError(f"{type(x).__name__} {x!r} is not plain data")


def _summary(names: list[str]) -> str:
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} tensors ({shown})" if names else "no tensors"
