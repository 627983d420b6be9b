"""Causal tracing: the layer whose MLPs carry most of a fact at the subject's last token (ROME)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from lga_fast import distributed, progress, provenance
from lga_fast.datasets.jsonl import checksum
from lga_fast.errors import ScoringError
from lga_fast.forward.cpu_fast_paths import fast_gelu
from lga_fast.models import EditableModel
from lga_fast.records import Dropped, EditRequest, LayerRanking
from lga_fast.selectors import _averaged
from lga_fast.selectors._tracing import Prompt, Trace, Tracer, noise_level
from lga_fast.tokens import encode


@dataclass(frozen=True)
class Selector:
    """The largest mean over the facts of p(answer | MLPs restored) - p(answer | noise)."""

    token_range: Literal["subject_last", "all"] = field(
        default="subject_last",
        metadata={"help": "Where MLPs are restored; all changes the cost, not the choice."},
    )
    noise: float = field(
        default=3.0,
        metadata={"help": "Noise in standard deviations of the subjects' embeddings."},
    )
    samples: int = field(default=10, metadata={"help": "Noisy runs of each fact."})
    window: int = field(default=10, metadata={"help": "MLPs restored together around a layer."})
    bootstrap: int = field(
        default=200, metadata={"help": "Resamples of the facts that measure stability."}
    )
    seed: int = field(default=42, metadata={"help": "Seed of all that is random."})
    batch_tokens: int = field(default=4096, metadata={"help": "Tokens in one pass at most."})

    def rank(
        self, model: EditableModel, requests: Sequence[EditRequest | dict[str, Any]]
    ) -> LayerRanking:
        """Trace every request whose subject is in its prompt; the others are dropped.

        The answer that is watched is the model's own first token. The layer is that of the largest
        average indirect effect at the subject's last token; no layer is fenced out.

        Raises:
            ScoringError: no request is left, a prompt is too long, the tokenizer does not tell
                which characters a token holds, or a score is not finite.
        """
        from lga_fast.datasets import easyedit_requests

        for name in ("noise", "samples", "window"):
            if getattr(self, name) <= 0:
                raise ScoringError(f"cma: {name}={getattr(self, name)}: expected more than 0")
        edits = easyedit_requests(requests)
        started = time.perf_counter()
        used = [r for r in edits if r.subject_span is not None]
        dropped = tuple(
            Dropped(r.case_id, "its subject is not in its prompt")
            for r in edits
            if r.subject_span is None
        )
        if not used:
            raise ScoringError(
                f"cma: none of the {len(edits)} requests has a subject that is in its prompt"
            )
        prompts = [_prompt(model, request) for request in used]
        ranks = distributed.current()
        if ranks.size > 1:
            ranks.assert_same(
                model=model.fingerprint(), requests=checksum(used), options=asdict(self)
            )
        mine = ranks.balanced_shard([len(prompt.ids) for prompt in prompts])
        with (
            model.frozen(),
            fast_gelu(model.hf),
            progress.bar("tracing facts", len(mine)) as advance,
        ):
            tracer = Tracer(
                model,
                self.noise * noise_level(model, [r.subject or "" for r in used]),
                self.samples,
                self.window,
                self.seed,
                self.token_range == "all",
                self.batch_tokens,
            )
            own = tracer.trace([prompts[i] for i in mine], advance) if mine else []
        parts = ranks.gather(
            {
                "traces": dict(zip(mine, own, strict=True)),
                "sequence_forwards": tracer.sequence_forwards,
                "sequence_forwards_plain": tracer.plain_forwards,
                "seconds_scoring": time.perf_counter() - started,
                "peak_bytes": provenance.peak_bytes(model.device),
            }
        )
        by_place = {i: trace for part in parts for i, trace in part["traces"].items()}
        traces = [by_place[i] for i in range(len(prompts))]
        effects = np.array(
            [t.restored[p.subject[1] - 1] - t.low for t, p in zip(traces, prompts, strict=True)]
        )
        made = {
            "options": asdict(self),
            "data": asdict(edits.provenance),
            "noise_level": tracer.noise,
            "p_clean": float(np.mean([t.high for t in traces])),
            "p_noise": float(np.mean([t.low for t in traces])),
            **{
                name: sum(part[name] for part in parts)
                for name in ("sequence_forwards", "sequence_forwards_plain")
            },
            **{
                name: max(part[name] for part in parts)
                for name in ("seconds_scoring", "peak_bytes")
            },
        }
        if self.token_range == "all":
            made["effects_by_place"] = _by_place(prompts, traces)
        return _averaged.ranking(
            "cma",
            "AIE at the last subject token  [probability]",
            effects,
            [r.case_id for r in used],
            bootstrap=self.bootstrap,
            seed=self.seed,
            dropped=dropped,
            provenance=provenance.of(model) | ranks.provenance() | made,
            notes=self._notes(effects, made),
        )

    def _notes(self, effects: np.ndarray, made: dict[str, Any]) -> list[str]:
        notes = [
            "The score is the average indirect effect (AIE) of the MLPs of "
            f"{self.window} layers around each layer, at the subject's last token: the probability "
            f"of the model's own answer is {made['p_clean']:.3f}, with noise on the subject "
            f"{made['p_noise']:.3f}, and rises by the score where these MLPs' outputs are restored."
        ]
        equal = (effects[:, effects.mean(0).argmax(), None] == effects).all(0)
        if equal.sum() > 1:
            notes.append(
                f"Layers {', '.join(map(str, np.flatnonzero(equal)))} share the largest score: a "
                f"window of {self.window} around each of them restores the same MLPs, as far as "
                "they can act. The lowest is taken; a smaller window tells them apart."
            )
        return notes


def _prompt(model: EditableModel, request: EditRequest) -> Prompt:
    """Tokens of a prompt, and those of its subject by the characters that they hold."""
    ids, offsets = encode(model.tokenizer, request.prompt)
    if offsets is None:
        raise ScoringError(
            "cma needs a fast tokenizer, which tells which characters a token holds; "
            f"{type(model.tokenizer).__name__} does not"
        )
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
    """Average indirect effect by layer, of the kinds of places that ROME's figures tell apart."""
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
