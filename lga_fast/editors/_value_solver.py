"""Finding the value that an edited matrix should output: its output plus a δ.

ROME's optimisation (Meng et al. 2022, arXiv 2202.05262, eq. 4) as EasyEdit runs it, for many
requests at once; each one's δ is what it would be alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lga_fast import memory, progress
from lga_fast.editors import _cost_messages, _keys
from lga_fast.editors._value_problem import (
    Optimisation,
    RequestRows,
    Value,
    ValueProblem,
    answer_row,
    readout_of,
)
from lga_fast.errors import EditError
from lga_fast.forward.clean_run import Site
from lga_fast.forward.cpu_fast_paths import fast_gelu, head_in_pieces
from lga_fast.forward.packed_suffix import supports_custom_attention
from lga_fast.forward.patched_forward import FullForward
from lga_fast.forward.suffix_forward import SuffixForward
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest
from lga_fast.tokens import encode_prompt, token_at, writes_spaces

# Tokens of a product that take as long as reading its weights: SmolLM2-135M's on one core take
# 0.65 ms and 0.02 ms a token. A GPU's ratio of speed and bandwidth says some hundreds.
_FREE_TOKENS = {"cpu": 32, "others": 256}


def optimise(
    model: EditableModel,
    layer: int,
    requests: Sequence[EditRequest],
    contexts: Sequence[str],
    optimisation: Optimisation,
    **options: Any,
) -> list[Value]:
    """`optimise_at` for one layer."""
    return optimise_at(model, [layer], requests, contexts, optimisation, **options)[layer]


def optimise_at(
    model: EditableModel,
    layers: Sequence[int],
    requests: Sequence[EditRequest],
    contexts: Sequence[str],
    optimisation: Optimisation,
    *,
    sites: Sequence[Site] = ("mlp",),
    runner: type[FullForward] = SuffixForward,
    batch_tokens: int = 4096,
    show_progress: bool | None = None,
) -> dict[int, list[Value]]:
    """Minimise NLL(new answer) + KL("{subject} is a") + weight decay over each request's δ.

    δ is added at the subject's last token of every row. NLL is the mean over contexts of the mean
    over the answer's tokens, read after `loss_layer` through the final norm and the head where that
    is not the last layer; KL is of the model's own next-token distribution at the subject's last
    token against the unedited model's; the decay is `weight_decay · ‖δ‖ / ‖v_init‖²`, summed over
    sites. Adam; after each step δ is projected onto the ball of radius `clamp · ‖v_init‖`. A
    request drops out of the batch once its loss is below `stop_loss`, or by PMET's rule
    (`rest_kl`). With `bare_value` all of this sees the bare prompt alone; keys and outputs of the
    other contexts are read once.

    Args:
        model: left as it was.
        layers: where δ is added, each time alone; the unchanged model's run is shared.
        requests: each with its subject's span.
        contexts: texts put before the prompt, or around it; the first is empty.
        optimisation: its settings.
        sites: modules whose outputs get a δ each; the value is that of the first.
        runner: `FullForward` is the plain form.
        batch_tokens: tokens of one step at most, fewer where memory requires it. With streamed
            weights memory alone decides.
        show_progress: None shows a bar on a terminal only.

    Returns:
        By layer, a value for each request.

    Raises:
        EditError: a loss is not finite, a subject's last token cannot be located, or there is no
            such `loss_layer`.
    """
    settings = {
        n: replace(optimisation, loss_layer=resolve_loss_layer(model, n, optimisation))
        for n in layers
    }
    optimised = contexts[:1] if optimisation.bare_value else contexts
    rows = [_rows(model, request, optimised) for request in requests]
    widest = max(len(ids) for r in rows for ids in r.ids)
    tokens = {
        i: len(r.ids) * (r.tail if runner is SuffixForward else widest) for i, r in enumerate(rows)
    }
    limit = int(model.memory.activation_budget / _token_bytes(model, rows, tokens))
    if model.streamed:  # every further batch reads all blocks again
        batches = memory.batches(tokens, limit)
    else:
        limit = min(batch_tokens, limit)
        # Rows that cannot be packed on one axis are padded to the longest of their batch.
        alike = 0.0 if supports_custom_attention(model) else 0.75
        batches = memory.batches(tokens, limit, alike)
    most = max(len(batch) * max(tokens[i] for i in batch) for batch in batches)
    groups = _layer_groups(model, settings, most, limit)
    if model.streamed:
        _cost_messages.log_optimisation(model, settings, groups, batches, show_progress)
    values: dict[int, dict[int, Value]] = {n: {} for n in layers}
    with (
        model.frozen(),
        fast_gelu(model.hf),
        head_in_pieces(model.hf),
        progress.bar("optimising values", len(rows) * len(layers), show_progress) as advance,
    ):
        for batch in batches:
            reads, label = readout_of([rows[i] for i in batch])
            clean_run = runner.run(model, layers, reads, sites)
            for group in groups:
                forward = runner(model, group, reads, sites, clean_run)
                every = [requests[i] for i in batch] * len(group)
                problem = ValueProblem(every, label.repeat(len(group)), forward)
                steps = (model, group, optimisation.steps, show_progress)
                with _cost_messages.step_bar(*steps) if model.streamed else nullcontext():
                    solved = problem.solve(settings[group[0]])
                for k, n in enumerate(group):
                    values[n] |= zip(batch, solved[k * len(batch) :], strict=False)
                advance(len(every))
    found = {n: [by_request[i] for i in range(len(rows))] for n, by_request in values.items()}
    if others := contexts[len(optimised) :]:
        for n, read in _keys.of_contexts(model, layers, requests, others).items():
            found[n] = [_with_contexts(*one) for one in zip(found[n], *read, strict=True)]
    return found


def _layer_groups(
    model: EditableModel, settings: Mapping[int, Optimisation], tokens: int, limit: int
) -> list[list[int]]:
    """Neighbouring layers whose steps share forwards, by depth.

    A product of few tokens takes the time in which its weights are read, which a group does once;
    its forwards start at its first layer, so the further layers' tokens run through more blocks
    than they need. For layers side by side, from whose first one D blocks run, n to a group take
    the time of (D / n) free + n / 2 tokens more each: least at n² tokens = 2 D free.

    Args:
        model: whose device decides how many tokens are free.
        settings: by layer; those of a group are the same.
        tokens: of a step at one layer, at most.
        limit: of one step.
    """
    free = _FREE_TOKENS["cpu" if model.device.type == "cpu" else "others"]
    first, *further = sorted(settings)
    groups = [[first]]
    for n in further:
        last = groups[-1]
        fits = settings[n] == settings[last[0]] and (len(last) + 1) * tokens <= limit
        wasted, saved = len(last) * (n - last[0]) * tokens, 2 * (model.layers - n) * free
        if fits and (model.streamed or wasted <= saved):
            last.append(n)
        else:
            groups.append([n])
    return groups


def _with_contexts(
    value: Value, keys: Float[Tensor, "context d_in"], outputs: Float[Tensor, "context d_out"]
) -> Value:
    """A value with further contexts' keys and outputs."""
    return replace(
        value, keys=torch.cat([value.keys, keys]), outputs=torch.cat([value.outputs, outputs])
    )


