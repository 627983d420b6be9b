"""Model families: data only, one file per `config.model_type` and named like it.

To support a family, add its file: two lines where it is laid out as another one is. `lga-fast list`
and the contract tests then include it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lga_fast import registry


@dataclass(frozen=True)
class ModelFamily:
    """Where a family of decoders keeps its blocks and MLPs; paths are dotted module paths.

    Head and embedding are not listed: transformers' own getters return them.
    """

    blocks: str  # from the model: its ModuleList of decoder blocks
    matrices: Mapping[str, str]  # role -> path inside a block, in forward order
    # Inside a block: what mixes tokens, such as attention; a block has one or more of these.
    attention: str | tuple[str, ...]
    final_norm: str  # from the model
    # Inside a block: the module whose output an editor optimises; "": no module has the MLP's.
    mlp: str = "mlp"
    edited: str = "down"  # the role that editors rewrite
    # Inside a block that has them: fused experts. An MLP beside them has its own roles, shared_*.
    experts: str = ""
    others: tuple[str, ...] = ()  # inside a block: what is neither a mixer, nor MLP, nor router
    post_mlp_norm: bool = False  # a norm or a factor lies between MLP and residual stream
    packs: bool = True  # accepts a 4-axis mask, so that two answers can share one prompt
    # How rows are continued. padded: prompts of any length share a KV cache behind a mask; equal:
    # only prompts of one length, because a state would take up padding; plain: there is no cache.
    decoding: Literal["padded", "equal", "plain"] = "padded"
    # A block needs nothing of earlier ones but hidden states, and can do without those blocks.
    restarts: bool = True
    orientation: Literal["out_in", "in_out"] = "out_in"  # in_out: Conv1D, d_in × d_out

    @property
    def mixers(self) -> tuple[str, ...]:
        """The paths of `attention`."""
        return (self.attention,) if isinstance(self.attention, str) else self.attention


def find(config: Any) -> tuple[str, ModelFamily] | None:
    """Name and family of a transformers config: by its own model_type, else by its text decoder's.

    None if there is no file for either.
    """
    known = registry.names(__name__)
    for name in model_types(config):
        if name in known:
            return name, registry.member(__name__, name).FAMILY
    return None


def model_types(config: Any) -> list[str]:
    """The model's type, then its text decoder's if that differs."""
    return list(dict.fromkeys([config.model_type, config.get_text_config().model_type]))
