"""The value an edited matrix should give: δ added to its output until the new answer wins.

ROME's optimisation (Meng et al. 2022, arXiv 2202.05262, eq. 4) as EasyEdit runs it. This is the
plain form: every step runs the whole model on every row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lga_fast.editors import _keys
from lga_fast.errors import EditError
from lga_fast.models import EditableModel
from lga_fast.models.tensors import wide
from lga_fast.records import EditRequest


@dataclass(frozen=True)
class Optimisation:
    """Numbers of the optimisation; names as in the papers' configs where they have one."""

    steps: int
    weight_decay: float
    lr: float = 0.5
    kl_factor: float = 0.0625
    clamp: float = 4.0  # radius of δ in units of ‖v_init‖
    stop_loss: float = 0.05


@dataclass(frozen=True)
class Value:
    """What the optimisation found."""

    initial: Float[Tensor, " d_out"]  # output of the edited matrix on the bare prompt
    delta: Float[Tensor, " d_out"]
    losses: tuple[float, ...]  # one per forward; a step follows each but the last


def optimise(
    model: EditableModel,
    layer: int,
    request: EditRequest,
    contexts: Sequence[str],
    how: Optimisation,
) -> Value:
    """Minimise NLL(new answer) + KL("{subject} is a") + weight decay over δ.

    δ is added at the subject's last token of every row. NLL is the mean over contexts of the mean
    over the answer's tokens; KL is of the next-token distribution at the subject's last token
    against the unedited model's; the decay is `weight_decay · ‖δ‖ / ‖v_init‖²`. Adam; after each
    step δ is pulled back onto the ball of radius `clamp · ‖v_init‖`.

    Raises:
        EditError: the loss is not finite.
    """
    answers = [_keys.answer_row(model, context, request) for context in contexts]
    about = f"{request.subject} is a"
    about_ids = list(model.tokenizer(about)["input_ids"])
    about_place = _keys.token_of(model, about, len(request.subject or "") - 1, about_ids)
    rows = _keys.rows_of([*((a.ids[:-1], at) for a, at in answers), (about_ids, about_place)])
    labels = [
        (r, t - 1, a.ids[t]) for r, (a, _) in enumerate(answers) for t in range(a.start, len(a.ids))
    ]
    labels.append((len(answers), about_place, 0))  # the last place is the KL's, its label unused
    row_of, token_of, label = torch.tensor(labels).T
    # A label's share in the mean over contexts of the mean over the answer's tokens.
    share = 1 / (row_of[:-1].bincount()[row_of[:-1]] * len(answers)).double()
    _, outputs = _keys.read_keys(model, layer, rows)
    initial = outputs[0]
    delta = torch.zeros_like(initial, requires_grad=True)
    adam = torch.optim.Adam([delta], lr=how.lr)
    losses: list[float] = []
    before: Tensor | None = None  # log-probabilities of the unedited model for the KL

    def add(module: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        flat = output.flatten(0, -2)
        places = rows.places.to(flat.device)
        return flat.index_add(0, places, delta.to(flat.dtype).expand(len(places), -1)).view_as(
            output
        )

    handle = model.matrix(layer, model.family.edited).register_forward_hook(add)
    try:
        with model.frozen(), torch.enable_grad():
            for step in range(how.steps):
                logits, _ = model.logits_at(
                    rows.ids.to(model.device), row_of, token_of, use_cache=False
                )
                log_p = wide(logits).log_softmax(-1)
                before = log_p[-1].detach() if before is None else before
                chosen = log_p[:-1].gather(1, label[:-1, None].to(log_p.device)).squeeze(1)
                nll = -(chosen * share.to(chosen)).sum()
                kl = how.kl_factor * (log_p[-1].exp() * (log_p[-1] - before)).sum()
                decay = how.weight_decay * delta.norm() / initial.norm() ** 2
                loss = nll + kl + decay.to(nll.device)
                losses.append(float(loss.detach()))
                if not torch.isfinite(loss):
                    raise EditError(
                        f"request {request.case_id!r}: the loss is {losses[-1]} at step {step}; "
                        "load the model as float32 or bfloat16"
                    )
                if losses[-1] < how.stop_loss or step == how.steps - 1:
                    break
                adam.zero_grad()
                loss.backward()
                adam.step()
                with torch.no_grad():
                    most = how.clamp * initial.norm()
                    delta.mul_(most / delta.norm() if delta.norm() > most else 1.0)
    finally:
        handle.remove()
    return Value(initial, delta.detach(), tuple(losses))
