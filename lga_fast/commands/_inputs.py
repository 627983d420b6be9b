"""What the options of commands name: the model, the edit requests, and how to edit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lga_fast import datasets, distributed, registry
from lga_fast.commands import _options
from lga_fast.datasets import LoadedEdits
from lga_fast.editors import Preset
from lga_fast.errors import RanksError
from lga_fast.loading import Weights, load
from lga_fast.models import EditableModel


def model(
    source: str,
    device: str | None,
    dtype: str | None,
    memory_budget: str | None,
    weights: Weights = "resident",
) -> EditableModel:
    """The model of `_options.model`; transformers says nothing while it loads.

    Of several ranks each has a model of its own, on a CUDA device of its own where there are some.
    """
    import transformers

    ranks = distributed.current()
    if ranks.size > 1 and device == "auto":
        raise RanksError(
            f"--device auto spreads one model over all devices, and there are {ranks.size} "
            "processes: start lga-fast without torchrun, or leave --device out for a device each"
        )
    if ranks.size > 1 and device in (None, "cuda"):
        device = ranks.device

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return load(source, device=device, dtype=dtype, weights=weights, memory_budget=memory_budget)


def edits(data: str) -> LoadedEdits:
    """The requests of `_options.data`: a file, NAME=FILE, or a data set that comes along."""
    name, _, file = data.rpartition("=")
    if name:
        return datasets.load_edits(name, file)
    if data in registry.names("lga_fast.datasets"):
        return datasets.load_edits(data)
    return datasets.load_edits(datasets.of_file(data), data)


def proxy_facts(requests: LoadedEdits, proxy: int, seed: int) -> LoadedEdits:
    """So many of the requests, drawn with `seed`; all of them where there are no more."""
    if proxy >= len(requests):
        return requests
    facts = datasets.split(requests, proxy, seed).proxy
    return LoadedEdits(facts, requests.report, requests.provenance)


def editing(
    editor: str, preset: Preset, config: Path | None, seed: int, fields: dict[str, Any]
) -> dict[str, Any]:
    """How to edit, of `_options.editing` and the editors' fields; all but the layer.

    The run's seed is the editor's too only if it was given: else a file may say another.
    """
    how = _options.given(fields) | {"editor": editor, "preset": preset, "config": config}
    kind = registry.member("lga_fast.editors", editor).Editor
    if _options.asked("seed") and "seed" in kind.__dataclass_fields__:
        how["seed"] = seed
    return how
