"""One pass over a text that measures the second moments of keys, of many layers at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from lga_fast import memory, progress
from lga_fast.editors import _cost_messages
from lga_fast.errors import NonFinite
from lga_fast.forward.cpu_fast_paths import fast_gelu
from lga_fast.models import EditableModel, ForwardJob
from lga_fast.models.module_patching import EndOfForward, hooked
from lga_fast.models.tensor_utils import grad_mode, padded

KEYS_AT_ONCE = 1024  # converted to float64


def measure(
    model: EditableModel,
    layers: Sequence[int],
    rows: Sequence[list[int]],
    batch_tokens: int,
    show: bool | None,
) -> dict[int, Float64[Tensor, "d_in d_in"]]:
    """`Σ k kᵀ / N` of every layer in one pass; nothing above the highest layer runs.

    Args:
        model: whose keys.
        layers: in ascending order.
        rows: token ids.
        batch_tokens: most tokens of one forward (but at least a row).
        show: None shows a bar on a terminal only.

    Raises:
        NonFinite: keys of a layer are not finite.
    """
    sums: dict[int, Tensor] = {}
    not_padding: Tensor | None = None  # of the batch that runs [row·token]

    def add(layer: int, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if not_padding is None:  # no batch: a block runs once to show the form of its output
            return
        keys = args[0].flatten(0, -2)[not_padding.to(args[0].device)]
        for part in keys.split(KEYS_AT_ONCE):
            part = part.to(home, torch.float64)
            sums.setdefault(layer, part.new_zeros(2 * part.shape[1:])).addmm_(part.T, part)
        if layer == layers[-1]:
            advance(len(keys))
            raise EndOfForward

    @contextmanager
    def batch_of(tokens: Tensor) -> Iterator[None]:
        nonlocal not_padding
        not_padding = tokens
        try:
            with suppress(EndOfForward):
                yield
        finally:
            not_padding = None

    total = sum(map(len, rows))
    size = sum(8 * model.shape(layer, model.family.edited)[1] ** 2 for layer in layers)
    fits = model.device.type == "cuda" and 2 * size < model.memory.activation_budget
    home = model.device if fits else torch.device("cpu")
    jobs = []
    for batch in memory.batches(dict(enumerate(map(len, rows))), batch_tokens):
        ids = padded([rows[i] for i in batch])
        tokens = torch.cat([torch.arange(ids.shape[1]) < len(rows[i]) for i in batch])
        inputs = {"input_ids": ids.to(model.device), "use_cache": False}
        jobs.append(ForwardJob(inputs, within=partial(batch_of, tokens)))
    with ExitStack() as stack:
        for layer in layers:
            matrix = model.matrix(layer, model.family.edited)
            stack.enter_context(hooked(matrix.register_forward_pre_hook, partial(add, layer)))
        for context in (model.frozen(), grad_mode(False), fast_gelu(model.hf)):
            stack.enter_context(context)
        advance = stack.enter_context(progress.bar("reading keys", total, show))
        _run(model, jobs, layers[-1] + 1, show)
    for layer in layers:
        if not torch.isfinite(sums[layer].diagonal()).all():  # sums of squares: none is left out
            raise NonFinite(
                f"layer {layer}: keys are not finite on this text; {model.why_not_finite()}"
            )
    return {layer: (s + s.T).div_(2 * total).cpu() for layer, s in sums.items()}


def _run(model: EditableModel, jobs: Sequence[ForwardJob], layers: int, show: bool | None) -> None:
    """Run the first `layers`, reading streamed ones once for as many jobs as memory holds."""
    sizes = [job.inputs["input_ids"].numel() for job in jobs]
    groups = model.groups(sizes, model.memory.held_tokens)
    if model.streamed:
        below = model.sweep_bytes() - model.sweep_bytes(layers)
        _cost_messages.log_reads("second moments of keys", len(groups), below, show)
    for group in groups:
        model.run_batches([jobs[i] for i in group], layers)
