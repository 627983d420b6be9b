"""The value an edited matrix should give: δ added to its output until the new answer wins.

ROME's optimisation (Meng et al. 2022, arXiv 2202.05262, eq. 4) as EasyEdit runs it, for many
requests at once; each one's δ is what it would be alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lga_fast import progress
from lga_fast.editors import _keys
from lga_fast.errors import EditError
from lga_fast.models import EditableModel
from lga_fast.models.downstream import Downstream, Reads, Site, Whole
from lga_fast.models.fused import fused_gelu
from lga_fast.models.tensors import padded, wide
from lga_fast.records import EditRequest
from lga_fast.scoring import plan


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
    """What the optimisation found, and what it saw of the unedited model on the way."""

    initial: Float[Tensor, " d_out"]  # output of the site on the bare prompt
    delta: Float[Tensor, " d_out"]
    losses: tuple[float, ...]  # one per forward; a step follows each but the last
    known: bool  # the model gave the new answer before
    keys: Float[Tensor, "context d_in"]  # inputs of the edited matrix at the subject's last token
    outputs: Float[Tensor, "context d_out"]


@dataclass(frozen=True)
class _Rows:
    """One request's rows: its contexts' with prompt and answer, and last the KL's."""

    ids: tuple[Sequence[int], ...]
    changed: tuple[int, ...]  # place of the subject's last token
    positions: tuple[tuple[int, int, int], ...]  # row, token, label; the KL's place last, no label

    @property
    def tail(self) -> int:
        """Most tokens of a row from the changed one to the last wanted one."""
        return max(token - self.changed[row] for row, token, _ in self.positions) + 1


def optimise(
    model: EditableModel,
    layer: int,
    requests: Sequence[EditRequest],
    contexts: Sequence[str],
    how: Optimisation,
    *,
    site: Site = "mlp",
    runner: type[Whole] = Downstream,
    batch_tokens: int = 4096,
    show_progress: bool | None = None,
) -> list[Value]:
    """Minimise NLL(new answer) + KL("{subject} is a") + weight decay over each request's δ.

    δ is added at the subject's last token of every row. NLL is the mean over contexts of the mean
    over the answer's tokens; KL is of the next-token distribution at the subject's last token
    against the unedited model's; the decay is `weight_decay · ‖δ‖ / ‖v_init‖²`. Adam; after each
    step δ is pulled back onto the ball of radius `clamp · ‖v_init‖`. A request leaves when its loss
    is below `stop_loss`.

    Args:
        model: left as it was.
        layer: where δ is added.
        requests: each with its subject's place.
        contexts: texts put before the prompt; the first is empty.
        how: numbers.
        site: whose output δ is added to.
        runner: `Whole` is the plain form, which also serves where `Downstream` cannot.
        batch_tokens: tokens of one step at most; lowered where memory asks for it.
        show_progress: None shows a bar on a terminal only.

    Raises:
        EditError: a loss is not finite, or a subject's place cannot be found.
    """
    rows = [_rows(model, request, contexts) for request in requests]
    widest = max(len(ids) for r in rows for ids in r.ids)
    if not Downstream.serves(model, widest):
        runner = Whole
    tokens = {
        i: len(r.ids) * (r.tail if runner is Downstream else widest) for i, r in enumerate(rows)
    }
    limit = min(batch_tokens, int(plan.memory_left(model) / _token_bytes(model, rows, tokens)))
    found: dict[int, Value] = {}
    with (
        model.frozen(),
        fused_gelu(model.hf),
        progress.bar("finding values", len(rows), show_progress) as advance,
    ):
        for batch in plan.batches(tokens, limit, alike=0.75):
            few = [requests[i] for i in batch]
            made = _Batch(model, layer, few, [rows[i] for i in batch], site, runner)
            found |= zip(batch, made.optimise(how), strict=True)
            advance(len(batch))
    return [found[i] for i in range(len(rows))]


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


def _rows(model: EditableModel, request: EditRequest, contexts: Sequence[str]) -> _Rows:
    answers = [_keys.answer_row(model, context, request) for context in contexts]
    about = f"{request.subject} is a"
    about_ids = list(model.tokenizer(about)["input_ids"])
    about_place = _keys.token_of(model, about, len(request.subject or "") - 1, about_ids)
    positions = [
        (r, t - 1, row.ids[t])
        for r, (row, _) in enumerate(answers)
        for t in range(row.start, len(row.ids))
    ]
    return _Rows(
        ids=(*(row.ids[:-1] for row, _ in answers), about_ids),
        changed=(*(place for _, place in answers), about_place),
        positions=(*positions, (len(answers), about_place, -1)),
    )


def _token_bytes(model: EditableModel, rows: Sequence[_Rows], tokens: dict[int, int]) -> float:
    """Bytes per token of a step; an upper estimate, with what the recorded run holds."""
    logits = max(len(r.positions) / tokens[i] for i, r in enumerate(rows))
    recorded = max(len(r.ids) * max(map(len, r.ids)) / tokens[i] for i, r in enumerate(rows))
    per_token = plan.token_bytes(model)
    return per_token * (1 + recorded / 4) + logits * plan.logit_bytes(model)


