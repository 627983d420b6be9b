"""The value an edited matrix should give: δ added to its output until the new answer wins.

ROME's optimisation (Meng et al. 2022, arXiv 2202.05262, eq. 4) as EasyEdit runs it, for many
requests at once; each one's δ is what it would be alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lga_fast import memory, progress
from lga_fast.editors import _cost_messages, _keys
from lga_fast.editors._value_problem import Batch, Optimisation, RequestRows, Value, reads_of
from lga_fast.errors import EditError
from lga_fast.forward.clean_run import Site
from lga_fast.forward.cpu_fast_paths import fast_gelu, head_in_pieces
from lga_fast.forward.packed_suffix import supports_custom_attention
from lga_fast.forward.patched_forward import FullForward, SuffixForward
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest


def optimise(
    model: EditableModel,
    layer: int,
    requests: Sequence[EditRequest],
    contexts: Sequence[str],
    how: Optimisation,
    **options: Any,
) -> list[Value]:
    """`optimise_at` one layer."""
    return optimise_at(model, [layer], requests, contexts, how, **options)[layer]


def optimise_at(
    model: EditableModel,
    layers: Sequence[int],
    requests: Sequence[EditRequest],
    contexts: Sequence[str],
    how: Optimisation,
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
    sites. Adam; after each step δ is pulled back onto the ball of radius `clamp · ‖v_init‖`. A
    request leaves when its loss is below `stop_loss`, or by PMET's rule (`rest_kl`).

    Args:
        model: left as it was.
        layers: where δ is added, each time alone; the unchanged model's run is shared.
        requests: each with its subject's place.
        contexts: texts put before the prompt; the first is empty.
        how: numbers.
        sites: whose outputs δ is added to, each its own; the first one's is the value's.
        runner: `FullForward` is the plain form.
        batch_tokens: tokens of one step at most; lowered where memory asks for it. With streamed
            weights memory alone counts.
        show_progress: None shows a bar on a terminal only.

    Returns:
        By layer, a value for each request.

    Raises:
        EditError: a loss is not finite, a subject's place cannot be found, or there is no such
            `loss_layer`.
    """
    hows = {n: replace(how, loss_layer=_loss_layer(model, n, how)) for n in layers}
    rows = [_rows(model, request, contexts) for request in requests]
    widest = max(len(ids) for r in rows for ids in r.ids)
    tokens = {
        i: len(r.ids) * (r.tail if runner is SuffixForward else widest) for i, r in enumerate(rows)
    }
    limit = int(model.memory.activation_budget / _token_bytes(model, rows, tokens))
    if model.streamed:  # every further batch reads all blocks again
        batches = memory.batches(tokens, limit)
        _cost_messages.say_cost(model, hows, batches, show_progress)
    else:
        # Rows are padded to the longest of a batch where they do not share one axis.
        alike = 0.0 if supports_custom_attention(model) else 0.75
        batches = memory.batches(tokens, min(batch_tokens, limit), alike)
    found: dict[int, dict[int, Value]] = {n: {} for n in layers}
    with (
        model.frozen(),
        fast_gelu(model.hf),
        head_in_pieces(model.hf),
        progress.bar("finding values", len(rows) * len(layers), show_progress) as advance,
    ):
        for batch in batches:
            few = [requests[i] for i in batch]
            reads, label = reads_of([rows[i] for i in batch])
            unchanged = runner.run(model, layers, reads, sites)
            for n in layers:
                made = Batch(few, label, runner(model, n, reads, sites, unchanged))
                with _cost_messages.steps_shown(model, n, how.steps, show_progress):
                    found[n] |= zip(batch, made.optimise(hows[n]), strict=True)
                advance(len(batch))
    return {n: [values[i] for i in range(len(rows))] for n, values in found.items()}


def notes(request: EditRequest, value: Value) -> list[str]:
    """What the user should know of a request and its value."""
    found = []
    if value.known:
        found.append(f"the model answers {request.target_new!r} already")
    times = request.prompt.count(request.subject or "")
    if times > 1:
        found.append(
            f"the subject {request.subject!r} is in the prompt {times} times; one is edited"
        )
    return found


def _loss_layer(model: EditableModel, layer: int, how: Optimisation) -> int | None:
    """After which block NLL is read: not before δ is added; None: after the last, as ever."""
    last = model.layers - 1
    found = last if how.loss_layer is None else how.loss_layer
    if not 0 <= found <= last:
        raise EditError(f"loss_layer {found}: {model.name} has layers 0 to {last}")
    return None if max(found, layer) == last else max(found, layer)


def _rows(model: EditableModel, request: EditRequest, contexts: Sequence[str]) -> RequestRows:
    answers = [_keys.answer_row(model, context, request) for context in contexts]
    about = f"{request.subject} is a"
    about_ids = list(model.tokenizer(about)["input_ids"])
    about_place = _keys.token_of(model, about, len(request.subject or "") - 1, about_ids)
    positions = [
        (r, t - 1, row.ids[t])
        for r, (row, _) in enumerate(answers)
        for t in range(row.start, len(row.ids))
    ]
    return RequestRows(
        ids=(*(row.ids[:-1] for row, _ in answers), about_ids),
        changed=(*(place for _, place in answers), about_place),
        positions=(*positions, (len(answers), about_place, -1)),
    )


def _token_bytes(
    model: EditableModel, rows: Sequence[RequestRows], tokens: dict[int, int]
) -> float:
    """Bytes per token of a step; an upper estimate, with what the recorded run holds."""
    logits = max(len(r.positions) / tokens[i] for i, r in enumerate(rows))
    recorded = max(len(r.ids) * max(map(len, r.ids)) / tokens[i] for i, r in enumerate(rows))
    return model.memory.step_bytes(recorded) + logits * model.memory.logit_bytes
