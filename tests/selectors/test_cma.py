"""Causal tracing against plain forwards with hooks."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch

from lga_fast import registry, select_layer
from lga_fast.errors import ScoringError, UnsupportedModel
from lga_fast.models import EditableModel
from lga_fast.models.module_patching import unwrap_output
from lga_fast.records import EditRequest, LayerRanking
from lga_fast.selectors import cma
from lga_fast.selectors._tracing import Prompt, Trace, Tracer, noise_level

pytestmark = pytest.mark.usefixtures("keep_double")

EDITS = [
    EditRequest("a", "The capital of France is", "Rome", "France", (15, 21), "Paris"),
    EditRequest("b", "In which city does the tower stand? It", "Rome", "the tower", (19, 28)),
    EditRequest("c", "Danielle Darrieux", "English", "Danielle Darrieux", (0, 17)),
]
FAMILIES = registry.names("lga_fast.models.families")


def plain(model: EditableModel, prompt: Prompt, how: Tracer) -> Trace:
    """One prompt, a whole forward of every row for every token and layer."""
    samples, last = how.samples, len(prompt.ids) - 1
    ids = torch.tensor([prompt.ids] * (samples + 1))
    (first, end), width = prompt.subject, model.config.hidden_size
    noise = how.noise * np.random.RandomState(how.seed).randn(samples, end - first, width)

    def disturb(module, args, output):
        output = output.clone()
        output[1:, first:end] += torch.from_numpy(noise)
        return output

    def probabilities(token: int | None = None, layers: range = range(0)) -> torch.Tensor:
        def restore(module, args, output):
            rows = unwrap_output(output).clone().view(samples + 1, last + 1, -1)
            rows[1:, token] = rows[0, token]
            given = rows.view_as(unwrap_output(output))
            return (given, *output[1:]) if isinstance(output, tuple) else given

        hooks = [model.part(i, "mlp").register_forward_hook(restore) for i in layers]
        hooks.append(model.hf.get_input_embeddings().register_forward_hook(disturb))
        p = model.hf(ids, use_cache=False).logits[:, -1].softmax(-1)
        for hook in hooks:
            hook.remove()
        return p

    with torch.no_grad(), model.frozen():
        p = probabilities()
        answer = int(p[0].argmax())
        tokens = range(last + 1) if how.every_token else [end - 1]
        half, layers = how.window // 2, model.layers
        restored = {
            t: np.array(
                [
                    float(
                        probabilities(
                            t, range(max(0, i - half), min(layers, i - half + how.window))
                        )[1:, answer].mean()
                    )
                    for i in range(layers)
                ]
            )
            for t in tokens
        }
    return Trace(answer, float(p[0, answer]), float(p[1:, answer].mean()), restored)


def trace(
    model: EditableModel, edits: list[EditRequest] = EDITS, **options
) -> tuple[list[Prompt], Tracer, list[Trace]]:
    given = {"noise": 0.5, "samples": 3, "window": 2, "seed": 1, "every_token": False}
    tracer = Tracer(model, **(given | {"batch_tokens": 4096} | options))
    prompts = [cma._prompt(model, edit) for edit in edits]
    with model.frozen():
        return prompts, tracer, tracer.trace(prompts, lambda done: None)


def assert_same(got: list[Trace], want: list[Trace]) -> None:
    for one, other in zip(got, want, strict=True):
        assert (one.answer, one.restored.keys()) == (other.answer, other.restored.keys())
        assert [one.high, one.low] == pytest.approx([other.high, other.low], rel=1e-10, abs=0)
        for token, values in other.restored.items():
            np.testing.assert_allclose(one.restored[token], values, rtol=1e-10, atol=0)


def largest_effect(traces: list[Trace]) -> float:
    return max(float(np.abs(v - t.low).max() / t.low) for t in traces for v in t.restored.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_plain_forwards(family):
    model = tiny.model(family)
    if not model.whole_mlps:  # its experts and its MLP have no output in common
        with pytest.raises(UnsupportedModel, match="expected one module whose output is that of"):
            trace(model)
        return
    prompts, tracer, found = trace(model)
    assert_same(found, [plain(model, prompt, tracer) for prompt in prompts])
    assert largest_effect(found) > 1e-4  # there is something to be right about


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3", "qwen3"])
def test_every_token(family):
    model, edits = tiny.model(family, sliding_window=64), [EDITS[0], EDITS[2]]
    prompts, tracer, found = trace(model, edits, samples=2, window=3, every_token=True)
    assert_same(found, [plain(model, prompt, tracer) for prompt in prompts])
    assert set(found[0].restored) == set(range(len(prompts[0].ids)))


@pytest.mark.parametrize("window", [1, 3, 10])
def test_every_window_and_batch(window):
    model = tiny.model("gpt2")
    prompts, tracer, found = trace(model, window=window)
    assert_same(found, [plain(model, prompt, tracer) for prompt in prompts])
    for batch_tokens in (1, 100):
        assert_same(trace(model, window=window, batch_tokens=batch_tokens)[2], found)


def test_the_work_is_counted():
    model = tiny.model("gpt2")
    prompts, tracer, _ = trace(model, window=2, samples=3)
    layers, rows = model.layers, 4
    assert tracer.plain_forwards == len(EDITS) * (layers + 2) * rows
    work = len(EDITS) * rows  # the recorded rows
    for prompt in prompts:
        tail = len(prompt.ids) - prompt.subject[1] + 1
        # Layer 0 restores [0, 1), layer i [i - 1, i + 1), each from its first layer on. The last
        # layer's output is read at the last token only: without it, layer 4 restores [3, 4).
        blocks = sum(layers - max(0, i - 1) for i in range(layers))
        work += 3 * tail / len(prompt.ids) * blocks / layers
    assert tracer.sequence_forwards == pytest.approx(work)
    _, every, _ = trace(model, window=2, samples=3, every_token=True)
    assert every.plain_forwards == sum((len(p.ids) * layers + 2) * rows for p in prompts)


def test_a_ranking_says_what_it_means():
    model = tiny.model("gpt2")
    edits = EDITS[:2]
    ranking = select_layer(model, edits, "cma", window=3, samples=4, token_range="all")
    made = ranking.provenance
    prompts, _, traces = trace(
        model, noise=made["noise_level"], window=3, samples=4, seed=42, every_token=True
    )
    at_last = [t.restored[p.subject[1] - 1] - t.low for t, p in zip(traces, prompts, strict=True)]
    effects = np.array(at_last[:2])
    assert ranking.scores == pytest.approx(effects.mean(0)) and ranking.fences is None
    assert ranking.layer == int(effects.mean(0).argmax()) and not ranking.excluded
    assert ranking.score_label.startswith("AIE") and "subject's last token" in ranking.notes[0]
    assert f"{np.mean([t.high for t in traces[:2]]):.3f}" in ranking.notes[0]
    assert made["effects_by_place"]["last subject token"] == pytest.approx(ranking.scores)
    assert made["sequence_forwards"] < made["sequence_forwards_plain"]
    only = select_layer(model, edits, "cma", window=3, samples=4)
    assert only.scores == pytest.approx(ranking.scores) and only.layer == ranking.layer
    assert LayerRanking.from_json(ranking.to_json()) == ranking


def test_windows_that_reach_over_all_layers_tie_exactly():
    ranking = select_layer(tiny.model("llama"), EDITS[:2], "cma")
    # From layer 0 on all five, and the last one cannot act before the last token.
    assert len(set(ranking.scores)) == 1 and ranking.layer == 0
    assert any(
        "Layers 0, 1, 2, 3, 4 tie at" in note and "a smaller window" in note
        for note in ranking.notes
    )


def test_noise_is_that_of_the_seed_in_units_of_the_subjects_spread():
    model = tiny.model("qwen2")
    ids = [model.tokenizer(e.subject)["input_ids"] for e in EDITS]
    flat = torch.tensor([token for row in ids for token in row])
    spread = float(model.hf.get_input_embeddings().weight.detach()[flat].std())
    assert noise_level(model, [e.subject or "" for e in EDITS]) == pytest.approx(spread)
    first = select_layer(model, EDITS, "cma", window=2)
    assert first.provenance["noise_level"] == pytest.approx(3 * spread)
    assert first.scores == select_layer(model, EDITS, "cma", window=2).scores
    assert first.scores != select_layer(model, EDITS, "cma", window=2, seed=1).scores
    weaker = select_layer(model, EDITS, "cma", window=2, noise=1.0)
    assert weaker.provenance["noise_level"] == pytest.approx(spread)


def test_a_subject_is_found_by_its_characters():
    text = "It is said of Ωmëga–Straße that"
    request = EditRequest("x", text, "Rome", "Ωmëga–Straße", (14, 26))
    model = tiny.model("gpt2")
    prompt = cma._prompt(model, request)
    pieces = model.tokenizer.convert_ids_to_tokens(list(prompt.ids))
    first, end = prompt.subject
    held = model.tokenizer.backend_tokenizer.decoder.decode(pieces[first:end])
    assert held.strip() == request.subject
    model = tiny.model("llama", tokenizer=tiny.metaspace(add_eos=True))
    prompt = cma._prompt(model, EDITS[0])
    pieces = model.tokenizer.convert_ids_to_tokens(list(prompt.ids))
    assert pieces[0] == "<s>" and pieces[-1] != "</s>"
    first, end = prompt.subject
    assert "".join(pieces[first:end]) == "▁France"


def test_requests_without_a_subject_are_dropped_and_counted():
    model = tiny.model("gpt2")
    edits = [EDITS[0], EditRequest("d", "The tower stands in", "Rome"), EDITS[1]]
    ranking = select_layer(model, edits, "cma", samples=2)
    assert (ranking.requests, [d.case_id for d in ranking.dropped]) == (2, ["d"])
    assert ranking.dropped[0].reason == "its subject is not in its prompt"
    assert ranking.scores == select_layer(model, EDITS[:2], "cma", samples=2).scores
    with pytest.raises(ScoringError, match="none of 1 requests has its subject"):
        select_layer(model, edits[1:2], "cma")


def test_what_cannot_be_traced_is_refused():
    model = tiny.model("gpt2")
    long = EditRequest("l", "France " + "word " * 200, "Rome", "France", (0, 6))
    with pytest.raises(ScoringError, match="request 'l': the prompt takes .* at most 128"):
        select_layer(model, [long], "cma")
    with torch.no_grad():
        model.hf.transformer.ln_f.weight.fill_(float("nan"))
    with pytest.raises(
        ScoringError, match="NaN or infinite ones at 6 of 6.*: transformer.ln_f.weight; repair"
    ):
        select_layer(model, EDITS, "cma")
