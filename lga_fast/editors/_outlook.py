"""What an editor could write at each layer, known before any edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from lga_fast import distributed, memory
from lga_fast.editors import _contexts, _keys
from lga_fast.editors._layer_editor import LayerEditor
from lga_fast.errors import EditError, named_layers, warn
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest


def outlook(
    model: EditableModel,
    layers: Sequence[int],
    requests: Sequence[EditRequest],
    editor: LayerEditor,
) -> dict[str, Float[np.ndarray, "request layer"]]:
    """How large a value's δ may become, and how much of it the editor would write.

    Runs the prompts once behind the editor's contexts. Where the editor weighs keys by their second
    moments, these are first measured at all layers in one pass over the text, and stored in the
    user's cache. Ranks share the requests.

    Args:
        model: left as it was.
        layers: that can be edited.
        requests: each with its subject's span.
        editor: with its options for this model.

    Returns:
        By layer, in the order of `layers`: `bound`, the largest ‖δ‖ that the clamp allows and
        Adam's steps reach, each of which moves a component by about `lr`; and `written`, as of
        `Solver`. NaN at layers that the editor refuses.

    Raises:
        EditError: second moments cannot be measured, or the editor refuses every layer.

    Warns:
        LgaFastWarning: it refuses some of them.
    """
    editor.measure(model, layers)
    contexts = _contexts.of(model, editor)
    editor = replace(editor, contexts=contexts)  # sampled once, for all layers
    ranks = distributed.current()
    mine = [requests[i] for i in ranks.contiguous_shard([len(r.prompt) for r in requests])]
    bound, written = (np.empty((len(mine), len(layers))) for _ in range(2))
    site = editor.sites_in(model)[0]
    steps = max(1, editor.steps - 1)  # the last loss is not followed
    refused: dict[int, str] = {}
    size = 4 * len(mine) * len(contexts) * sum(model.edited_shape)
    chunks = memory.chunk_by_size([size] * len(layers), model.memory.activation_budget // 4)
    for some in chunks if mine else ():
        at = [layers[i] for i in some]
        read = _keys.of_contexts(model, at, mine, contexts, site)
        for i, layer in zip(some, at, strict=True):
            keys, values = read.pop(layer)
            clamp = editor.clamp * values[:, 0].norm(dim=1).cpu().numpy()
            bound[:, i] = np.minimum(clamp, steps * editor.lr * values.shape[2] ** 0.5)
            try:
                written[:, i] = editor.prepare(model, layer).written(keys).cpu().numpy()
            except EditError as error:  # such as a null space without a direction
                bound[:, i] = written[:, i] = np.nan
                refused[layer] = str(error)
    bounds, parts, refusals = zip(*ranks.gather((bound, written, refused)), strict=True)
    refused = {layer: why for one in refusals for layer, why in one.items()}  # a share may be empty
    if len(refused) == len(layers):
        raise EditError(f"no layer can be edited; {refused[layers[0]]}")
    if refused:
        warn(f"{named_layers(list(refused))} cannot be edited so; {next(iter(refused.values()))}")
    return {"bound": np.concatenate(bounds), "written": np.concatenate(parts)}
