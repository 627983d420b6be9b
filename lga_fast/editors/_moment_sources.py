"""Where an editor's second moments come from: a folder of stored ones, the cache, or a text."""

from __future__ import annotations

from collections.abc import Sequence

from lga_fast import memory
from lga_fast.editors import _moments, _stored_statistics
from lga_fast.editors._layer_editor import LayerEditor
from lga_fast.editors._moments import Moments
from lga_fast.errors import warn
from lga_fast.files import cache_folder
from lga_fast.models import EditableModel

_TOKENS_TO_COMPARE = 2048  # of a text, with stored moments


def of(model: EditableModel, layers: Sequence[int], editor: LayerEditor) -> dict[int, Moments]:
    """An editor's moments, by its options; those measured are stored in the user's cache.

    Warns:
        LgaFastWarning: `stats_dir` has nothing of some of the layers.
    """
    files = {}
    if editor.stats_dir is not None:
        files = _stored_statistics.find_moments(model, layers, editor.stats_dir)
    measured = _measured(model, list(files), editor, _TOKENS_TO_COMPARE) if files else {}
    stored = _stored_statistics.read_moments(files, measured)
    missing = [layer for layer in layers if layer not in stored]
    if missing and editor.stats_dir is not None:
        warn(
            f"stats_dir {editor.stats_dir}: no second moments of {model.name}'s layers {missing}; "
            f"they are measured on {editor.corpus or 'a general text that lga_fast has'}"
        )
    return stored | (_measured(model, missing, editor, editor.mom2_tokens) if missing else {})


def store(model: EditableModel, layers: Sequence[int], editor: LayerEditor) -> None:
    """Measure what `of` would not find on disk, in as few passes as memory allows."""
    if editor.stats_dir is not None:
        stored = _stored_statistics.find_moments(model, layers, editor.stats_dir)
        layers = [layer for layer in layers if layer not in stored]
    missing = _moments.missing(
        model, layers, editor.corpus, editor.mom2_tokens, cache_folder("moments")
    )
    size = 8 * model.edited_shape[1] ** 2
    for some in memory.chunk_by_size([size] * len(missing), model.memory.store_budget):
        few = [missing[place] for place in some]
        _measured(model, few, editor, editor.mom2_tokens)


def _measured(
    model: EditableModel, layers: Sequence[int], editor: LayerEditor, tokens: int | None
) -> dict[int, Moments]:
    return _moments.moments(
        model, layers, corpus=editor.corpus, tokens=tokens, cache=cache_folder("moments")
    )