def notes(request: EditRequest, value: Value, layer: int) -> list[str]:
    """What the user should know of a request and its value."""
    notes = []
    if value.known:
        notes.append(f"the model answers {request.target_new!r} already")
    elif len(value.losses) > 1 and not value.delta.any():
        notes.append(unmoved(value, layer))
    times = request.prompt.count(request.subject or "")
    if times > 1:
        notes.append(
            f"the subject {request.subject!r} is in the prompt {times} times; one is edited"
        )
    if not writes_spaces(request.prompt, request.target_new):
        notes.append("the answer follows its prompt without a space, as in the prompt's script")
    return notes


def unmoved(value: Value, layer: int) -> str:
    """A note on a loss that did not fall."""
    first, last = value.losses[0], value.losses[-1]
    return (
        f"its loss did not fall ({first:.3g} to {last:.3g}): a change at layer {layer} does not "
        "reach the answer, or lr or weight_decay is too large"
    )


def resolve_loss_layer(model: EditableModel, layer: int, optimisation: Optimisation) -> int | None:
    """The block after which NLL is read, not before δ is added; None: the last.

    Raises:
        EditError: the model has no such layer.
    """
    last = model.layers - 1
    wanted = last if optimisation.loss_layer is None else optimisation.loss_layer
    if not 0 <= wanted <= last:
        raise EditError(f"loss_layer {wanted}: {model.name} has layers 0 to {last}")
    return None if max(wanted, layer) == last else max(wanted, layer)


def _rows(model: EditableModel, request: EditRequest, contexts: Sequence[str]) -> RequestRows:
    answers = [answer_row(model, context, request) for context in contexts]
    kl_prompt = f"{request.subject} is a"
    kl_ids = encode_prompt(model.tokenizer, kl_prompt)
    kl_index = token_at(model.tokenizer, kl_prompt, len(request.subject or "") - 1, kl_ids)
    positions = [
        (r, t - 1, row.ids[t])
        for r, (row, _) in enumerate(answers)
        for t in range(row.start, len(row.ids))
    ]
    return RequestRows(
        ids=(*(row.ids[:-1] for row, _ in answers), kl_ids),
        changed=(*(index for _, index in answers), kl_index),
        positions=(*positions, (len(answers), kl_index, -1)),
    )


def _token_bytes(
    model: EditableModel, rows: Sequence[RequestRows], tokens: dict[int, int]
) -> float:
    """Bytes per token of a step, an upper estimate that includes the recorded run."""
    logits = max(len(r.positions) / tokens[i] for i, r in enumerate(rows))
    recorded = max(len(r.ids) * max(map(len, r.ids)) / tokens[i] for i, r in enumerate(rows))
    return model.memory.step_bytes(recorded) + logits * model.memory.logit_bytes
