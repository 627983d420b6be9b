"""Mixtures of experts: the tokens routed to each expert, and the factors of its gradients.

transformers keeps a layer's experts in 3-axis parameters, which hooks on linear modules do not see.
So while taps listen a layer's experts run here, through transformers' experts interface: tokens
sorted by expert, one product per expert, outputs weighted by the router as ever. The routing is an
input; the router's own weights are not part of θ.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from lga_fast.errors import UnsupportedModel
from lga_fast.models.module_patching import patched_forwards
from lga_fast.undo import undone

Watch = Callable[[str, Callable[[], Tensor], Tensor, "Routing"], None]
_INTERFACE = ("num_experts", "has_gate", "has_bias", "is_transposed")


@dataclass(frozen=True)
class Routing:
    """Which tokens are routed to which experts: slots sorted by expert, then by token."""

    experts: int
    tokens: int
    slots: Int64[Tensor, " slot"]  # expert · tokens + token, ascending, on the CPU

    def gradients(
        self, a: Float[Tensor, "slot d_in"], d: Float[Tensor, "slot d_out"]
    ) -> Float[Tensor, "expert d_out d_in"]:
        """dᵀa of each expert's slots."""
        slots = self.rows(torch.tensor([[0, self.tokens]])).tolist()
        return torch.stack([d[at : at + n].T @ a[at : at + n] for at, n in slots])

    def rows(self, token_rows: Int64[Tensor, "pair 2"]) -> Int64[Tensor, "expert_pair 2"]:
        """Slots of each expert's tokens in these rows (start, length) of the token axis.

        All pairs of the first expert come first; the length is 0 where it has no token.
        """
        first = torch.arange(self.experts).unsqueeze(1) * self.tokens + token_rows[:, 0]
        begin, end = torch.searchsorted(
            self.slots, torch.stack([first, first + token_rows[:, 1]]), side="left"
        )
        return torch.stack([begin, end - begin], -1).flatten(0, 1)


