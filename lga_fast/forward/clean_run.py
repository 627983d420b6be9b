"""The clean run of causal tracing: the model without a change, recorded for runs with one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lga_fast.forward.partial_forward import RecordedForward
from lga_fast.models.editable import EditableModel
from lga_fast.models.module_patching import hooked, refuse_streams, tuple_length, unwrap_output

Site = Literal["attention", "mlp", "block"]  # the module whose output is changed


@dataclass(frozen=True)
class Readout:
    """Token rows, where each is changed, and the positions whose logits are read."""

    ids: Int[Tensor, "row token"]  # padded on the right
    changed: Int[Tensor, " row"]  # position of the changed token
    row: Int[Tensor, " position"]
    token: Int[Tensor, " position"]  # none lies before its row's changed token

    def only(self, rows: Int[Tensor, " kept"]) -> Readout:
        """These rows, given in ascending order, and the positions in them."""
        stays = torch.isin(self.row, rows)
        row = torch.searchsorted(rows, self.row[stays])
        return Readout(self.ids[rows], self.changed[rows], row, self.token[stays])

    def repeated(self, times: int) -> Readout:
        """The rows so many times, one after another."""
        row = self.row + len(self.ids) * torch.arange(times).unsqueeze(1)
        ids, changed = self.ids.repeat(times, 1), self.changed.repeat(times)
        return Readout(ids, changed, row.flatten(), self.token.repeat(times))

    def positions_from(self, start: Int[Tensor, " row"]) -> Int[Tensor, "row position"]:
        """Positions from `start` to the last one that is read."""
        width = int((self.token - start[self.row]).max()) + 1
        return (start.unsqueeze(1) + torch.arange(width)).clamp(max=self.ids.shape[1] - 1)


class CapturedOutput(NamedTuple):
    """A module's output at chosen positions of the clean run."""

    value: Float[Tensor, "row position d"]
    form: int  # length of the tuple that held the output; 0: it was a tensor

    def only(self, rows: Int[Tensor, " kept"], width: int) -> CapturedOutput:
        """The first `width` positions of these rows."""
        return CapturedOutput(self.value[rows.to(self.value.device), :width], self.form)


@dataclass
class CleanRun:
    """The recording of one clean run, for changes at some of its layers."""

    start: Int[Tensor, " row"]  # position of the first recorded token
    recording: RecordedForward | None
    captured: dict[nn.Module, CapturedOutput] = field(default_factory=dict)  # from `start` on
    # Input and output of each layer's edited matrix at the changed tokens.
    keys: dict[int, Float[Tensor, "row d_in"]] = field(default_factory=dict)
    outputs: dict[int, Float[Tensor, "row d_out"]] = field(default_factory=dict)


@contextmanager
def capture(
    model: EditableModel,
    layers: Sequence[int],
    sites: Sequence[Site],
    reads: Readout,
    positions: Int[Tensor, "row position"],
    into: CleanRun,
) -> Iterator[None]:
    """Hooks that record outputs of the layers' sites, and both sides of their edited matrices."""

    def pick(hidden: Tensor, at: Int[Tensor, "row position"]) -> Float[Tensor, "row position d"]:
        refuse_streams(hidden, reads.ids.shape)
        rows = hidden.detach().reshape(*reads.ids.shape, -1)  # OPT's MLP sees them as one axis
        return rows.gather(1, at.to(hidden.device).unsqueeze(2).expand(-1, -1, rows.shape[2]))

    def save_output(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        into.captured[module] = CapturedOutput(
            pick(unwrap_output(output), positions), tuple_length(output)
        )

    def save_matrix(layer: int, module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        changed = reads.changed.unsqueeze(1)
        into.keys[layer] = pick(args[0], changed).squeeze(1)
        into.outputs[layer] = pick(output, changed).squeeze(1)

    with ExitStack() as hooks:
        for layer in layers:
            matrix = model.matrix(layer, model.family.edited)
            hook = partial(save_matrix, layer)
            hooks.enter_context(hooked(matrix.register_forward_hook, hook))
            mixes = model.mixes(layer)  # an MLP alone has nothing to replay before it
            for module in (model.part(layer, s) for s in sites if mixes or s != "attention"):
                hooks.enter_context(hooked(module.register_forward_hook, save_output))
        yield
