"""Optimising several requests' values together; each one's δ is what it would be alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lga_fast.errors import NonFinite
from lga_fast.forward.clean_run import Readout
from lga_fast.forward.patched_forward import FullForward, LogitLens
from lga_fast.models import EditableModel
from lga_fast.models.tensor_utils import grad_mode, padded, wide
from lga_fast.records import EditRequest
from lga_fast.tokens import Row, target_row, token_at


@dataclass(frozen=True)
class Optimisation:
    """Settings of the optimisation, named as in the papers' configs where they have a name."""

    steps: int
    weight_decay: float
    lr: float = 0.5
    kl_factor: float = 0.0625
    clamp: float = 4.0  # radius of a δ in units of its ‖v_init‖
    stop_loss: float = 0.05
    loss_layer: int | None = None  # NLL is read after this block; None: from the model's own logits
    nll_factor: float = 1.0
    bare_value: bool = False  # optimised on the bare prompt alone, keys are still of all contexts
    # PMET's rule: while the new answer is the likeliest everywhere, NLL counts a tenth from the
    # next step on, and the request has converged if its weighted KL is at most this. None: no rule.
    rest_kl: float | None = None


@dataclass(frozen=True)
class Value:
    """The result of the optimisation, and what it saw of the unedited model on the way."""

    initial: Float[Tensor, " d_out"]  # output of the (first) site on the bare prompt
    delta: Float[Tensor, " d_out"]
    losses: tuple[float, ...]  # one per forward; a step follows each but the last
    known: bool  # the unedited model gives the new answer already
    keys: Float[Tensor, "context d_in"]  # inputs of the edited matrix at the subject's last token
    outputs: Float[Tensor, "context d_out"]
    extra_deltas: Float[Tensor, "site d_out"] | None = None  # of further sites, if there are any


@dataclass(frozen=True)
class RequestRows:
    """One request's rows: its contexts' with prompt and answer, and last the KL's."""

    ids: tuple[Sequence[int], ...]
    changed: tuple[int, ...]  # index of the subject's last token
    positions: tuple[tuple[int, int, int], ...]  # row, token, label; the KL's last, without label

    @property
    def tail(self) -> int:
        """Most tokens of a row from the changed one to the last one that is read."""
        return max(token - self.changed[row] for row, token, _ in self.positions) + 1


def answer_row(model: EditableModel, context: str, request: EditRequest) -> tuple[Row, int]:
    """Row of context, prompt and new answer, and the index of the subject's last token.

    The prompt follows its context, or stands where that has `{}`.
    """
    assert request.subject_span is not None
    before, _, after = context.partition("{}")
    prompt = before + request.prompt + after
    row = target_row(model.tokenizer, prompt, request.target_new)
    last = len(before) + request.subject_span[1] - 1
    return row, token_at(model.tokenizer, prompt, last, row.ids[: row.start])


def readout_of(rows: Sequence[RequestRows]) -> tuple[Readout, Int[Tensor, " position"]]:
    """All requests' rows, one after another, and the label of every position that is read."""
    each = len(rows[0].ids)
    positions = torch.tensor(
        [(i * each + r, t, label) for i, x in enumerate(rows) for r, t, label in x.positions]
    )
    row, token, label = positions.T
    changed = torch.tensor([place for r in rows for place in r.changed])
    return Readout(padded([ids for r in rows for ids in r.ids]), changed, row, token), label


