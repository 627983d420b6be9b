"""EditableModel: a Hugging Face decoder; the only class that touches module paths."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lga_fast.errors import EditError
from lga_fast.forward import decoding
from lga_fast.models import fingerprint
from lga_fast.models.edit_stack import Applied, EditStack
from lga_fast.models.family_lookup import family_of
from lga_fast.models.module_lookup import Key, find_blocks, find_matrices, shape_of
from lga_fast.models.taps import Tap, Taps
from lga_fast.weight_edit import WeightEdit


class EditableModel:
    """A causal language model whose MLP matrices can be tapped.

    Args:
        hf: a transformers causal language model (also a multimodal wrapper around one).
        tokenizer: its tokenizer.
        name: what to call it in results.
        memory_budget: bytes that a run may use beside the weights; None: half of what is free.
        editing: by editor, options that suit this model.

    Raises:
        UnsupportedModel: no family file fits and none can be guessed, or a block does not hold what
            its family file says.
    """

    placement = ""  # why the weights are in memory or are not, where `load` chose
    source: str | None = None  # folder or Hub id that it was loaded from
    recomputes = False  # under gradient a block runs again, when what was around its run has ended

    def __init__(
        self,
        hf: Any,
        tokenizer: Any,
        name: str,
        memory_budget: int | None = None,
        editing: Mapping[str, Mapping[str, Any]] | None = None,
    ):
        self.hf = hf
        self.tokenizer = tokenizer
        self.name = name
        self.memory_budget = memory_budget
        self.editing = editing or {}
        self.family_name, self.family, self.family_guess = family_of(hf)
        self.config = hf.config.get_text_config()
        self._blocks = find_blocks(hf, self.family, self.family_name)
        self._matrices, self._experts = find_matrices(self._blocks, self.family, self.family_name)
        self._applier = EditStack()

    # -- facts ---------------------------------------------------------------------------------
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
    def max_tokens(self) -> int:
        """Longest row of tokens the model takes."""
        return int(getattr(self.config, "max_position_embeddings", 0) or 1 << 30)

    @property
    def window(self) -> int:
        """Fewest tokens that any attention layer looks back on."""
        sizes = [getattr(self.config, name, None) for name in ("sliding_window", "window_size")]
        return min([size for size in sizes if size] or [1 << 30])

    @property
    def takes_masks(self) -> bool:
        """Whether a forward obeys a mask of four axes [row 1 token key]."""
        if getattr(self.config, "alibi", False):  # which counts distances in a mask of two axes
            return False
        return self.family.packs and self.config._attn_implementation in ("eager", "sdpa")

    def part(self, layer: int, name: Literal["attention", "mlp", "block"]) -> Any:
        """A block, or the module in it whose output is its attention's or its MLP's."""
        block = self._blocks[layer]
        return block if name == "block" else block.get_submodule(getattr(self.family, name))

    def matrix(self, layer: int, role: str) -> Any:
        """The linear module of `role` (see `ModelFamily.matrices`) in block `layer`.

        Raises:
            EditError: the block has none, e.g. because its experts are fused.
        """
        if (layer, role) in self._matrices:
            return self._matrices[layer, role]
        why = "its block does not have one"
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
        chosen = getattr(self.config, "num_experts_per_tok", 0)
        widths = [0] * self.layers
        for layer, role in self._matrices:
            widths[layer] += max(self.shape(layer, role))
        for layer, experts in self._experts.items():
            widths[layer] += chosen * sum(max(experts.shape(role)) for role in experts.roles)
        return max(widths)

    def parameter_names(self) -> list[str]:
        """Names of the scored parameters, e.g. up.weight, up.bias, down.weight."""
        names = [f"{role}.{part}" for role in self.family.matrices for part in ("weight", "bias")]
        return [name for name in names if any(self.size(i, name) for i in range(self.layers))]

    def end_ids(self) -> set[int]:
        """Token ids that end a text."""
        found: set[int] = set()
        owners = (getattr(self.hf, "generation_config", None), self.config, self.tokenizer)
        for owner in owners:
            ids = getattr(owner, "eos_token_id", None)
            found.update(ids if isinstance(ids, list) else [] if ids is None else [ids])
        return found

    def fingerprint(self) -> str:
        """A short checksum of configuration and weights (64 values of every parameter)."""
        return fingerprint.fingerprint(self.config, self._samples(fingerprint.SAMPLED), self.device)

    def _samples(self, count: int) -> Iterable[fingerprint.Sample]:
        """Every parameter's name, shape, and so many of its values."""
        return fingerprint.samples(self.hf, count)

    # -- editing -------------------------------------------------------------------------------
    def edited(self, edit: WeightEdit, *, force: bool = False) -> AbstractContextManager[Applied]:
        """Carry `edit` inside the `with`; after it every bit of the weights is as before.

        Also after an exception or Ctrl-C, nested for sequential edits, and without gradients. What
        else changed the edited weights meanwhile (training) is undone too. A graph taken before or
        inside that needs a weight of another moment is refused by autograd, never silently wrong.

        Args:
            edit: what to add; other parameters are not touched.
            force: take an edit solved on other weights, or one that is in effect already.

        Raises:
            EditError: the edit is not of these weights (see `lga_fast.models.edit_stack`), has
                other shapes, or would leave a weight that is not finite.
        """
        return self._applier.edited(self, edit, force)

    def apply(self, edit: WeightEdit, *, force: bool = False) -> Applied:
        """Add `edit` for good, all of it or nothing; arguments and errors as for `edited`.

        Returns:
            How much of the change the weights' dtype could hold.
        """
        return self._applier.apply(self, edit, force)

    def carries(self, edit: WeightEdit) -> bool:
        """Whether `edit` is in effect, for good or inside a `with`."""
        return self._applier.carries(edit)

    # -- running -------------------------------------------------------------------------------
    def frozen(self) -> AbstractContextManager[None]:
        """Evaluation mode and no gradients for any parameter; both put back on exit."""
        return fingerprint.at_rest(self.hf)

    def taps(
        self,
        on_tap: Callable[[Tap], None],
        backwards: int = 1,
        layers: Collection[int] | None = None,
    ) -> Taps:
        """Factors of every MLP matrix's gradient, or of these layers' only; see `Taps`."""
        chosen = range(self.layers) if layers is None else layers
        matrices = {key: module for key, module in self._matrices.items() if key[0] in chosen}
        experts = {layer: found for layer, found in self._experts.items() if layer in chosen}
        return Taps(matrices, on_tap, backwards, experts)

    def logits_at(
        self,
        input_ids: Int[Tensor, "row token"],
        rows: Int[Tensor, " position"],
        tokens: Int[Tensor, " position"],
        on_hidden: Callable[[Tensor], Tensor] = lambda hidden: hidden,
        **inputs: Any,
    ) -> tuple[Float[Tensor, "position vocab"], Any]:
        """Logits at the given places only, and the model's whole output.

        The head sees nothing but those places, and whatever the model does to its logits
        afterwards (softcap, scale) happens as ever: the model's own forward runs. `on_hidden` gets
        the hidden states of those places [position d_model] and returns what the head shall see.
        """

        def gather(head: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
            hidden = args[0]
            picked = hidden[rows.to(hidden.device), tokens.to(hidden.device)]
            return (on_hidden(picked).unsqueeze(0),)

        handle = self.hf.get_output_embeddings().register_forward_pre_hook(gather)
        try:
            output = self.hf(input_ids=input_ids, **inputs)
        finally:
            handle.remove()
        return output.logits[0], output

    def greedy(self, prompts: Sequence[Sequence[int]], lengths: Sequence[int]) -> list[list[int]]:
        """Greedy continuations of one batch of prompts, with a KV cache.

        Args:
            prompts: token ids, special tokens included.
            lengths: how many tokens each row may get; a row ends before an end-of-text token.
        """
        return self.greedy_each([(prompts, lengths)])[0]

    def greedy_each(self, batches: Sequence[decoding.Batch]) -> list[list[list[int]]]:
        """`greedy` of several batches."""
        return decoding.greedy(self, batches, decoding.one_by_one)
