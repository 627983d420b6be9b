"""Model families: data only, one file per `config.model_type`, found by that name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lga_fast import registry


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
    experts: str = ""  # inside a block that has them: fused experts, in place of gate, up, down
    post_mlp_norm: bool = False  # a norm or a factor lies between MLP and residual stream
    packs: bool = True  # takes a mask of four axes, so that two answers can share one prompt
    orientation: Literal["out_in", "in_out"] = "out_in"  # in_out: Conv1D, d_in × d_out


def find(config: Any) -> tuple[str, ModelFamily] | None:
    """Name and family of a transformers config: by its own model_type, else by its text decoder's.

    None where no file of this folder has the model's type as its name.
    """
    known = registry.names(__name__)
    for name in types_of(config):
        if name in known:
            return name, registry.member(__name__, name).FAMILY
    return None


def types_of(config: Any) -> list[str]:
    """The model's type, and its text decoder's where that is another."""
    return list(dict.fromkeys([config.model_type, config.get_text_config().model_type]))
