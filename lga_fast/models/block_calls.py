"""What runs inside decoder blocks, and which parts of a block mix tokens: found by running them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from lga_fast.models.fingerprint import at_rest
from lga_fast.models.module_patching import hooked
from lga_fast.models.tensor_utils import grad_mode

TOKENS = 7
_NOISE = 64  # by how many of the dtype's epsilons a part may differ where its inputs do not


@dataclass(frozen=True)
class Call:
    """One call of a module in a forward."""

    path: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any

    @property
    def input(self) -> Tensor | None:
        """The first input, if it is a tensor."""
        inputs = [*self.args, *self.kwargs.values()]
        return inputs[0] if inputs and isinstance(inputs[0], Tensor) else None


def layer_types(hf: Any) -> list[str]:
    """What a config says of each layer, e.g. sliding_attention; empty where it says nothing."""
    return list(getattr(hf.config.get_text_config(), "layer_types", None) or [])


def one_of_each_kind(blocks: Iterable[nn.Module], types: Sequence[str]) -> list[int]:
    """The first layer of each kind: of the same modules, shapes and type of layer."""
    kinds: dict[Any, int] = {}
    for layer, block in enumerate(blocks):
        modules = tuple((path, type(module)) for path, module in block.named_modules())
        shapes = tuple((name, p.shape) for name, p in block.named_parameters())
        kinds.setdefault((modules, shapes, *types[layer : layer + 1]), layer)
    return list(kinds.values())


def last_of_each_kind(blocks: Iterable[nn.Module], types: Sequence[str]) -> list[int]:
    """The last layer of each kind; see `one_of_each_kind`."""
    from_end = [*blocks][::-1]
    return [len(from_end) - 1 - i for i in one_of_each_kind(from_end, types[::-1])]


def record_calls(hf: Any, blocks: str, layers: Collection[int]) -> list[Call]:
    """Calls in a forward of a short row: of modules in these blocks, all blocks, and outside."""
    calls: list[Call] = []
    insides = tuple(f"{blocks}.{layer}." for layer in layers)

    def record(path: str, *call: Any) -> None:
        calls.append(Call(path, *call))

    with ExitStack() as stack, grad_mode(False), at_rest(hf):
        for path, module in hf.named_modules():
            deep = path.startswith(f"{blocks}.") and path.count(".") > blocks.count(".") + 1
            if path and not (deep and not path.startswith(insides)):
                hook = partial(record, path)
                stack.enter_context(hooked(module.register_forward_hook, hook, with_kwargs=True))
        hf(input_ids=short_row(hf), use_cache=False)
    return calls


def short_row(hf: Any) -> Int[Tensor, "1 token"]:
    """A few token ids from the middle of the vocabulary.

    The first ones are special, and norms of an embedding that is zero, as that of padding is, may
    have no gradient.
    """
    embedding = hf.get_input_embeddings()
    count = embedding.num_embeddings
    ids = [(count // 2 + i) % count for i in range(TOKENS)]
    return torch.tensor([ids], device=embedding.weight.device)


def parts_of(block: nn.Module) -> Iterator[str]:
    """Paths of a block's top-level modules that have weights of two or more axes."""
    for name, child in block.named_children():
        if isinstance(child, (nn.ModuleList, nn.ModuleDict)):
            yield from (f"{name}.{path}" for path in parts_of(child))
        elif any(p.ndim > 1 for p in child.parameters()):
            yield name


@torch.no_grad()
def mixes(call: Call) -> bool:
    """Whether a module's output at later tokens depends on its inputs at earlier ones."""
    generator = torch.Generator().manual_seed(0)

    def changed(value: Any) -> Any:
        axis = _token_axis(value)
        if axis is None or not value.is_floating_point():
            return value
        spread = 4 * value.double().std() + 1e-6
        if not spread < 1e6:  # a mask
            return value
        other = value.clone()
        early = other.narrow(axis, 0, TOKENS // 2)
        early += torch.randn(early.shape, generator=generator).to(early) * spread.to(early)
        return other

    with at_rest(call.module):
        kwargs = {name: changed(value) for name, value in call.kwargs.items()}
        new = first_tensor(call.module(*map(changed, call.args), **kwargs))
        old = first_tensor(call.module(*call.args, **call.kwargs))
    axis = _token_axis(old)
    return axis is None or differ(old, new, axis, slice(TOKENS // 2, None))


@torch.no_grad()
def looks_ahead(hf: Any) -> bool:
    """Whether logits depend on later tokens."""
    ids = short_row(hf)
    with at_rest(hf):
        old, new = (hf(input_ids=row, use_cache=False).logits for row in (ids, _other_end(ids)))
    return differ(old, new, 1, slice(TOKENS // 2))


def differ(old: Tensor, new: Tensor, axis: int, tokens: slice) -> bool:
    """Whether values differ at some tokens by more than rounding."""
    limit = _NOISE * torch.finfo(old.dtype).eps
    old, new = (x.movedim(axis, 0)[tokens].float() for x in (old, new))
    return not float((old - new).norm()) <= limit * float(old.norm())


def first_tensor(output: Any) -> Tensor:
    """A module's output, taken out of what holds it."""
    while not isinstance(output, Tensor):
        output = output[0]
    return output


def _token_axis(value: Any) -> int | None:
    """The axis that has an entry for each token; the last one holds values."""
    sizes = value.shape[:-1] if isinstance(value, Tensor) else ()
    return next((axis for axis, size in enumerate(sizes) if size == TOKENS), None)


def _other_end(ids: Int[Tensor, "1 token"]) -> Int[Tensor, "1 token"]:
    """The same row, reversed from its middle on."""
    half = TOKENS // 2
    return torch.cat([ids[:, :half], ids[:, half:].flip(1)], 1)