class _Batch:
    """Requests that are optimised together; every one has the same number of rows."""

    def __init__(
        self,
        model: EditableModel,
        layer: int,
        requests: Sequence[EditRequest],
        rows: Sequence[_Rows],
        site: Site,
        runner: type[Whole],
    ):
        self.requests, self.site, self.each = requests, site, len(rows[0].ids)
        positions = torch.tensor(
            [
                (i * self.each + r, t, label)
                for i, x in enumerate(rows)
                for r, t, label in x.positions
            ]
        )
        row, token, label = positions.T
        changed = torch.tensor([place for r in rows for place in r.changed])
        reads = Reads(padded([ids for r in rows for ids in r.ids]), changed, row, token)
        self.runner = runner(model, layer, reads, (site,))
        self.label, self.initial = label, wide(self.runner.initial[site])[:: self.each]
        # A label's share in a request's mean over contexts of the mean over the answer's tokens.
        share = 1 / (row.bincount()[row] * (self.each - 1)).double()
        mine = row // self.each == torch.arange(len(rows)).unsqueeze(1)
        self.share = (share * mine * (label >= 0)).to(self.initial)  # [request position]

    def optimise(self, how: Optimisation) -> list[Value]:
        """The value of every request."""
        initial, active = self.initial, list(range(len(self.requests)))
        seen = (self.runner.keys, self.runner.outputs)  # the last row is the KL's
        keys, outputs = (wide(x).unflatten(0, (-1, self.each))[:, :-1] for x in seen)
        deltas = [torch.zeros_like(x, requires_grad=True) for x in initial]
        radii = (how.clamp * initial.norm(dim=1)).tolist()
        adam = torch.optim.Adam(deltas, lr=how.lr)
        losses: list[list[float]] = [[] for _ in active]
        known: list[bool] = []
        before: Tensor | None = None  # log-probabilities of the unedited model for the KL
        for step in range(how.steps):
            with torch.enable_grad():
                now = torch.stack([deltas[i] for i in active])
                change = now.unsqueeze(1).expand(-1, self.each, -1).flatten(0, 1)
                logits = self.runner.logits({self.site: change})
                known = known or self._known(logits)
                log_p = wide(logits[self.label < 0]).log_softmax(-1)
                before = log_p.detach() if before is None else before
                kl = (log_p.exp() * (log_p - before)).sum(1).to(now)
                decay = now.norm(dim=1) / initial[active].norm(dim=1) ** 2
                loss = self._nll(logits).to(now) + how.kl_factor * kl + how.weight_decay * decay
            for i, value in zip(active, loss.tolist(), strict=True):
                losses[i].append(self._finite(i, step, value))
            going = [k for k, i in enumerate(active) if losses[i][-1] >= how.stop_loss]
            if step == how.steps - 1 or not going:
                break
            adam.zero_grad(set_to_none=True)
            loss[going].sum().backward()
            for i in {*active} - {active[k] for k in going}:
                deltas[i].grad = None  # or Adam would go on with its momentum
            adam.step()
            with torch.no_grad():
                for i in (active[k] for k in going):
                    size = float(deltas[i].norm())
                    deltas[i].mul_(radii[i] / size if size > radii[i] else 1.0)
            if len(going) < len(active):
                active, before = [active[k] for k in going], before[going]
                self._keep(torch.tensor(going))
        return [
            Value(initial[i], delta.detach(), tuple(losses[i]), known[i], keys[i], outputs[i])
            for i, delta in enumerate(deltas)
        ]

    def _nll(self, logits: Float[Tensor, "position vocab"]) -> Float[Tensor, " request"]:
        label = self.label.to(logits.device)
        # The KL's positions have no label; their entropy is 0 and their share too.
        entropy = nn.functional.cross_entropy(
            wide(logits), label, reduction="none", ignore_index=-1
        )
        return self.share.to(entropy) @ entropy

    def _known(self, logits: Tensor) -> list[bool]:
        """Whether each request's bare prompt gets its new answer."""
        bare = self.runner.reads.row % self.each == 0
        right = logits.argmax(-1).cpu() == self.label
        return [bool(right[bare & (share > 0)].all()) for share in self.share.cpu()]

    def _keep(self, going: Tensor) -> None:
        owner = self.runner.reads.row // self.each
        stays = torch.isin(owner, going)
        self.label = self.label[stays]
        self.share = self.share[going][:, stays]
        rows = going.unsqueeze(1) * self.each + torch.arange(self.each)
        self.runner.keep(rows.flatten())

    def _finite(self, i: int, step: int, loss: float) -> float:
        if math.isfinite(loss):
            return loss
        raise EditError(
            f"request {self.requests[i].case_id!r}: the loss is {loss} at step {step}; load the "
            "model as float32 or bfloat16"
        )
