"""Causal tracing of MLPs (Meng et al. 2022, arXiv 2202.05262 §2), restarted midway.

A prompt runs once clean and `samples` times with noise on its subject's embeddings. Then the MLP
outputs of a window of layers are restored to their clean values at one token: the probability of
the answer that this recovers is what the token's MLPs around that layer contribute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lga_fast import memory
from lga_fast.forward.partial_forward import RecordedForward
from lga_fast.models import EditableModel
from lga_fast.models.module_patching import hooked, unwrap_output
from lga_fast.models.tensor_utils import grad_mode, padded, wide

Window = tuple[int, int]  # layers [first, end)


@dataclass(frozen=True)
class Prompt:
    """A prompt's tokens and those of its subject, [first, end)."""

    ids: tuple[int, ...]
    subject: tuple[int, int]


@dataclass(frozen=True)
class Trace:
    """Probabilities of the answer that the model itself gives to one prompt."""

    answer: int
    high: float  # clean
    low: float  # with noise, mean over the samples
    restored: dict[int, Float[np.ndarray, " layer"]]  # by token: with noise, MLPs restored there


@dataclass(frozen=True)
class _Restoration:
    """One prompt of a batch, a token of it and the layers whose MLPs are restored there."""

    prompt: int
    token: int
    window: Window


@dataclass
class Tracer:
    """Traces prompts, and counts the forwards that this takes.

    Args:
        model: frozen by the caller.
        noise: standard deviation of the noise.
        samples: noisy runs of a prompt; the same noise for every token and layer.
        window: MLPs that are restored together.
        seed: of the noise.
        every_token: restore at every token, not only at the subject's last.
        batch_tokens: tokens in one forward at most; lowered where memory asks for it.
    """

    model: EditableModel
    noise: float
    samples: int
    window: int
    seed: int
    every_token: bool
    batch_tokens: int
    sequence_forwards: float = field(default=0.0, init=False)  # in whole rows through all blocks
    plain_forwards: int = field(default=0, init=False)  # of the same map, every forward in full

    def windows(self, at_last: bool = True) -> list[Window]:
        """Layers restored for each layer: half a window below it, itself, the rest above.

        At a prompt's last token, that is: before it the last layer is left out, because nothing
        reads its output there.
        """
        below, above, layers = self.window // 2, -(-self.window // 2), self.model.layers
        top = layers if at_last else layers - 1
        return [(max(0, i - below), min(top, i + above)) for i in range(layers)]

    def trace(self, prompts: Sequence[Prompt], advance: Callable[[int], None]) -> list[Trace]:
        """Trace every prompt; `advance` is called with the number traced after each batch."""
        rows = self.samples + 1
        lengths = {i: rows * len(p.ids) for i, p in enumerate(prompts)}
        traces: dict[int, Trace] = {}
        with grad_mode(False):
            for batch in memory.batches(lengths, self._limit(prompts)):
                traces |= zip(batch, self._trace([prompts[i] for i in batch]), strict=True)
                advance(len(batch))
        return [traces[i] for i in range(len(prompts))]

    def _limit(self, prompts: Sequence[Prompt]) -> int:
        """Tokens in one forward: what is kept of each block, one block at work, and logits."""
        model, shortest = self.model, min(len(p.ids) for p in prompts)
        states = 4 * model.layers * model.config.hidden_size * torch.finfo(model.dtype).bits // 8
        logits = model.memory.logit_bytes // shortest
        per_token = states + model.memory.block_token_bytes + logits
        return min(self.batch_tokens, int(model.memory.activation_budget / per_token))

    def _trace(self, prompts: list[Prompt]) -> list[Trace]:
        model, rows = self.model, self.samples + 1
        ids = padded([p.ids for p in prompts]).repeat_interleave(rows, 0)
        last = torch.tensor([len(p.ids) - 1 for p in prompts])
        recording = RecordedForward(model, ids, {first for first, _ in self.windows()})
        clean: dict[int, Tensor] = {}  # by layer: MLPs' outputs, clean rows [prompt token d_out]

        def record(layer: int, module: Any, args: Any, output: Any) -> None:
            clean[layer] = unwrap_output(output).view(*ids.shape, -1)[::rows].clone()

        noise = self._noise(prompts, ids.shape[1])
        embedding = model.hf.get_input_embeddings()
        parts = [(i, model.part(i, "mlp")) for i in model.mlp_layers]
        with ExitStack() as stack:
            for i, mlp in parts:
                stack.enter_context(hooked(mlp.register_forward_hook, partial(record, i)))
            disturb = partial(_disturb, noise)
            stack.enter_context(hooked(embedding.register_forward_hook, disturb))
            logits = recording.run(torch.arange(len(ids)), last.repeat_interleave(rows))
        p = wide(logits).softmax(-1).view(len(prompts), rows, -1)
        high, answers = p[:, 0].max(-1)
        low = _of_answer(p[:, 1:], answers)
        self.sequence_forwards += len(ids)
        traces = [
            Trace(int(answers[i]), float(high[i]), float(low[i]), {}) for i in range(len(prompts))
        ]
        self._restore(prompts, recording, clean, answers, traces)
        return traces

    def _noise(self, prompts: list[Prompt], width: int) -> Float[Tensor, "row token d_model"]:
        """Noise on the subjects' tokens; nothing in every prompt's first, clean row."""
        d_model = self.model.hf.get_input_embeddings().weight.shape[1]
        noise = torch.zeros(len(prompts), self.samples + 1, width, d_model, dtype=torch.float64)
        for i, prompt in enumerate(prompts):
            first, end = prompt.subject
            # numpy's oldest generator: its numbers are the same in every version.
            drawn = np.random.RandomState(self.seed).randn(self.samples, end - first, d_model)
            noise[i, 1:, first:end] = self.noise * torch.from_numpy(drawn)
        return noise.flatten(0, 1)

    def _restore(
        self,
        prompts: list[Prompt],
        recording: RecordedForward,
        clean: dict[int, Tensor],
        answers: Tensor,
        traces: list[Trace],
    ) -> None:
        """Fill `restored` of `traces`; layers with the same window are computed once."""
        layers = self.model.layers
        wanted: dict[_Restoration, list[int]] = {}  # the layers that each one serves
        for i, prompt in enumerate(prompts):
            tokens = range(len(prompt.ids)) if self.every_token else [prompt.subject[1] - 1]
            self.plain_forwards += (len(tokens) * layers + 2) * (self.samples + 1)
            for token in tokens:
                traces[i].restored[token] = np.full(layers, traces[i].low)
                if token < prompt.subject[0]:  # it sees no noise: nothing to restore
                    continue
                for layer, window in enumerate(self.windows(token == len(prompt.ids) - 1)):
                    if window[0] < window[1]:
                        wanted.setdefault(_Restoration(i, token, window), []).append(layer)
        for first in recording.blocks:
            here = [r for r in wanted if r.window[0] == first]
            spans = {
                n: (recording.first(r.token), len(prompts[r.prompt].ids))
                for n, r in enumerate(here)
            }
            lengths = {n: self.samples * (end - begin) for n, (begin, end) in spans.items()}
            for batch in _batches(lengths, self._limit(prompts)):
                some = [here[n] for n in batch]
                begin, end = torch.tensor([spans[n] for n in batch]).T
                values = self._run(recording, some, begin, end - 1, clean, answers)
                for r, value in zip(some, values.tolist(), strict=True):
                    traces[r.prompt].restored[r.token][wanted[r]] = value
            blocks = (layers - first) / layers
            for n, r in enumerate(here):
                self.sequence_forwards += lengths[n] / len(prompts[r.prompt].ids) * blocks

    def _run(
        self,
        recording: RecordedForward,
        batch: list[_Restoration],
        begin: Tensor,
        last: Tensor,
        clean: dict[int, Tensor],
        answers: Tensor,
    ) -> Float[Tensor, " restoration"]:
        """Probabilities of the answers with these MLP outputs restored, mean over the samples."""
        samples = self.samples
        prompt = torch.tensor([r.prompt for r in batch])
        token = torch.tensor([r.token for r in batch])
        end = torch.tensor([r.window[1] for r in batch])
        noisy = torch.arange(1, samples + 1)
        rows = (prompt.unsqueeze(1) * (samples + 1) + noisy).flatten()

        def restore(layer: int, output: Float[Tensor, "run token d"]) -> Tensor:
            held = (end > layer).nonzero().squeeze(1)  # restorations whose window has the layer
            runs = (held.unsqueeze(1) * samples + torch.arange(samples)).flatten()
            at = (token - begin)[held].repeat_interleave(samples)
            value = clean[layer][prompt[held], token[held]].repeat_interleave(samples, 0)
            return output.index_put((runs.to(output.device), at.to(output.device)), value)

        first = batch[0].window[0]
        window = [layer for layer in range(first, int(end.max())) if layer in clean]
        hooks = {self.model.part(layer, "mlp"): partial(restore, layer) for layer in window}
        begins, wanted = begin.repeat_interleave(samples), (last - begin).repeat_interleave(samples)
        logits = recording.run_from(first, rows, begins, (torch.arange(len(rows)), wanted), hooks)
        p = wide(logits).softmax(-1).view(len(batch), samples, -1)
        return _of_answer(p, answers[prompt.to(answers.device)])


