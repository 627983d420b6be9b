"""Statistics that EasyEdit and the code of ROME, MEMIT and AlphaEdit keep on disk.

Second moments of keys are in `STATS_DIR/MODEL/TEXT_stats/MODULE_DTYPE_mom2_SAMPLES.npz`, as a
sum and a count; AlphaEdit's projections (`P_loc`) in one tensor, one for each edited layer. Nothing
there names the weights that it was measured on, so both are compared with keys of the model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from lga_fast.editors._moments import Moments
from lga_fast.errors import DataError
from lga_fast.models import EditableModel

# Of log mean squares by key element, stored and measured on another text: of the same layer 0.4 to
# 0.9 (SmolLM2-135M, atlas), of another layer or model at most 0.1.
_LEAST_CORRELATION = 0.2
_TOLERANCE = 1e-3  # of a projection in float32: ‖P²x − Px‖ / ‖x‖


def find_moments(model: EditableModel, layers: Sequence[int], stats_dir: str) -> dict[int, Path]:
    """The files of second moments for these layers, as far as there are any.

    Raises:
        DataError: several files are of one layer.
    """
    root = Path(stats_dir).expanduser()
    names = {Path(str(name)).name for name in (model.name, model.source, model.hf.name_or_path)}
    homes = [
        f for f in root.iterdir() if any(f.name == n or f.name.endswith(f"_{n}") for n in names)
    ]
    files: dict[int, Path] = {}
    for layer in layers:
        module = model.weight_name(layer, model.family.edited).removesuffix(".weight")
        fitting = [file for home in homes for file in home.glob(f"*_stats/{module}_*_mom2*.npz")]
        if len(fitting) > 1:
            shown = ", ".join(str(file.relative_to(root)) for file in sorted(fitting))
            raise DataError(f"stats_dir {root}: {module}: expected one file, got {shown}; keep one")
        files |= dict.fromkeys([layer][: len(fitting)], *fitting)
    return files


def read_moments(files: Mapping[int, Path], measured: Mapping[int, Moments]) -> dict[int, Moments]:
    """The second moments in these files, by layer.

    Args:
        files: by layer.
        measured: of the same layers of the model, from a few tokens, to compare with.

    Raises:
        DataError: a file holds something else, or second moments of other keys.
    """
    return {layer: _read(file, measured[layer]) for layer, file in files.items()}


def _read(file: Path, measured: Moments) -> Moments:
    try:
        with np.load(file, allow_pickle=False) as data:
            total, tokens = torch.from_numpy(data["mom2.mom2"]).double(), int(data["mom2.count"])
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise DataError(
            f"{file}: expected mom2.mom2 and mom2.count, as EasyEdit's layer_stats writes them: "
            f"{error}"
        ) from None
    size = len(measured.second)
    if total.shape != (size, size) or tokens < 1 or not torch.isfinite(total).all():
        raise DataError(
            f"{file}: expected {size}x{size} finite numbers from one token or more, got "
            f"{list(total.shape)} from {tokens}; it is of another model, or damaged"
        )
    second = (total + total.T) / (2 * tokens)
    squares = [x.diagonal().clamp_min(1e-30).log() for x in (second, measured.second)]
    correlation = float(torch.corrcoef(torch.stack(squares))[0, 1])
    if not correlation >= _LEAST_CORRELATION:
        raise DataError(
            f"{file}: expected second moments of layer {measured.layer}'s keys, got others: the "
            f"mean squares of its {size} elements correlate by {correlation:.2f} with those of "
            f"{measured.tokens} tokens that the model has read now, expected "
            f"{_LEAST_CORRELATION} or more. It is of another model or layer."
        )
    with file.open("rb") as raw:
        checksum = hashlib.file_digest(raw, "sha256").hexdigest()
    about = {"corpus": str(file), "corpus_sha256": checksum, "tokens": tokens, "notes": []}
    return Moments(measured.layer, second, tokens, about)


def read_projection(
    path: str, layers: Sequence[int], moment: Moments
) -> Float64[Tensor, "d_in d_in"]:
    """A layer's projection P from a file of AlphaEdit's, which has one for each of `layers`.

    Raises:
        DataError: the file holds something else, no projection, or one that leaves the layer's
            frequent keys where they are, which it is meant to protect.
    """
    size = len(moment.second)
    expected = (len(layers), size, size)
    try:
        stored = torch.load(
            Path(path).expanduser(), map_location="cpu", weights_only=True, mmap=True
        )
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        short = str(error).splitlines()[0]
        raise DataError(f"P_loc {path}: expected a tensor of torch.save: {short}") from None
    if not isinstance(stored, Tensor) or stored.shape != expected:
        got = list(stored.shape) if isinstance(stored, Tensor) else type(stored).__name__
        raise DataError(
            f"P_loc {path}: expected {list(expected)}, a projection for each of the layers "
            f"{list(layers)}, got {got}; delete it to have it computed"
        )
    projection = stored[layers.index(moment.layer)].double()
    x = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    once = projection @ x
    wrong = max(float((y - once).norm() / x.norm()) for y in (projection @ once, projection.T @ x))
    if not wrong < _TOLERANCE:
        raise DataError(
            f"P_loc {path}: layer {moment.layer}: expected a projection, off by {wrong:.2g}"
        )
    free = float(projection.trace()) / size
    energy = float((projection * moment.second).sum() / moment.second.trace())
    if free < 1 and energy > free / 2:
        raise DataError(
            f"P_loc {path}: layer {moment.layer}: expected directions in which keys are small, got "
            f"{free:.0%} of all directions with {energy:.0%} of the keys' squares. It is of "
            f"another model, or not of layers {list(layers)}; delete it to have it computed."
        )
    return projection
