"""Taps: inputs of linear maps and gradients of their outputs, delivered once and then released.

For a linear map with inputs `a` and output gradients `d` the weight's gradient is `dᵀa`
(arXiv 2602.20207 §5.1 needs only inner products of those). Taps deliver the two factors during the
backward, so the weights stay frozen and no gradient of a weight's size is formed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lga_fast.errors import TapError
from lga_fast.models.module_lookup import Key
from lga_fast.models.module_patching import hooked
from lga_fast.models.moe import Experts, Routing, watched

_INFERENCE = (
    "gives no gradient to its input. Is it quantised in a form for inference only? bitsandbytes "
    "converts 4-bit weights to one on some CPUs; after loading, set support_avx512bf16_for_cpu = "
    "False on its modules"
)


@dataclass(frozen=True)
class Tap:
    """Factors of one matrix's gradient; rows of a batch follow each other on the token axis.

    For an expert's matrix that axis holds the slots of `routing`, of all experts of the layer.
    """

    layer: int
    matrix: str
    a: Float[Tensor, "token d_in"]
    d: Float[Tensor, "token d_out"]
    routing: Routing | None = None


class Taps:
    """Listens to matrices for one forward and `backwards` backward passes.

    `on_tap` is called inside the backward, last layer first, and must not keep the tensors.
    Modules must be frozen: the graph then starts at the first tapped output, and autograd does no
    work below the lowest tap.

    Args:
        modules: linear modules.
        on_tap: see above.
        backwards: backward passes that follow. 0: none, but the forward runs as if there were one.
        experts: of the layers that have them.

    Raises:
        TapError: a module ran twice in one forward, or a gradient did not arrive until exit.
    """

    def __init__(
        self,
        modules: Mapping[Key, nn.Module],
        on_tap: Callable[[Tap], None],
        backwards: int = 1,
        experts: Mapping[int, Experts] | None = None,
    ):
        self._modules = modules
        self._experts = experts or {}
        self._on_tap = on_tap
        self._backwards = backwards
        self._pending: dict[Key, tuple[Callable[[Tensor], None], int]] = {}  # for gradients
        self._handles: list[RemovableHandle] = []  # of hooks on outputs

    @contextmanager
    def listening(self) -> Iterator[None]:
        """The forward and its backward passes happen inside; once only."""
        with ExitStack() as stack:
            stack.callback(self._end)
            for key, module in self._modules.items():
                of_module = partial(self._of_module, key)
                stack.enter_context(hooked(module.register_forward_hook, of_module))
            if self._experts:
                stack.enter_context(
                    watched(self._experts, lambda layer: partial(self._of_experts, layer))
                )
            yield
            if pending := list(self._pending):
                raise TapError(
                    f"{_name(pending[0])} and {len(pending) - 1} other taps got no gradient: was "
                    "backward() called inside the `with`, outside torch.no_grad()?"
                )

    def _of_module(
        self, key: Key, module: nn.Module, args: tuple[Tensor, ...], output: Tensor
    ) -> None:
        layer, matrix = key
        a = args[0].detach()
        if args[0].requires_grad and not output.requires_grad:
            raise TapError(f"{_name(key)}: its {type(module).__name__} {_INFERENCE}")

        def taps(d: Tensor) -> None:
            self._on_tap(Tap(layer, matrix, a.flatten(0, -2), d.flatten(0, -2)))

        self._listen(key, output, taps)

    def _of_experts(
        self, layer: int, role: str, a: Callable[[], Tensor], output: Tensor, routing: Routing
    ) -> None:
        split = self._experts[layer].split

        def taps(d: Tensor) -> None:
            inputs = a()
            for matrix, part in (split(d) if role == "first" else {role: d}).items():
                self._on_tap(Tap(layer, matrix, inputs, part, routing))

        self._listen((layer, f"{role} of the experts"), output, taps)

    def _listen(self, key: Key, output: Tensor, taps: Callable[[Tensor], None]) -> None:
        if key in self._pending:
            raise TapError(
                f"{_name(key)} ran twice before its gradient came: modules shared between layers, "
                "or a second forward before the backward, cannot be scored"
            )
        if not output.requires_grad:
            output.requires_grad_()
        if not self._backwards:
            return
        self._pending[key] = taps, self._backwards
        # The hook lives as long as the graph, so it refers to the key only, not to the inputs.
        self._handles.append(output.register_hook(partial(self._gradient, key)))

    def _end(self) -> None:
        self._pending.clear()
        for handle in self._handles:
            handle.remove()

    def _gradient(self, key: Key, d: Tensor | None) -> None:
        # A backward after the end of the `with` must find nothing to do rather than half a tap.
        taps, remaining = self._pending.pop(key, (None, 0))
        if taps is None:
            return
        if remaining > 1:
            self._pending[key] = taps, remaining - 1
        if d is None:
            raise TapError(f"{_name(key)} got no gradient: a module after it {_INFERENCE}")
        taps(d)


def _name(key: Key) -> str:
    return f"layer {key[0]}, matrix {key[1]!r}"