def _batches(lengths: dict[int, int], batch_tokens: int) -> Iterator[list[int]]:
    """Batches in which no item is padded to more than twice its length."""
    for size in sorted({length.bit_length() for length in lengths.values()}):
        alike = {i: length for i, length in lengths.items() if length.bit_length() == size}
        yield from memory.batches(alike, batch_tokens)


def noise_level(model: EditableModel, subjects: Sequence[str]) -> float:
    """Standard deviation of the embeddings of all subjects' tokens, special tokens left out."""
    ids = [
        token
        for subject in subjects
        for token in model.tokenizer(subject, add_special_tokens=False)["input_ids"]
    ]
    with grad_mode(False):
        embedding = model.hf.get_input_embeddings()
        return float(embedding(torch.tensor([ids], device=model.device)).double().std())


def _disturb(noise: Tensor, module: object, args: object, output: Tensor) -> Tensor:
    # Added before rounding to the model's dtype, where the noise is drawn in float64.
    return (output.double() + noise.to(output.device)).to(output.dtype)


def _of_answer(
    p: Float[Tensor, "prompt sample vocab"], answers: Tensor
) -> Float[Tensor, " prompt"]:
    """Probability of each prompt's answer, mean over the samples."""
    return p[torch.arange(len(p)), :, answers].double().mean(1)
