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
    places, shape = [place for batch, _ in runs for place in batch], (len(requests), len(contexts))
    return {
        n: (
            _ordered([run.keys[n] for _, run in runs], places, shape),
            _ordered([run.outputs[n] for _, run in runs], places, shape),
        )
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
    part, layers = model.part(value_layer, site), sorted({layer, value_layer})
    runs = list(_runs(model, layers, (site,), requests, contexts))
    places, shape = [place for batch, _ in runs for place in batch], (len(requests), len(contexts))
    keys = _ordered([run.keys[layer] for _, run in runs], places, shape)
    outputs = _ordered([run.captured[part].value[:, 0] for _, run in runs], places, shape)
    return keys, outputs[:, 0]


def _ordered(
    parts: Sequence[Float[Tensor, "row d"]], places: Sequence[int], shape: tuple[int, int]
) -> Float[Tensor, "request context d"]:
    """Rows of several runs, by their places."""
    order = torch.tensor(places).argsort().to(parts[0].device)
    return wide(torch.cat(list(parts))[order]).unflatten(0, shape)


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
