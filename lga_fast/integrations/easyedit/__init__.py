"""EasyEdit's `BaseEditor` and hparams: a script runs after changing the import of `easyeditor`.

_hparams.py    its configs; _loading.py the model and the layers that they ask for
_requests.py   its arguments as request dicts; _editor.py edits and measures them
_metrics.py    what is measured, in EasyEdit's shape
"""

from __future__ import annotations

from typing import Any

from lga_fast.errors import UnknownName
from lga_fast.integrations.easyedit._editor import BaseEditor
from lga_fast.integrations.easyedit._hparams import (
    AlphaEditHyperParams,
    EMMETHyperParams,
    HyperParams,
    MEMITHyperParams,
    PMETHyperParams,
    R_ROMEHyperParams,
    ROMEHyperParams,
)
from lga_fast.integrations.easyedit._loading import select_layers
from lga_fast.integrations.easyedit._metrics import summary_metrics

__all__ = [
    "AlphaEditHyperParams",
    "BaseEditor",
    "EMMETHyperParams",
    "HyperParams",
    "MEMITHyperParams",
    "PMETHyperParams",
    "ROMEHyperParams",
    "R_ROMEHyperParams",
    "select_layers",
    "summary_metrics",
]


def __getattr__(name: str) -> Any:
    if name.lower().endswith(("hyperparams", "hparams", "editor", "dataset")):
        raise UnknownName(
            f"{name}: lga_fast has no such part of EasyEdit. It has {', '.join(__all__)}; import "
            "others from easyeditor, or remove what the script does not use."
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
