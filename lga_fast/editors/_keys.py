"""Keys of layers at subjects' last tokens, read without an optimisation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lga_fast import memory
from lga_fast.editors._value_problem import answer_row
from lga_fast.forward.clean_run import CleanRun, Readout, Site
from lga_fast.forward.cpu_fast_paths import fast_gelu
from lga_fast.forward.patched_forward import FullForward
from lga_fast.models import EditableModel
from lga_fast.models.tensor_utils import padded, wide
from lga_fast.records import EditRequest

KeysAndOutputs = tuple[
    Float[Tensor, "request context d_in"], Float[Tensor, "request context d_out"]
]

_BATCH_TOKENS = 4096  # of one forward


def of_contexts(
    model: EditableModel,
    layers: Sequence[int],
    requests: Sequence[EditRequest],
    contexts: Sequence[str],
) -> dict[int, KeysAndOutputs]:
    """By layer, what its edited matrix reads and outputs behind every context.

    Args:
        model: read as it is now.
        layers: that share the runs.
        requests: each with its subject's span.
        contexts: texts put before the prompt, or around it.
    """
    runs = list(_runs(model, layers, (), requests, contexts))
    places = torch.tensor([place for batch, _ in runs for place in batch]).argsort()
    shape = (len(requests), len(contexts))

    def ordered(parts: list[Tensor]) -> Tensor:
        return wide(torch.cat(parts)[places.to(parts[0].device)]).unflatten(0, shape)

    return {
        n: (ordered([run.keys[n] for _, run in runs]), ordered([run.outputs[n] for _, run in runs]))
        for n in layers
    }


def read_contexts(
    model: EditableModel,
    layer: int,
    target: tuple[int, Site],
    requests: Sequence[EditRequest],
    contexts: Sequence[str],
) -> tuple[Float[Tensor, "request context d_in"], Float[Tensor, "request d_out"]]:
    """Keys of `layer` behind every context, and what `target` outputs for the bare prompt.

    Args:
        model: read as it is now.
        layer: of the keys.
        target: layer and site of the output, not below `layer`.
        requests: each with its subject's span.
        contexts: the first is empty.
    """
    value_layer, site = target
    captured: dict[int, tuple[Tensor, Tensor]] = {}
    for batch, run in _runs(model, sorted({layer, value_layer}), (site,), requests, contexts):
        outputs = run.captured[model.part(value_layer, site)].value[:, 0]
        both = wide(run.keys[layer]), wide(outputs)
        captured |= zip(batch, zip(*both, strict=True), strict=True)
    keys, outputs = (torch.stack([captured[i][k] for i in range(len(captured))]) for k in (0, 1))
    return keys.unflatten(0, (-1, len(contexts))), outputs[:: len(contexts)]


def _runs(
    model: EditableModel,
    layers: Sequence[int],
    sites: Sequence[Site],
    requests: Sequence[EditRequest],
    contexts: Sequence[str],
) -> Iterator[tuple[list[int], CleanRun]]:
    """Runs of some rows each, and their places among all requests' contexts."""
    answers = [answer_row(model, context, r) for r in requests for context in contexts]
    rows = [row.ids[: at + 1] for row, at in answers]  # attention is causal
    for batch in memory.batches(dict(enumerate(map(len, rows))), _BATCH_TOKENS):
        subject = torch.tensor([answers[i][1] for i in batch])
        first = torch.zeros(1, dtype=torch.long)
        reads = Readout(padded([rows[i] for i in batch]), subject, first, subject[:1])
        with model.frozen(), fast_gelu(model.hf):
            yield batch, FullForward.run(model, layers, reads, sites)
