"""Find the layer of a language model where a fact is best edited, without a single edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lga_fast.datasets import load_edits
    from lga_fast.editors import edit, edit_each
    from lga_fast.evaluation.evaluate import evaluate
    from lga_fast.evaluation_records import CaseResult, Evaluation
    from lga_fast.layer_scores import LayerScores
    from lga_fast.loading import load
    from lga_fast.models import EditableModel
    from lga_fast.records import EditRequest, LayerRanking, Probe
    from lga_fast.scoring import score_layers
    from lga_fast.selectors import select_layer
    from lga_fast.weight_edit import WeightEdit

__version__ = "0.1.0"

_HOMES = {
    "load": "lga_fast.loading",
    "EditableModel": "lga_fast.models",
    "load_edits": "lga_fast.datasets",
    "score_layers": "lga_fast.scoring",
    "select_layer": "lga_fast.selectors",
    "edit": "lga_fast.editors",
    "edit_each": "lga_fast.editors",
    "evaluate": "lga_fast.evaluation.evaluate",
    "EditRequest": "lga_fast.records",
    "Probe": "lga_fast.records",
    "LayerScores": "lga_fast.layer_scores",
    "CaseResult": "lga_fast.evaluation_records",
    "Evaluation": "lga_fast.evaluation_records",
    "LayerRanking": "lga_fast.records",
    "WeightEdit": "lga_fast.weight_edit",
}

__all__ = [  # noqa: RUF022 - in the order of use
    "load",
    "load_edits",
    "score_layers",
    "select_layer",
    "edit",
    "edit_each",
    "evaluate",
    "CaseResult",
    "EditRequest",
    "EditableModel",
    "Evaluation",
    "LayerRanking",
    "LayerScores",
    "Probe",
    "WeightEdit",
]


def __getattr__(name: str) -> Any:
    # `import lga_fast` loads nothing; torch and transformers come with the first name used.
    if name not in _HOMES:
        raise AttributeError(f"module 'lga_fast' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
