"""The exhaustive search: every request edited at every layer, and what each edit did."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
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
_ACCOUNT = ("seconds_editing", "seconds_measuring", "forwards", "peak_bytes")
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
    run = Sweeping(
        model,
        requests,
        editor,
        layers,
        metrics,
        out=out,
        preset=preset,
        config=config,
        **options,
    )
    with progress.bar("sweeping layers", len(run.layers), show_progress) as advance:
        advance(len(run.layers) - len(run.missing()))
        for layer in run.missing():
            run.add(layer, run.at(layer))
            advance(1)
    return run.result()


class Sweeping:
    """A sweep that is being made, in memory and in its file; arguments are those of `sweep`."""

    def __init__(
        self,
        model: EditableModel,
        requests: Sequence[EditRequest | dict[str, Any]],
        editor: str,
        layers: Sequence[int] | None,
        metrics: Sequence[str],
        *,
        out: Path | None,
        **how: Any,
    ) -> None:
        given = easyedit_requests(requests)
        self.requests = [request for request in given if request.subject_span is not None]
        self.dropped = tuple(
            Dropped(request.case_id, "its subject is not in its prompt")
            for request in given
            if request.subject_span is None
        )
        if not self.requests:
            raise ScoringError(
                f"sweep: none of {len(given)} requests has its subject in its prompt"
            )
        self.layers = list(range(model.layers)) if layers is None else sorted(set(layers))
        if not self.layers or not set(self.layers) <= set(range(model.layers)):
            raise ScoringError(
                f"layers {self.layers}: expected some of 0 to {model.layers - 1}, which are those "
                f"of {model.name}"
            )
        self._edits = LayerEdits(model, editor, metrics, **how)
        made = provenance.of(model)
        text = dump(self.requests).encode(errors="surrogatepass")
        self.configuration: dict[str, Any] = {
            **{name: made[name] for name in _DECIDING},
            "editor": editor,
            "config": self._edits.about["config"],
            "metrics": list(metrics),
            "layers": self.layers,
            "requests_sha256": hashlib.sha256(text).hexdigest(),
        }
        self._made = made | self._edits.about | {"data": asdict(given.provenance)}
        self.acc: dict[str, np.ndarray] = {}
        self.before: dict[str, np.ndarray] = {}
        self.runs: list[dict[str, Any]] = []  # an account of each layer that is done
        self.notes: dict[str, list[int]] = {}  # what the editor said, and at which layers
        self._asked = False
        self.out = out
        if out is not None and (found := _sweep_file.read(out, self.configuration)) is not None:
            arrays, about = found
            self.runs, self.notes = about["runs"], about["notes"]
            self.acc = dict(zip(about["names"], arrays["acc"], strict=True))
            self.before = dict(zip(about["names"], arrays["before"], strict=True))

    def missing(self) -> list[int]:
        """Layers that are to be done."""
        done = {run["layer"] for run in self.runs}
        return [layer for layer in self.layers if layer not in done]

    def at(self, layer: int) -> Done:
        """Edit all requests at one layer."""
        self._ask()
        return self._edits.at(layer, self.requests)

    def _ask(self) -> None:
        """Ask the unedited model, which every layer's edits are compared with."""
        if not self._asked:
            self.before, self._asked = columns(self._edits.before(self.requests)), True

    def add(self, layer: int, done: Done) -> None:
        """Put in one layer, whichever process did it, and write all."""
        self._ask()
        for name, column in columns(done.values).items():
            empty = np.full((len(column), len(self.layers)), np.nan)
            self.acc.setdefault(name, empty)[:, self.layers.index(layer)] = column
        account = {name: value for name, value in asdict(done).items() if name in _ACCOUNT}
        self.runs.append({"layer": layer, "commit": provenance.commit()} | account)
        for note in done.notes:
            self.notes.setdefault(note, []).append(layer)
        if self.out is not None:
            case_ids = [request.case_id for request in self.requests]
            about = {"configuration": self.configuration, "case_ids": case_ids}
            about |= {"names": list(self.acc), "runs": self.runs, "notes": self.notes}
            acc, before = ([values[n] for n in self.acc] for values in (self.acc, self.before))
            _sweep_file.write(self.out, np.array(acc), np.array(before), about)

    def result(self) -> Sweep:
        """What there is; layers that are missing are NaN."""
        case_ids = tuple(request.case_id for request in self.requests)
        made = self._made | {"configuration": self.configuration}
        made |= {"runs": self.runs, "notes": self.notes}
        return Sweep(self.acc, self.before, case_ids, tuple(self.layers), self.dropped, made)
