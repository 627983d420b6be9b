"""Second moments of keys over a text: what an edit must leave alone (ROME, arXiv 2202.05262)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from lga_fast import provenance
from lga_fast.editors import _corpus
from lga_fast.editors._moment_pass import measure
from lga_fast.errors import DataError, EditError
from lga_fast.files import replacing
from lga_fast.models import EditableModel
from lga_fast.parsing import of_type, parse_json

KIND = "lga_fast.Moments"  # the one metadata key: with several, a file's bytes would vary
ROW_TOKENS = 512  # longer contexts cost attention and change the moments little


@dataclass(frozen=True, eq=False)
class Moments:
    """The second moment of one layer's keys, `C = (1/N) Σ k kᵀ` (arXiv 2202.05262, at eq. 2).

    A key is the input of the matrix that editors rewrite, at any token of the text; the mean is
    not subtracted. Over that text `mean(kᵀ C⁻¹ k) = d_in`. MEMIT (arXiv 2210.07229) uses it too.
    """

    layer: int
    second: Float64[Tensor, "d_in d_in"]
    tokens: int
    provenance: dict[str, Any]

    def solve(self, keys: Float[Tensor, "request d_in"]) -> Float64[Tensor, "request d_in"]:
        """`C⁻¹ k` of every key, by Cholesky on the CPU; of `C + jitter·I` where C is singular.

        Raises:
            EditError: the keys have another width, or even `C + jitter·I` cannot be solved.
        """
        if keys.ndim != 2 or keys.shape[1] != len(self.second):
            raise EditError(f"keys: expected [request {len(self.second)}], got {list(keys.shape)}")
        wide = keys.detach().to("cpu", torch.float64)
        return torch.cholesky_solve(wide.T, self._factor[0]).T.contiguous()

    @property
    def jitter(self) -> float:
        """Added to C's diagonal to solve with it: 0, or 1e-6 · tr(C) / d_in where C is singular."""
        return self._factor[1]

    @property
    def condition(self) -> float:
        """Estimate, from below, of the condition number of what `solve` solves with."""
        return self._factor[2]

    def report(self) -> dict[str, Any]:
        """What an edit's provenance should say about these moments; all values are plain JSON."""
        names = ("corpus", "corpus_sha256", "tokens", "tokens_asked", "notes")
        about = {name: self.provenance[name] for name in names if name in self.provenance}
        return about | {"jitter": self.jitter, "condition": self.condition}

    @cached_property
    def _factor(self) -> tuple[Tensor, float, float]:
        """Cholesky factor, jitter, condition."""
        small = 1e-6 * float(self.second.trace()) / len(self.second)
        for jitter in (0.0, small):
            matrix = self.second.clone()
            matrix.diagonal().add_(jitter)
            lower, failed = torch.linalg.cholesky_ex(matrix)
            condition = float("inf") if failed else _condition(matrix, lower)
            # Rounding can let a singular matrix pass; no digit of a solution would be right.
            if condition < 1 / torch.finfo(torch.float64).eps:
                return lower, jitter, condition
        raise EditError(
            f"layer {self.layer}: the second moment of {self.tokens} keys is not positive "
            f"definite, not even with {small:.3g} on its diagonal; use another text"
        )


def moments(
    model: EditableModel,
    layers: Sequence[int],
    *,
    corpus: str | Path | None = None,
    tokens: int | None = None,
    cache: str | Path | None = None,
    batch_tokens: int = 4096,
    show_progress: bool | None = None,
) -> dict[int, Moments]:
    """Second moments of the keys of `layers`, all in one pass over a text; the model stays as is.

    Args:
        model: whose keys; nothing above the highest layer runs.
        layers: which blocks.
        corpus: a file of documents with blank lines between (one a line where there are none), or
            a folder of documents, hidden ones left out; read in an order drawn with a fixed seed,
            in rows that begin as the tokenizer begins a text. None: the atlas's general text.
        tokens: how many to read; None: 10 · d_in, the fewest used in the literature. If the text
            has fewer, all are read and `provenance["notes"]` says so.
        cache: folder of earlier and new results, e.g. `cache_folder("moments")`; None: nothing is
            stored.
        batch_tokens: most tokens of one forward (but at least a row).
        show_progress: None shows a bar on a terminal only.

    Raises:
        EditError: a layer is out of range, or keys are not finite.
        DataError: the text cannot be read, or a file in `cache` is not what its name says.
    """
    layers = sorted(set(layers))
    about, files, name, documents = _identified(model, layers, corpus, tokens, cache)
    by_layer = {n: _load(f, about | {"layer": n}) for n, f in files.items() if f.exists()}
    missing = [layer for layer in layers if layer not in by_layer]
    if missing:
        wanted, width = about["tokens_asked"], model.shape(layers[0], model.family.edited)[1]
        rows = _corpus.rows_of(model, documents, wanted, about["row_tokens"])
        about |= {**_corpus.counts(rows, wanted, width), "corpus": name}
        about = {**provenance.of(model), **about}
        for layer, second in measure(model, missing, rows, batch_tokens, show_progress).items():
            by_layer[layer] = Moments(layer, second, about["tokens"], about | {"layer": layer})
            if files:
                _save(by_layer[layer], files[layer])
    return {layer: by_layer[layer] for layer in layers}


