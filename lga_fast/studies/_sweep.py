"""The exhaustive search: every request edited at every layer, and what each edit did."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from lga_fast import editors, progress, provenance
from lga_fast.datasets import easyedit_requests
from lga_fast.datasets.jsonl import dump
from lga_fast.errors import ScoringError
from lga_fast.models import EditableModel
from lga_fast.records import Dropped, EditRequest
from lga_fast.studies import _sweep_file
from lga_fast.studies._layer_edits import Done, LayerEdits, columns

# What of the provenance decides the results, so that no file may mix it.
_DECIDING = (
    *("model_fingerprint", "family", "dtype", "device", "kernel"),
    *("lga_fast", "torch", "transformers"),
)
METRICS = ("rewrite", "rephrase", "locality")


@dataclass(frozen=True)
class Sweep:
    """What an edit of each sample at each layer did; studies and brute force are reductions of it.

    `acc[name]` holds one value per sample and layer, such as `rewrite` or `locality/neighborhood`;
    NaN where the sample has nothing to measure it with. The axis `layer` follows `layers`.
    """

    acc: dict[str, Float[np.ndarray, "sample layer"]]
    before: dict[str, Float[np.ndarray, " sample"]]  # of the unedited model
    case_ids: tuple[str, ...]
    layers: tuple[int, ...]
    dropped: tuple[Dropped, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    def values(self, name: str) -> Float[np.ndarray, "sample layer"]:
        """`acc[name]`.

        Raises:
            ScoringError: no sample has such a value.
        """
        there = [n for n, values in self.acc.items() if not np.isnan(values).all()]
        if name not in there:
            raise ScoringError(
                f"sweep: no sample has a value {name!r}; they have: {', '.join(there)}"
            )
        return self.acc[name]

    def of(self, case_ids: Sequence[str]) -> Sweep:
        """The same sweep with these samples only, in this order.

        Raises:
            ScoringError: one of them is not in it.
        """
        place = {case_id: i for i, case_id in enumerate(self.case_ids)}
        if missing := [c for c in case_ids if c not in place]:
            raise ScoringError(f"sweep: {len(missing)} cases are not in it, first {missing[0]!r}")
        rows = [place[case_id] for case_id in case_ids]
        return replace(
            self,
            acc={name: values[rows] for name, values in self.acc.items()},
            before={name: values[rows] for name, values in self.before.items()},
            case_ids=tuple(case_ids),
        )

    def seconds(self) -> float:
        """What editing and measuring took, all layers together."""
        runs = self.provenance["runs"]
        return sum(run["seconds_editing"] + run["seconds_measuring"] for run in runs)


def sweep(
    model: EditableModel,
    requests: Sequence[EditRequest | dict[str, Any]],
    editor: str = "r_rome",
    layers: Sequence[int] | None = None,
    metrics: Sequence[str] = METRICS,
    *,
    out: Path | None = None,
    preset: editors.Preset = "easyedit",
    config: editors.Config | None = None,
    show_progress: bool | None = None,
    **options: Any,
) -> Sweep:
    """Edit every request at every layer, each edit alone, and measure what it did.

    The requests of a layer are solved together and measured under virtual edits; the unedited
    model is asked once. The model stays as it was.

    Args:
        model: see `lga_fast.load`.
        requests: the facts; those without a subject in their prompt are dropped, and listed.
        editor: a member of `lga_fast.editors`.
        layers: which ones; default: all.
        metrics: members of `lga_fast.metrics`.
        out: a file (.npz) that is replaced as a whole after every layer; a run of the same
            configuration goes on where the last one stopped.
        preset: see `lga_fast.edit`.
        config: see `lga_fast.edit`.
        show_progress: None shows a bar on a terminal only.
        options: of the editor.

    Raises:
        DataError: `out` holds something else, or a sweep of another configuration.
        ScoringError: no request can be edited, or there is no such layer.

    Example:
        >>> made = sweep(model, facts, out=Path("sweep.npz"))
        >>> made.acc["rewrite"].mean(0)
        array([1.  , 0.99, 0.94, ...])
    """
    given = easyedit_requests(requests)
    used = [request for request in given if request.subject_span is not None]
    dropped = tuple(
        Dropped(request.case_id, "its subject is not in its prompt")
        for request in given
        if request.subject_span is None
    )
    if not used:
        raise ScoringError(f"sweep: none of {len(given)} requests has its subject in its prompt")
    chosen = tuple(range(model.layers)) if layers is None else tuple(sorted(set(layers)))
    if not chosen or not set(chosen) <= set(range(model.layers)):
        raise ScoringError(
            f"layers {chosen}: expected some of 0 to {model.layers - 1}, which are those of "
            f"{model.name}"
        )
    edits = LayerEdits(model, editor, metrics, preset=preset, config=config, **options)
    made = provenance.of(model)
    configuration = {
        **{name: made[name] for name in _DECIDING},
        "editor": editor,
        "config": edits.about["config"],
        "metrics": list(metrics),
        "layers": list(chosen),
        "requests_sha256": hashlib.sha256(dump(used).encode(errors="surrogatepass")).hexdigest(),
    }
    table = _Table([request.case_id for request in used], configuration, out)
    with progress.bar("sweeping layers", len(chosen), show_progress) as advance:
        advance(len(table.runs))
        if missing := table.missing():
            table.before = columns(edits.before(used))
        for layer in missing:
            table.add(layer, edits.at(layer, used))
            advance(1)
    made |= edits.about | {"configuration": configuration, "data": asdict(given.provenance)}
    made |= {"runs": table.runs, "notes": table.notes}
    return Sweep(table.acc, table.before, tuple(table.case_ids), chosen, dropped, made)


class _Table:
    """A sweep that is being filled, in memory and in its file."""

    def __init__(
        self, case_ids: Sequence[str], configuration: Mapping[str, Any], out: Path | None
    ) -> None:
        self.case_ids, self.configuration, self.out = list(case_ids), configuration, out
        self.layers: list[int] = configuration["layers"]
        self.acc: dict[str, np.ndarray] = {}
        self.before: dict[str, np.ndarray] = {}
        self.runs: list[dict[str, Any]] = []  # an account of each layer that is done
        self.notes: dict[str, list[int]] = {}  # what the editor said, and at which layers
        if out is not None and (found := _sweep_file.read(out, configuration)) is not None:
            arrays, about = found
            self.runs, self.notes = about["runs"], about["notes"]
            self.acc = dict(zip(about["names"], arrays["acc"], strict=True))
            self.before = dict(zip(about["names"], arrays["before"], strict=True))

    def missing(self) -> list[int]:
        """Layers that are to be done."""
        done = {run["layer"] for run in self.runs}
        return [layer for layer in self.layers if layer not in done]

    def add(self, layer: int, done: Done) -> None:
        """Put in one layer, and write all."""
        for name, column in columns(done.values).items():
            empty = np.full((len(column), len(self.layers)), np.nan)
            self.acc.setdefault(name, empty)[:, self.layers.index(layer)] = column
        self.runs.append(
            {
                "layer": layer,
                "commit": provenance.commit(),
                "seconds_editing": done.seconds_editing,
                "seconds_measuring": done.seconds_measuring,
                "forwards": done.forwards,
            }
        )
        for note in done.notes:
            self.notes.setdefault(note, []).append(layer)
        if self.out is not None:
            about = {"configuration": self.configuration, "case_ids": self.case_ids}
            about |= {"names": list(self.acc), "runs": self.runs, "notes": self.notes}
            acc, before = ([values[n] for n in self.acc] for values in (self.acc, self.before))
            _sweep_file.write(self.out, np.array(acc), np.array(before), about)
