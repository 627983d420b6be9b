"""What ROME and R-ROME share: one rank-1 change per request, each solved on the ones before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lga_fast import provenance
from lga_fast.editors import _contexts, _keys, _moments, _values
from lga_fast.errors import EditError
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest
from lga_fast.weight_edit import LowRank, WeightEdit

# Steps and weight decay by family, from the peers' configs (EasyEdit; unified-model-editing for
# GPT-NeoX); the second pair serves families that no peer lists.
_PEERS = {
    **dict.fromkeys(("gpt2", "gptj", "gpt_neox"), (20, 0.5)),
    **dict.fromkeys(("llama", "mistral", "qwen2"), (25, 1e-3)),
}
_OTHERS = (25, 1e-3)

Solve = Callable[[_values.Value, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def solve(
    model: EditableModel,
    requests: Sequence[EditRequest],
    layer: int,
    name: str,
    options: Any,
    update: Solve,
) -> WeightEdit:
    """Concatenate the requests' rank-1 changes.

    Args:
        model: left as it was.
        requests: edited one after another, each on the model that the ones before left.
        layer: of the matrix that the family's `edited` names.
        name: of the editor.
        options: the editor's dataclass.
        update: left and right factor from value, keys, outputs (first row: the bare prompt) and u.
    """
    steps, decay = _PEERS.get(model.family_name, _OTHERS)
    how = _values.Optimisation(
        steps=options.steps or steps,
        weight_decay=decay if options.weight_decay is None else options.weight_decay,
        lr=options.lr,
        kl_factor=options.kl_factor,
        clamp=options.clamp,
    )
    made = provenance.of(model)  # before anything is applied: the fingerprint is the original's
    contexts = options.contexts or _contexts.generate(model, options.seed)
    parameter = model.weight_name(layer, model.family.edited)
    moment = None
    if options.mom2_adjustment:  # of the original model, also for the requests that follow
        moment = _moments.moments(model, [layer], corpus=options.corpus)[layer]
    parts: list[LowRank] = []
    losses = []
    with ExitStack() as applied:
        for i, request in enumerate(requests):
            value = _values.optimise(model, layer, request, contexts, how)
            keys, outputs = _read(model, layer, request, contexts)
            left, right = update(value, keys, outputs, direction(keys, moment))
            parts.append(_checked(request, left, right))
            losses.append(value.losses)
            if i < len(requests) - 1:
                so_far = WeightEdit({parameter: parts[-1]}, provenance.of(model))
                applied.enter_context(model.edited(so_far))
    whole = LowRank(torch.cat([p.left for p in parts], 1), torch.cat([p.right for p in parts], 1))
    made |= {
        "editor": name,
        "layer": layer,
        "config": asdict(options) | asdict(how),
        "config_source": "peers" if model.family_name in _PEERS else "lga_fast's default",
        "contexts": list(contexts),
        "requests": [asdict(request) for request in requests],
        "losses": losses,
        "second_moment": moment and moment.report(),
    }
    return WeightEdit({parameter: whole}, made)


def direction(
    keys: Float[Tensor, "row d_in"], moment: _moments.Moments | None = None
) -> Float[Tensor, " d_in"]:
    """The unit vector u along C⁻¹ k̄ (ROME), or along the mean key k̄ itself (EasyEdit)."""
    mean = keys.mean(0)
    if moment is not None:
        mean = moment.solve(mean.unsqueeze(0))[0].to(mean)
    return mean / mean.norm()


def _read(
    model: EditableModel, layer: int, request: EditRequest, contexts: Sequence[str]
) -> tuple[Tensor, Tensor]:
    found = [_keys.answer_row(model, context, request) for context in contexts]
    return _keys.read_keys(
        model, layer, _keys.rows_of([(row.ids[: row.start], at) for row, at in found])
    )


def _checked(request: EditRequest, left: Tensor, right: Tensor) -> LowRank:
    if not (torch.isfinite(left).all() and torch.isfinite(right).all()):
        raise EditError(
            f"request {request.case_id!r}: the update is not finite: the key of the bare prompt is "
            "at right angles to the mean key, or the value overflowed"
        )
    return LowRank(left.float().cpu().unsqueeze(1), right.float().cpu().unsqueeze(1))