def missing(
    model: EditableModel,
    layers: Sequence[int],
    corpus: str | Path | None,
    tokens: int | None,
    cache: Path,
) -> list[int]:
    """Those of the layers whose moments the folder `cache` does not have."""
    if not layers:
        return []
    _, files, *_ = _identified(model, sorted(layers), corpus, tokens, cache)
    return [layer for layer, file in files.items() if not file.exists()]


def _identified(
    model: EditableModel,
    layers: list[int],
    corpus: str | Path | None,
    tokens: int | None,
    cache: str | Path | None,
) -> tuple[dict[str, Any], dict[int, Path], str, list[str]]:
    """What decides the moments, their files by layer if there is a cache; the text and its name."""
    if not layers or layers[0] < 0 or layers[-1] >= model.layers:
        raise EditError(f"expected layers from 0 to {model.layers - 1}, got {layers}")
    wanted = 10 * model.shape(layers[0], model.family.edited)[1] if tokens is None else tokens
    if wanted < 1:
        raise EditError(f"expected 1 or more tokens, got {tokens}")
    name, checksum, documents = _corpus.read(corpus)
    about: dict[str, Any] = {
        "corpus_sha256": checksum,
        "tokenizer": _corpus.tokenizer_checksum(model, documents),
        "model_fingerprint": model.fingerprint(),
        "tokens_asked": wanted,
        "dtype": str(model.dtype)[6:],
        "row_tokens": min(model.max_tokens, ROW_TOKENS),
        "matrix": model.family.edited,
    }
    in_name = ("model_fingerprint", "corpus_sha256", "tokenizer", "tokens_asked", "dtype")
    stem = "-".join(str(about[key])[:16] for key in in_name)
    files = {n: Path(cache) / f"{stem}-{n}.safetensors" for n in layers} if cache else {}
    return about, files, name, documents


def _condition(matrix: Float64[Tensor, "d_in d_in"], lower: Float64[Tensor, "d_in d_in"]) -> float:
    """Largest over smallest eigenvalue, each by power iteration; never too large."""
    x = y = torch.randn(len(matrix), 1, generator=torch.Generator().manual_seed(0)).to(matrix)
    for _ in range(20):
        x = nn.functional.normalize(matrix @ x, dim=0)
        y = nn.functional.normalize(torch.cholesky_solve(y, lower), dim=0)
    return float((x.T @ matrix @ x) * (y.T @ torch.cholesky_solve(y, lower)))


def _load(file: Path, expected: dict[str, Any]) -> Moments:
    try:
        with safe_open(file, framework="pt") as data:
            about = of_type(parse_json((data.metadata() or {})[KIND]), dict, KIND)
            of_type(about["tokens"], int, "tokens")
            second = data.get_tensor("second")
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{file}: not a file of moments ({error}); delete it") from None
    wrong = [name for name in expected if about.get(name) != expected[name]]
    if wrong:
        diff = ", ".join(f"{n} {about.get(n)!r} instead of {expected[n]!r}" for n in wrong)
        raise DataError(f"{file}: holds moments of {diff}; delete it or use another cache folder")
    square = second.ndim == 2 and second.shape[0] == second.shape[1]
    if not square or second.dtype != torch.float64 or not torch.isfinite(second).all():
        raise DataError(f"{file}: expected a square of finite float64 numbers; delete it")
    return Moments(expected["layer"], second, about["tokens"], about)


def _save(moments: Moments, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    # as bytes, because safetensors' own way to write a file leaves another one where it is killed
    data = save({"second": moments.second}, {KIND: json.dumps(moments.provenance)})
    with replacing(file) as temporary:
        temporary.write_bytes(data)
