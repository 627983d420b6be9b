"""Model families: data only, one file per `config.model_type`, found by that name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lga_fast import registry
from lga_fast.errors import UnsupportedModel


@dataclass(frozen=True)
class ModelFamily:
    """Where a family of decoders keeps what lga_fast needs; all paths are dotted module paths.

    Head and embedding are not listed: transformers' own getters find them.
    """

    blocks: str  # from the model to its ModuleList of decoder blocks
    matrices: Mapping[str, str]  # role -> path inside a block, in forward order
    attention: str  # inside a block
    final_norm: str  # from the model
    mlp: str = "mlp"  # inside a block: the module whose output an editor optimises
    edited: str = "down"  # the role that editors rewrite
    post_mlp_norm: bool = False  # a norm lies between the MLP's output and the residual stream
    packs: bool = True  # takes a mask of four axes, so that two answers can share one prompt
    orientation: Literal["out_in", "in_out"] = "out_in"  # in_out: Conv1D, d_in × d_out


def find(config: Any) -> tuple[str, ModelFamily]:
    """Name and family of a transformers config: by its own model_type, else by its text decoder's.

    Raises:
        UnsupportedModel: no file of this folder has the model's type as its name.
    """
    types = list(dict.fromkeys([config.model_type, config.get_text_config().model_type]))
    known = registry.names(__name__)
    for name in types:
        if name in known:
            return name, registry.member(__name__, name).FAMILY
    raise UnsupportedModel(
        f"no family file for model_type {' or '.join(map(repr, types))}. "
        f"Known: {', '.join(known)}. To add one, write models/families/{types[0]}.py with "
        "FAMILY = ModelFamily(blocks=..., "
        "matrices={'up': ..., 'down': ...}, attention=..., final_norm=...)."
    )