class ValueProblem:
    """Requests that are optimised together; all have the same number of rows.

    A request that is edited at several layers stands here once for each.
    """

    def __init__(
        self, requests: Sequence[EditRequest], label: Int[Tensor, " position"], runner: FullForward
    ):
        """`label` and the runner's rows as `readout_of` gives them."""
        self.requests, self.label, self.runner = requests, label, runner
        self.sites, reads = runner.sites, runner.reads
        self.each = len(reads.ids) // len(requests)
        bare = [wide(runner.initial[site])[:: self.each] for site in self.sites]
        self.initial = torch.stack(bare, 1)  # [request site d_out]
        # A label's share in a request's mean over contexts of the mean over the answer's tokens.
        row = reads.row
        share = 1 / (row.bincount()[row] * (self.each - 1)).double()
        mine = row // self.each == torch.arange(len(requests)).unsqueeze(1)
        self.share = (share * mine * (label >= 0)).to(self.initial)  # [request position]
        self.before: Tensor | None = None  # the unedited model's log-probabilities for the KL

    def solve(self, settings: Optimisation) -> list[Value]:
        """The value of every request."""
        active = list(range(len(self.requests)))
        seen = (self.runner.keys, self.runner.outputs)  # the last row is the KL's
        keys, outputs = (wide(x).unflatten(0, (-1, self.each))[:, :-1] for x in seen)
        deltas = [torch.zeros_like(x, requires_grad=True) for x in self.initial]  # [site d_out]
        radii = settings.clamp * self.initial.norm(dim=2, keepdim=True)
        factor = self.initial.new_full((len(active),), settings.nll_factor)
        adam = torch.optim.Adam(deltas, lr=settings.lr)
        losses: list[list[float]] = [[] for _ in active]
        known: list[bool] = []
        for step in range(settings.steps):
            with grad_mode(True):
                current = torch.stack([deltas[i] for i in active])
                logits = self._logits(current, settings.loss_layer)
                kl = settings.kl_factor * self._kl(logits).to(current)
                decay = (current.norm(dim=2) / self.initial[active].norm(dim=2) ** 2).sum(1)
                loss = factor * self._nll(logits).to(current) + kl + settings.weight_decay * decay
            for i, value in zip(active, loss.tolist(), strict=True):
                losses[i].append(self._finite(i, step, value))
            known = known or self._known(logits, settings.loss_layer)  # from the first step
            converged = loss < settings.stop_loss
            if settings.rest_kl is not None:
                likeliest = self._likeliest(logits, self.label >= 0).to(converged.device)
                converged = converged | likeliest & (kl <= settings.rest_kl)
                full = torch.full_like(factor, settings.nll_factor)
                factor = torch.where(likeliest, 0.1 * full, full)
            remaining = (~converged).nonzero()[:, 0].tolist()
            if step == settings.steps - 1 or not remaining:
                break
            adam.zero_grad(set_to_none=True)
            loss[remaining].sum().backward()
            for i in {*active} - {active[k] for k in remaining}:
                deltas[i].grad = None  # or Adam would go on with its momentum
            adam.step()
            for i in (active[k] for k in remaining):
                _project(deltas[i], radii[i])
            if len(remaining) < len(active):
                active, factor = [active[k] for k in remaining], factor[remaining]
                self._keep(torch.tensor(remaining))
        results = []
        for i, delta in enumerate(delta.detach() for delta in deltas):
            extra = delta[1:] if len(delta) > 1 else None
            bare, seen = self.initial[i, 0], (keys[i], outputs[i])
            results.append(Value(bare, delta[0], tuple(losses[i]), known[i], *seen, extra))
        return results

    def _logits(
        self, deltas: Float[Tensor, "request site d_out"], loss_layer: int | None
    ) -> Float[Tensor, "position vocab"]:
        """Logits with every request's δ in all its rows; the KL's are always the model's own."""
        change = deltas.unsqueeze(1).expand(-1, self.each, -1, -1).flatten(0, 1)
        early = None if loss_layer is None else LogitLens(loss_layer, self.label >= 0)
        return self.runner.logits(dict(zip(self.sites, change.unbind(1), strict=True)), early)

    def _nll(self, logits: Float[Tensor, "position vocab"]) -> Float[Tensor, " request"]:
        label = self.label.to(logits.device)
        # The KL's positions have no label; their entropy is 0 and their share too.
        entropy = nn.functional.cross_entropy(
            wide(logits), label, reduction="none", ignore_index=-1
        )
        return self.share.to(entropy) @ entropy

    def _kl(self, logits: Float[Tensor, "position vocab"]) -> Float[Tensor, " request"]:
        log_p = wide(logits[self.label < 0]).log_softmax(-1)
        if self.before is None:
            self.before = log_p.detach()
        # Σ p (log p/q - 1) + 1: without the -1 and 1 the gradient where p is q is not 0 but noise,
        # of which Adam makes whole steps where no other gradient arrives, as in the last layer.
        return (log_p.exp() * (log_p - self.before - 1)).sum(1) + 1

    def _known(self, logits: Float[Tensor, "position vocab"], loss_layer: int | None) -> list[bool]:
        """Whether each bare prompt gets its new answer already; `logits` of the first step."""
        if loss_layer is not None:
            with grad_mode(False):
                logits = self.runner.logits({})
        return self._likeliest(logits, self.runner.reads.row % self.each == 0).tolist()

    def _likeliest(
        self, logits: Float[Tensor, "position vocab"], among: Bool[Tensor, " position"]
    ) -> Bool[Tensor, " request"]:
        """Whether each request's labels `among` these positions are the likeliest tokens."""
        wrong = (logits.argmax(-1).cpu() != self.label) & among
        return ~((self.share.cpu() > 0) & wrong).any(1)

    def _keep(self, requests: Int[Tensor, " remaining"]) -> None:
        """Drop all other requests from the batch."""
        owner = self.runner.reads.row // self.each
        stays = torch.isin(owner, requests)
        self.label = self.label[stays]
        self.share = self.share[requests][:, stays]
        if self.before is not None:
            self.before = self.before[requests]
        rows = requests.unsqueeze(1) * self.each + torch.arange(self.each)
        self.runner.keep(rows.flatten())

    def _finite(self, i: int, step: int, loss: float) -> float:
        if math.isfinite(loss):
            return loss
        raise NonFinite(
            f"request {self.requests[i].case_id!r}: the loss is {loss} at step {step}; "
            f"{self.runner.model.why_not_finite()}"
        )


@torch.no_grad()
def _project(delta: Float[Tensor, "site d_out"], radius: Float[Tensor, "site 1"]) -> None:
    """Project every site's δ onto its ball."""
    size = delta.norm(dim=1, keepdim=True)
    delta.mul_(torch.where(size > radius, radius / size, 1.0))
