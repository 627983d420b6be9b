"""ModelStructure: where a decoder's blocks and MLP matrices are, and what shape they have."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Literal

import torch

from lga_fast.errors import EditError, UnsupportedModel
from lga_fast.models import fingerprint
from lga_fast.models.family_lookup import family_of
from lga_fast.models.module_lookup import SHARED, Key, find_blocks, find_matrices, mixer_of
from lga_fast.models.tensor_utils import shape_of


class ModelStructure:
    """What the family file says of a model; the only class that knows module paths.

    Args:
        hf: a transformers causal language model (also a multimodal wrapper around one).
        tokenizer: its tokenizer.
        name: what to call it in results.

    Raises:
        UnsupportedModel: no family file fits and none can be guessed, or a block does not hold what
            its family file says.
    """

    recomputes = False  # under gradient a block runs again, when what was around its run has ended

    def __init__(self, hf: Any, tokenizer: Any, name: str):
        self.hf = hf
        self.tokenizer = tokenizer
        self.name = name
        self.family_name, self.family, self.family_guess = family_of(hf)
        self.config = hf.config.get_text_config()
        self._blocks = find_blocks(hf, self.family, self.family_name)
        if not len(self._blocks):
            raise UnsupportedModel(f"{name!r}: expected a model with layers, its config says none")
        self._matrices, self._experts = find_matrices(self._blocks, self.family, self.family_name)
        self._mixers = [mixer_of(block, self.family) for block in self._blocks]

    @property
    def layers(self) -> int:
        """Number of decoder blocks."""
        return len(self._blocks)

    @property
    def device(self) -> torch.device:
        """Where the embedding lies, and so where token ids go."""
        return self.hf.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the hidden states."""
        return self.hf.get_input_embeddings().weight.dtype

    @property
    def dequantised_from(self) -> str | None:
        """How the weights were stored before they became ordinary ones, e.g. "Q4_1, Q8_0"."""
        return getattr(self.hf.config, "dequantised_from", None)

    @property
    def max_tokens(self) -> int:
        """Longest row of tokens the model takes."""
        return int(getattr(self.config, "max_position_embeddings", 0) or 1 << 30)

    @property
    def window(self) -> int:
        """Fewest tokens that any attention layer looks back on; 0: all there were, as a state."""
        if self.family.decoding != "padded":
            return 0
        sizes = [getattr(self.config, name, None) for name in ("sliding_window", "window_size")]
        return min([size for size in sizes if size] or [1 << 30])

    @property
    def takes_masks(self) -> bool:
        """Whether a forward obeys a mask of four axes [row 1 token key]."""
        if getattr(self.config, "alibi", False):  # which counts distances in a mask of two axes
            return False
        return self.family.packs and self.config._attn_implementation in ("eager", "sdpa")

    @property
    def restarts(self) -> bool:
        """Whether a block needs nothing of earlier ones but hidden states."""
        return self.family.restarts and not getattr(self.config, "num_kv_shared_layers", 0)

    @property
    def mlp_layers(self) -> list[int]:
        """Layers that have an MLP, be it of experts; others only mix tokens."""
        return sorted({layer for layer, _ in self._matrices} | self._experts.keys())

    @property
    def editable_layers(self) -> list[int]:
        """Layers that have the matrix which editors rewrite; experts are not edited."""
        return [layer for layer, role in self._matrices if role == self.family.edited]

    @property
    def last_reaching_layer(self) -> int:
        """The last layer that later tokens can read, in a mixer above it; -1: there is none.

        A mixer that takes the keys of an earlier layer reads nothing new.
        """
        own = self.layers - (getattr(self.config, "num_kv_shared_layers", 0) or 0)
        return max((layer for layer in range(own) if self.mixes(layer)), default=0) - 1

    def mixes(self, layer: int) -> bool:
        """Whether a block mixes tokens; some are an MLP alone."""
        return self._mixers[layer] is not None

    def part(self, layer: int, name: Literal["attention", "mlp", "block"]) -> Any:
        """A block, or the module in it whose output is its attention's or its MLP's.

        Raises:
            UnsupportedModel: the block has no such module.
        """
        block = self._blocks[layer]
        if name == "block":
            return block
        if name == "attention":
            if (mixer := self._mixers[layer]) is not None:
                return mixer
            raise UnsupportedModel(
                f"layer {layer} of {self.name!r}: expected a block with "
                f"{' or '.join(self.family.mixers)}, which mixes tokens, got a "
                f"{type(block).__name__} with: {', '.join(dict(block.named_children()))}"
            )
        if layer not in self.whole_mlps:
            parts = [self.family.matrices[role] for at, role in self._matrices if at == layer]
            parts += [self.family.experts] if layer in self._experts else []
            raise UnsupportedModel(
                f"{self.name!r}: expected one module whose output is that of the MLP in layer "
                f"{layer}, but it consists of {' and '.join(parts) or 'nothing'}. Layers can be "
                "scored, and selected by gradients"
            )
        return block.get_submodule(self.family.mlp)

    @property
    def whole_mlps(self) -> list[int]:
        """Layers in which one module has the MLP's output; see `part`."""
        inside = f"{self.family.mlp}."
        shared = [p for r, p in self.family.matrices.items() if r.startswith(SHARED)]
        whole = all(path.startswith(inside) for path in (self.family.experts, *shared))
        return [i for i in self.mlp_layers if whole or i not in self._experts]

    def matrix(self, layer: int, role: str) -> Any:
        """The linear module of `role` (see `ModelFamily.matrices`) in block `layer`.

        Raises:
            EditError: the block has none, e.g. because its experts are fused.
        """
        if (layer, role) in self._matrices:
            return self._matrices[layer, role]
        why = "its block does not have one"
        if layer not in self.mlp_layers:
            why = (
                "its block has no MLP, it only mixes tokens. Layers with one: "
                f"{', '.join(map(str, self.mlp_layers))}"
            )
        if layer in self._experts:
            why = (
                f"its MLP is {self._experts[layer].count} experts fused in {self.family.experts!r},"
                " and what a token runs through depends on the token. Layers can be scored and "
                "selected, experts cannot be edited"
            )
        raise EditError(f"layer {layer} of {self.name!r} has no {role!r} matrix of its own: {why}")

    def matrices(self) -> Collection[Key]:
        """Layer and role of all linear modules that `matrix` knows."""
        return self._matrices.keys()

    def weight_name(self, layer: int, role: str) -> str:
        """The model's own name of a matrix's weight, as a `WeightEdit` wants it; see `matrix`."""
        self.matrix(layer, role)
        return f"{self.family.blocks}.{layer}.{self.family.matrices[role]}.weight"

    def shape(self, layer: int, role: str) -> tuple[int, int]:
        """(d_out, d_in) of a matrix, or of each expert's, whichever way it is stored."""
        if (layer, role) not in self._matrices and layer in self._experts:
            return self._experts[layer].shape(role)
        return shape_of(self.matrix(layer, role))

    @property
    def edited_shape(self) -> tuple[int, int]:
        """(d_out, d_in) of the matrix that editors rewrite; the largest, where layers differ."""
        return max(self.shape(layer, self.family.edited) for layer in self.mlp_layers)

    def size(self, layer: int, name: str) -> int:
        """Elements of a scored parameter in a block, all experts together; 0: it has none."""
        role, part = name.split(".")
        if module := self._matrices.get((layer, role)):
            out, into = shape_of(module)
            has = part == "weight" or getattr(module, "bias", None) is not None
            return out * (into if part == "weight" else 1) * has
        return self._experts[layer].size(role, part) if layer in self._experts else 0

    @property
    def experts(self) -> int:
        """Most experts that a block has; 0: no mixture of experts."""
        return max([experts.count for experts in self._experts.values()], default=0)

    @property
    def mlp_width(self) -> int:
        """Values of one token at a block's MLP matrices: the wider side of each, of all it runs."""
        widths = [0] * self.layers
        for layer, role in self._matrices:
            widths[layer] += max(self.shape(layer, role))
        for layer, experts in self._experts.items():
            named = getattr(self.config, "num_experts_per_tok", None)  # others name it otherwise
            chosen = experts.count if experts.all_run else named or experts.count
            widths[layer] += chosen * sum(max(experts.shape(role)) for role in experts.roles)
        return max(widths)

    def parameter_names(self) -> list[str]:
        """Names of the scored parameters, e.g. up.weight, up.bias, down.weight."""
        of_experts = [role for experts in self._experts.values() for role in experts.roles]
        roles = dict.fromkeys([*self.family.matrices, *of_experts])
        names = [f"{role}.{part}" for role in roles for part in ("weight", "bias")]
        return [name for name in names if any(self.size(i, name) for i in range(self.layers))]

    def end_ids(self) -> set[int]:
        """Token ids that end a text."""
        end_ids: set[int] = set()
        owners = (getattr(self.hf, "generation_config", None), self.config, self.tokenizer)
        for owner in owners:
            ids = getattr(owner, "eos_token_id", None)
            end_ids.update(ids if isinstance(ids, list) else [] if ids is None else [ids])
        return end_ids.union(getattr(self.tokenizer, "turn_end_ids", ()))

    def fingerprint(self) -> str:
        """A short checksum of configuration and weights (64 values of every parameter)."""
        return fingerprint.fingerprint(self.config, self._samples(fingerprint.SAMPLED), self.device)

    def _samples(self, count: int) -> Iterable[fingerprint.Sample]:
        """Every parameter's name, shape, and so many of its values."""
        return fingerprint.samples(self.hf, count)
