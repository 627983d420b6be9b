"""Keys of layers at subjects' last tokens, read without an optimisation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lga_fast import memory
from lga_fast.editors._value_problem import answer_row
from lga_fast.forward.clean_run import CleanRun, Readout, Site, capture
from lga_fast.forward.cpu_fast_paths import fast_gelu
from lga_fast.models import EditableModel
from lga_fast.models.editable import ForwardJob
from lga_fast.models.module_patching import EndOfForward, hooked
from lga_fast.models.tensor_utils import grad_mode, padded, wide
from lga_fast.records import EditRequest

KeysAndOutputs = tuple[
    Float[Tensor, "request context d_in"], Float[Tensor, "request context d_out"]
]

_Ordered = Callable[[list[Float[Tensor, "_ d"]]], Float[Tensor, "request context d"]]

_BATCH_TOKENS = 4096  # of one forward


def of_contexts(
    model: EditableModel,
    layers: Sequence[int],
    requests: Sequence[EditRequest],
    contexts: Sequence[str],
    site: Site | None = None,
) -> dict[int, KeysAndOutputs]:
    """By layer, what its edited matrix reads behind every context, and what `site` outputs.

    Args:
        model: read as it is now.
        layers: that share the runs.
        requests: each with its subject's span.
        contexts: texts put before the prompt, or around it.
        site: None: the edited matrix itself.
    """
    runs, ordered = _runs(model, layers, (site,) if site else (), requests, contexts)

    def output(run: CleanRun, n: int) -> Float[Tensor, "row d_out"]:
        return run.captured[model.part(n, site)].value[:, 0] if site else run.outputs[n]

    return {
        n: (ordered([run.keys[n] for run in runs]), ordered([output(run, n) for run in runs]))
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
    runs, ordered = _runs(model, layers, (site,), requests, contexts)
    outputs = ordered([run.captured[part].value[:, 0] for run in runs])
    return ordered([run.keys[layer] for run in runs]), outputs[:, 0]


def _runs(
    model: EditableModel,
    layers: Sequence[int],
    sites: Sequence[Site],
    requests: Sequence[EditRequest],
    contexts: Sequence[str],
) -> tuple[list[CleanRun], _Ordered]:
    """Runs of some rows each, and what puts their rows into the order of requests and contexts."""
    answers = [answer_row(model, context, r) for r in requests for context in contexts]
    rows = [row.ids[: at + 1] for row, at in answers]  # attention is causal
    batches = memory.batches(dict(enumerate(map(len, rows))), _BATCH_TOKENS)
    runs, jobs = list[CleanRun](), list[ForwardJob]()
    for batch in batches:
        subject = torch.tensor([answers[i][1] for i in batch])
        reads = Readout(padded([rows[i] for i in batch]), subject, subject[:0], subject[:0])
        runs.append(CleanRun(subject, None))
        inputs = {"input_ids": reads.ids.to(model.device), "use_cache": False}
        within = partial(_reading, model, layers, sites, reads, runs[-1])
        jobs.append(ForwardJob(inputs, within=within))
    tokens = [job.inputs["input_ids"].numel() for job in jobs]
    with model.frozen(), fast_gelu(model.hf), grad_mode(False):
        for group in model.groups(tokens, model.memory.held_tokens):
            model.run_batches([jobs[i] for i in group], max(layers) + 1)
    order = torch.tensor([i for batch in batches for i in batch]).argsort()

    def ordered(parts: list[Float[Tensor, "_ d"]]) -> Float[Tensor, "request context d"]:
        read = torch.cat(parts)
        return wide(read[order.to(read.device)]).unflatten(0, (len(requests), len(contexts)))

    return runs, ordered


@contextmanager
def _reading(
    model: EditableModel,
    layers: Sequence[int],
    sites: Sequence[Site],
    reads: Readout,
    into: CleanRun,
) -> Iterator[None]:
    """Forwards inside are read at the subjects' last tokens and end behind the highest layer."""
    further = max(layers) + 1
    deeper = further < model.layers
    end = model.part(further, "block") if deeper else model.hf.get_output_embeddings()

    def stop(module: nn.Module, args: tuple[Any, ...]) -> None:
        raise EndOfForward

    with (
        suppress(EndOfForward),
        hooked(end.register_forward_pre_hook, stop),
        capture(model, layers, sites, reads, reads.changed.unsqueeze(1), into),
    ):
        yield
