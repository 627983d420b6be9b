"""Log-probabilities of the answers against plain torch."""

from __future__ import annotations

import pytest
import tiny
import torch

from lga_fast.metrics import choose, measure_cases
from lga_fast.records import EditRequest, Probe
from lga_fast.tokens import target_row

REQUEST = EditRequest(
    "0",
    "The capital of France is",
    "New York",
    probes=(
        Probe("rephrase", "rephrase", "France has its capital in", "ignored"),
        Probe("rephrase", "rephrase", "In France people govern from", "ignored"),
        Probe("locality", "locality", "The capital of Italy is", "Rome"),
        Probe("locality", "locality", "The capital of Spain is", "Madrid"),
    ),
)


def mean_log_prob(model, prompt, answer):
    row = target_row(model.tokenizer, prompt, answer)
    with torch.no_grad(), model.frozen():
        log_p = model.hf(torch.tensor([row.ids])).logits[0].double().log_softmax(-1)
    places = range(row.start - 1, len(row.ids) - 1)
    return sum(float(log_p[t, row.ids[t + 1]]) for t in places) / len(row.target)


def test_values_are_means_over_tokens_then_probes():
    model = tiny.model("llama", torch.float32)
    metrics = choose(["log_prob"])
    (values,), answers = measure_cases(model, [REQUEST], None, metrics)
    rephrase = [mean_log_prob(model, p.prompt, "New York") for p in REQUEST.probes[:2]]
    assert values == {
        "log_prob": pytest.approx(mean_log_prob(model, REQUEST.prompt, "New York"), rel=1e-5),
        "log_prob/rephrase": pytest.approx(sum(rephrase) / 2, rel=1e-5),
        "log_prob/locality": 0,
    }
    before = [mean_log_prob(model, p.prompt, p.answer) for p in REQUEST.probes[2:]]
    with torch.no_grad():
        model.hf.lm_head.weight.mul_(1.5)
    (values,), _ = measure_cases(model, [REQUEST], None, metrics, answers)
    after = [mean_log_prob(model, p.prompt, p.answer) for p in REQUEST.probes[2:]]
    changes = [abs(old - new) for old, new in zip(before, after, strict=True)]
    assert min(changes) > 0.01
    assert values["log_prob/locality"] == pytest.approx(-sum(changes) / 2, rel=1e-4)


def test_nats_have_no_part_in_the_overall_mean_and_missing_probes_no_value():
    model = tiny.model("gpt2", torch.float32)
    bare = EditRequest("1", REQUEST.prompt, REQUEST.target_new)
    metrics = choose(["rewrite", "log_prob", "overall"])
    (values,), _ = measure_cases(model, [bare], None, metrics)
    assert values["overall"] == values["rewrite"] and values["log_prob"] < 0
    assert values["log_prob/rephrase"] is values["log_prob/locality"] is None
