"""Causal tracing: the layer whose MLPs carry most of a fact at the subject's last token (ROME)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from lga_fast import distributed, progress, provenance
from lga_fast.datasets import easyedit_requests, with_subject
from lga_fast.datasets.jsonl import checksum
from lga_fast.errors import ScoringError
from lga_fast.forward.cpu_fast_paths import fast_gelu
from lga_fast.models import EditableModel
from lga_fast.options import option
from lga_fast.records import EditRequest, LayerRanking
from lga_fast.selectors import _averaged
from lga_fast.selectors._selector import LayerSelector, Resampling, refuse_equal
from lga_fast.selectors._tracing import Prompt, Trace, Tracer, noise_level
from lga_fast.tokens import locate


@dataclass(frozen=True)
class Selector(Resampling, LayerSelector):
    """The largest mean over facts of p(answer | MLPs restored) - p(answer | noise)."""

    token_range: Literal["subject_last", "all"] = option(
        "subject_last", "Tokens at which MLPs are restored; all changes the cost, not the choice."
    )
    noise: float = option(3.0, "Noise in standard deviations of the subjects' embeddings.", above=0)
    samples: int = option(10, "Noisy runs of each fact.", min=1)
    window: int = option(10, "Number of MLPs restored together around a layer.", min=1)
    seed: int = option(42, "Seed of all that is random.", min=0, max=2**32 - 1)  # RandomState's
    batch_tokens: int = option(4096, "Largest number of tokens in one batch.", min=1)

    timed_in_paper: ClassVar[bool] = True
    timed_variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "all tokens": {"token_range": "all"}
    }

    def rank(
        self, model: EditableModel, requests: Sequence[EditRequest | dict[str, Any]]
    ) -> LayerRanking:
        """Trace every request whose subject is in its prompt; the others are dropped.

        The answer that is watched is the model's own first token. The layer is that of the largest
        average indirect effect at the subject's last token; no layer is fenced out.

        Raises:
            ScoringError: no request is left, a prompt is too long, the tokenizer does not tell
                which characters a token holds, a score is not finite, or all are zero.
        """
        edits = easyedit_requests(requests)
        started = time.perf_counter()
        used, dropped = with_subject(edits, self.name)
        prompts = [_prompt(model, request) for request in used]
        ranks = distributed.current()
        if ranks.size > 1:
            ranks.assert_same(
                model=model.fingerprint(), requests=checksum(used), options=asdict(self)
            )
        traces, cost = self._trace(model, prompts, [r.subject or "" for r in used])
        effects = np.array(
            [t.restored[p.subject[1] - 1] - t.low for t, p in zip(traces, prompts, strict=True)]
        )
        measured = cost | {
            "options": asdict(self),
            "data": asdict(edits.provenance),
            "p_clean": float(np.mean([t.high for t in traces])),
            "p_noise": float(np.mean([t.low for t in traces])),
            "seconds_scoring": max(ranks.gather(time.perf_counter() - started)),
        }
        if not effects.any():
            why = (
                f"the answer's probability is {measured['p_clean']:.3f}, with noise "
                f"{measured['p_noise']:.3f}, and no MLP changes it: use other facts or more noise"
            )
            refuse_equal(self.name, effects[0].tolist(), why)
        if self.token_range == "all":
            measured["effects_by_place"] = _by_place(prompts, traces)
        return _averaged.ranking(
            self.name,
            "AIE at the last subject token  [probability]",
            effects,
            [r.case_id for r in used],
            bootstrap=self.bootstrap,
            seed=self.seed,
            dropped=dropped,
            provenance=provenance.of(model) | ranks.provenance() | measured,
            notes=[self._note(measured)],
            tie_break=f"a window of {self.window} around each restores the same MLPs, as far as "
            "they can act. The lowest is taken; a smaller window tells them apart",
        )

    def _trace(
        self, model: EditableModel, prompts: Sequence[Prompt], subjects: Sequence[str]
    ) -> tuple[list[Trace], dict[str, Any]]:
        """Traces of all prompts, each by one of the processes, and what they cost."""
        ranks = distributed.current()
        mine = ranks.balanced_shard([len(prompt.ids) for prompt in prompts])
        with (
            model.frozen(),
            fast_gelu(model.hf),
            progress.bar("tracing facts", len(mine)) as advance,
        ):
            tracer = Tracer(
                model,
                self.noise * noise_level(model, subjects),
                self.samples,
                self.window,
                self.seed,
                self.token_range == "all",
                self.batch_tokens,
            )
            own = tracer.trace([prompts[i] for i in mine], advance) if mine else []
            model.check_logits(torch.tensor([(trace.high, trace.low) for trace in own]))
        parts = ranks.gather(
            (
                dict(zip(mine, own, strict=True)),
                tracer.sequence_forwards,
                tracer.plain_forwards,
                provenance.peak_bytes(model.device),
            )
        )
        traces, forwards, plain_forwards, peaks = zip(*parts, strict=True)
        by_place = {i: trace for part in traces for i, trace in part.items()}
        return [by_place[i] for i in range(len(prompts))], {
            "noise_level": tracer.noise,
            "sequence_forwards": sum(forwards),
            "sequence_forwards_plain": sum(plain_forwards),
            "peak_bytes": max(peaks),
        }

    def _note(self, measured: dict[str, Any]) -> str:
        return (
            "The score is the average indirect effect (AIE) of the MLPs of "
            f"{self.window} layers around each layer, at the subject's last token: the probability "
            f"of the model's own answer is {measured['p_clean']:.3f}, with noise on the subject "
            f"{measured['p_noise']:.3f}, and rises by the score where these MLPs' outputs are "
            "restored."
        )


def _prompt(model: EditableModel, request: EditRequest) -> Prompt:
    """Tokens of a prompt, and those of its subject by the characters that they hold."""
    ids, offsets = locate(model.tokenizer, request.prompt)
    if len(ids) > model.max_tokens:
        raise ScoringError(
            f"request {request.case_id!r}: the prompt takes {len(ids)} tokens, the model takes at "
            f"most {model.max_tokens}; shorten or remove it"
        )
    assert request.subject_span is not None
    start, end = request.subject_span
    holding = [i for i, (a, b) in enumerate(offsets) if a < end and b > start]
    if not holding:
        raise ScoringError(
            f"request {request.case_id!r}: no token holds the subject {request.subject!r}"
        )
    return Prompt(tuple(ids), (holding[0], holding[-1] + 1))


def _by_place(prompts: list[Prompt], traces: list[Trace]) -> dict[str, list[float]]:
    """Average indirect effect by layer, for the kinds of tokens that ROME's figures distinguish."""
    places: dict[str, list[np.ndarray]] = {}
    for prompt, trace in zip(prompts, traces, strict=True):
        (first, end), last = prompt.subject, len(prompt.ids) - 1
        kinds = {
            "first subject token": range(first, first + 1),
            "middle subject tokens": range(first + 1, end - 1),
            "last subject token": range(end - 1, end),
            "first token after": range(end, min(end + 1, last)),
            "further tokens": range(end + 1, last),
            "last token": range(last, last + 1),
        }
        for kind, tokens in kinds.items():
            if len(tokens):
                effect = np.mean([trace.restored[t] for t in tokens], axis=0) - trace.low
                places.setdefault(kind, []).append(effect)
    return {kind: np.mean(effects, axis=0).tolist() for kind, effects in places.items()}