class Experts:
    """The fused experts of one layer, in either orientation.

    Args:
        module: a module of transformers' experts interface.
        where: what errors call it.

    Raises:
        UnsupportedModel: the module does not have that interface.
    """

    all_run = False  # every expert on every token

    def __init__(self, module: Any, where: str) -> None:
        missing = [name for name in _INTERFACE if not hasattr(module, name)]
        if missing:
            raise UnsupportedModel(
                f"{where}: expected experts with transformers' experts interface, got a "
                f"{type(module).__name__} without {', '.join(missing)}. If they are quantised, "
                "load the model dequantised with transformers, e.g. with quantization_config="
                "Mxfp4Config(dequantize=True), and pass it: lga_fast.load(model, tokenizer=...)."
            )
        self.module = module
        self.count = int(module.num_experts)
        self.has_gate, self.has_bias = bool(module.has_gate), bool(module.has_bias)
        self.is_transposed = bool(module.is_transposed)
        self.is_concatenated = bool(getattr(module, "is_concatenated", True))

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles of an expert's matrices."""
        return ("gate", "up", "down") if self.has_gate else ("up", "down")

    def shape(self, role: str) -> tuple[int, int]:
        """(d_out, d_in) of one expert's matrix."""
        down = role == "down"
        stored = (self.module.down_proj if down else self._first()[0]).shape[1:]
        out, into = reversed(stored) if self.is_transposed else stored
        return (out if down or not self.has_gate else out // 2), into

    def size(self, role: str, part: str) -> int:
        """Elements of a role's weights or biases, of all experts together; 0: it has none."""
        if role not in self.roles or (part == "bias" and not self.has_bias):
            return 0
        out, into = self.shape(role)
        return self.count * out * (into if part == "weight" else 1)

    def forward(
        self,
        watch: Watch,
        hidden: Float[Tensor, "token d_model"],
        index: Int[Tensor, "token chosen"],
        weights: Float[Tensor, "token chosen"],
    ) -> Float[Tensor, "token d_model"]:
        """The module's output, with `watch` called for each linear map.

        `watch(role, inputs, outputs, routing)` gets the outputs [slot d_out] before anything reads
        them, and a function that returns the inputs [slot d_in].
        """
        module, (tokens, chosen) = self.module, index.shape
        token = torch.arange(tokens, device=index.device).repeat_interleave(chosen)
        slots, order = (index.flatten() * tokens + token).sort()
        sizes = index.flatten().bincount(minlength=self.count).tolist()
        routing = Routing(self.count, tokens, slots.cpu())
        # A repeat and a permutation, whose backward sums in a fixed order; that of an index with
        # repeated entries does not on several threads.
        slot_inputs = hidden.unsqueeze(1).expand(-1, chosen, -1).flatten(0, 1)[order]
        first = _linear(slot_inputs, sizes, *self._first(), self.is_transposed)
        detached = hidden.detach()
        watch("first", lambda: detached[token[order]], first, routing)
        inner = module._apply_gate(first) if self.has_gate else module.act_fn(first)
        bias = module.down_proj_bias if self.has_bias else None
        last = _linear(inner, sizes, module.down_proj, bias, self.is_transposed)
        detached_inner = inner.detach()
        watch("down", lambda: detached_inner, last, routing)
        if getattr(module, "has_post_expert_norm", False):  # from transformers 5.23 on
            last = module.post_expert_norm(last)
        weighted = last * weights.flatten()[order].unsqueeze(1)
        return weighted[order.argsort()].unflatten(0, (tokens, chosen)).sum(1).to(hidden.dtype)

    def split(self, d: Float[Tensor, "slot d_first"]) -> dict[str, Float[Tensor, "slot d_out"]]:
        """Gradients by role, of the outputs that gate and up have in one matrix."""
        if not self.has_gate:
            return {"up": d}
        halves = d.chunk(2, 1) if self.is_concatenated else (d[:, ::2], d[:, 1::2])
        return dict(zip(("gate", "up"), halves, strict=True))

    def weights(self) -> dict[str, nn.Parameter]:
        """The fused weights: that of gate and up, or of up alone, is `first`."""
        return {"first": self._first()[0], "down": self.module.down_proj}

    def by_role(self, name: str, gradient: Tensor) -> dict[str, Float[Tensor, "expert d_out d_in"]]:
        """Gradients by role, of that of a fused weight."""
        gradient = gradient.mT if self.is_transposed else gradient
        return self.split(gradient) if name == "first" else {name: gradient}

    def _first(self) -> tuple[nn.Parameter, Tensor | None]:
        name = "gate_up_proj" if self.has_gate else "up_proj"
        bias = getattr(self.module, f"{name}_bias") if self.has_bias else None
        return getattr(self.module, name), bias


class BatchedExperts(Experts):
    """Fused experts that each run on every token, as Llama 4's do: the router scales their inputs.

    Those of a token that is not sent to an expert are zero, and so is all that follows of them.
    """

    all_run = True

    def __init__(self, module: Any) -> None:
        self.module, self.count = module, int(module.num_experts)
        self.has_gate, self.has_bias = True, False
        self.is_transposed = self.is_concatenated = True

    def forward(  # type: ignore[override]
        self, watch: Watch, hidden: Float[Tensor, "expert_token d_model"]
    ) -> Float[Tensor, "expert_token d_model"]:
        """The module's output, as `Experts.forward`."""
        module, slots = self.module, torch.arange(len(hidden))
        routing, detached = Routing(self.count, len(hidden) // self.count, slots), hidden.detach()
        first = hidden.unflatten(0, (self.count, -1)).bmm(module.gate_up_proj).flatten(0, 1)
        watch("first", lambda: detached, first, routing)
        gate, up = first.chunk(2, 1)
        inner = up * module.act_fn(gate)
        detached_inner = inner.detach()
        last = inner.unflatten(0, (self.count, -1)).bmm(module.down_proj).flatten(0, 1)
        watch("down", lambda: detached_inner, last, routing)
        return last


def experts_of(module: Any, where: str) -> Experts:
    """The fused experts in a module, in whichever form; arguments and errors as of `Experts`."""
    own = getattr(module, "gate_up_proj", None), getattr(module, "down_proj", None)
    fused = all(isinstance(p, nn.Parameter) and p.ndim == 3 for p in own)
    alone = list(inspect.signature(type(module).forward).parameters) == ["self", "hidden_states"]
    if fused and alone and hasattr(module, "num_experts"):
        return BatchedExperts(module)
    return Experts(module, where)


@contextmanager
def watched(experts: Mapping[int, Experts], watch: Callable[[int], Watch]) -> Iterator[None]:
    """Inside the `with`, these layers' experts run by `Experts.forward`, each with its `watch`."""
    layers = {one.module: layer for layer, one in experts.items()}

    def run(module: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        if module not in layers:  # one of another layer, which has the same config
            return experts_of(module, "experts").forward(lambda *tap: None, *args, **kwargs)
        layer = layers[module]
        return experts[layer].forward(watch(layer), *args, **kwargs)

    name = f"lga_fast_{id(layers)}"
    batched = {m: partial(run, m) for m, i in layers.items() if type(experts[i]) is not Experts}
    configs = {id(module.config): module.config for module in layers if module not in batched}
    before = [(config, config._experts_implementation) for config in configs.values()]

    def undo() -> None:
        for config, implementation in before:
            config._experts_implementation = implementation
        ALL_EXPERTS_FUNCTIONS.pop(name, None)

    with undone(layers, undo):
        ALL_EXPERTS_FUNCTIONS[name] = run
        for config in configs.values():
            config._experts_implementation = name
        with patched_forwards(batched):
            yield


def _linear(
    x: Float[Tensor, "slot d_in"],
    sizes: Sequence[int],
    weight: Float[Tensor, "expert d_1 d_2"],
    bias: Float[Tensor, "expert d_out"] | None,
    transposed: bool,
) -> Float[Tensor, "slot d_out"]:
    """Each expert's slots through its matrix; matrices of experts without tokens are not read."""
    parts = [
        nn.functional.linear(
            part, weight[i].T if transposed else weight[i], None if bias is None else bias[i]
        )
        for i, part in enumerate(x.split(list(sizes)))
        if len(part)
    ]
    return torch.cat(parts)
