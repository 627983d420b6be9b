"""Which weights of a model an edit changes, and whether they can be changed."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lga_fast.errors import EditError
from lga_fast.models.structure import ModelStructure
from lga_fast.models.tensor_utils import whole_weight
from lga_fast.weight_edit import WeightEdit

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def find_weights(model: ModelStructure, edit: WeightEdit) -> dict[str, Tensor]:
    """The weights that `edit` would change, detached, as they are stored.

    Raises:
        EditError: as for `find_matrices`, or a weight is not in memory.
    """
    weights = {}
    for name, module in find_matrices(model, edit).items():
        weights[name] = _plain_weight(name, module).detach()
        if weights[name].is_inference() and not torch.is_inference_mode_enabled():
            raise EditError(  # torch would change it and then raise, also when it is put back
                f"edit of {name}: expected a weight that can be changed, got one that was made "
                "under torch.inference_mode(). Load the model outside, or edit it inside"
            )
        if weights[name].is_meta:
            raise EditError(
                f"edit of {name}: expected a weight in memory, got one on 'meta' (offloaded)"
            )
    return weights


def find_matrices(model: ModelStructure, edit: WeightEdit) -> dict[str, nn.Module]:
    """The modules whose weights `edit` would change, by the names of those weights.

    Raises:
        EditError: the model has no such matrix, its shape differs, or it cannot be changed.
    """
    places = {model.weight_name(*place): place for place in model.matrices()}
    modules = {}
    for name, delta in edit.deltas.items():
        if name not in places:
            known = [n for n, (_, role) in places.items() if role == model.family.edited]
            raise EditError(
                f"edit of {name}: expected an MLP matrix of {model.name!r}, such as "
                f"{' ... '.join(known[:: max(1, len(known) - 1)]) or '(none: experts are fused)'}. "
                "Was the edit made for another kind of model?"
            )
        if delta.shape != model.shape(*places[name]):
            raise EditError(
                f"edit of {name}: expected (d_out, d_in) {model.shape(*places[name])} as in "
                f"{model.name!r}, got {delta.shape}"
            )
        modules[name] = model.matrix(*places[name])
        _plain_weight(name, modules[name])
    return modules


def check_editable(model: ModelStructure, layers: Iterable[int]) -> None:
    """Refuse, before any work, layers whose edited matrix is not a plain floating-point parameter.

    Raises:
        EditError: the weight is quantised or computed, or experts are fused.
    """
    for layer in layers:
        name = model.weight_name(layer, model.family.edited)
        _plain_weight(name, model.matrix(layer, model.family.edited))


def _plain_weight(name: str, module: nn.Module) -> nn.Parameter:
    weight = whole_weight(module)
    if weight is None or weight.dtype not in _FLOATS:
        other = dict(module.named_parameters(recurse=False)).get("weight")
        got = "a weight that is computed"
        if other is not None:
            got = f"a {type(other).__name__} of {other.dtype}"
        raise EditError(
            f"edit of {name}: expected a parameter of {', '.join(map(str, _FLOATS))}, got {got} in "
            f"a {type(module).__name__}. Load the model without quantisation, or pass a copy "
            "returned by its dequantize(); as it is, its layers can be scored and selected"
        )
    return weight
