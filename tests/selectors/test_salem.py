"""SaLEM: mean absolute gradients against autograd, and what it counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lga_fast import score_layers, select_layer
from lga_fast.errors import ScoringError
from lga_fast.forward import decoding
from lga_fast.ops import reference
from lga_fast.records import EditRequest
from lga_fast.scoring import batch_layout
from lga_fast.scoring.options import ScoringOptions
from lga_fast.scoring.pairs import build_pairs
from lga_fast.selectors.salem import Selector

pytestmark = pytest.mark.usefixtures("keep_double")

REQUESTS = [
    EditRequest("0", "The mother tongue of Danielle Darrieux is", "English", target_old="French"),
    EditRequest("1", "The capital of France is", "New York"),
    EditRequest("2", "Q: Who wrote the long book? A:", "Danielle Darrieux and Ann Lee"),
]


def gradients(model, request) -> list[list[torch.Tensor]]:
    """Whole gradients of one new answer's loss, of every layer's MLP weights."""
    row = build_pairs(model, [request], ScoringOptions(None))[0][0].new
    with model.frozen():
        model.hf.requires_grad_(True)
        logits = model.hf(torch.tensor([row.ids]), use_cache=False).logits[0]
        labels = torch.tensor(row.target)
        torch.nn.functional.cross_entropy(logits[row.start - 1 : -1], labels).backward()
        found = [
            [model.matrix(layer, role).weight.grad for role in model.family.matrices]
            for layer in range(model.layers)
        ]
    model.hf.zero_grad(set_to_none=True)
    return found


VALUES = {
    "l1mean": lambda each: torch.stack([g.abs().mean() for g in each]).mean(),
    "l2": lambda each: torch.cat([g.flatten() for g in each]).norm(),
    "l2rms": lambda each: torch.cat([g.flatten() for g in each]).square().mean().sqrt(),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3", "qwen3", "opt"])
def test_equals_autograd(family, packed, monkeypatch):
    """Alone (new rows only) and in LGA's pass, whichever way its rows are laid out."""
    model = tiny.model(family, sliding_window=64)
    monkeypatch.setattr(batch_layout, "packing_pays", lambda pair: packed)
    grads = [gradients(model, request) for request in REQUESTS]
    for norm, value in VALUES.items():
        wanted = [np.mean([float(value(g[layer])) for g in grads]) for layer in range(5)]
        alone = select_layer(model, REQUESTS, "salem", norm=norm)
        assert alone.scores == pytest.approx(wanted, rel=1e-10)
        assert alone.layer == int(np.argmax(wanted)) and alone.fences is None
        shared = select_layer(model, REQUESTS, ["lga", "salem"], norm=norm)["salem"]
        assert shared.scores == pytest.approx(wanted, rel=1e-10)


def test_a_fused_matrix_counts_as_the_two_that_it_is():
    model = tiny.model("phi3")
    grads = [gradients(model, request) for request in REQUESTS]
    flat = [[torch.cat([m.flatten() for m in layer]) for layer in g] for g in grads]
    wanted = [np.mean([float(g[layer].abs().mean()) for g in flat]) for layer in range(5)]
    assert select_layer(model, REQUESTS, "salem").scores == pytest.approx(wanted, rel=1e-10)


class _Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that an op returns."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        known = {t.untyped_storage().data_ptr() for t in args if isinstance(t, torch.Tensor)}
        for t in out if isinstance(out, tuple | list) else [out]:
            if isinstance(t, torch.Tensor) and t.untyped_storage().data_ptr() not in known:
                self.elements = max(self.elements, t.numel())
        return out


def test_no_gradient_of_a_weights_size_is_held(monkeypatch):
    """Weights are the largest thing here: nothing that is made comes near one."""
    model = tiny.model("llama", torch.float32, hidden_size=256, intermediate_size=1536)
    weight = 256 * 1536
    with _Largest() as largest:
        score_layers(model, REQUESTS, old=None, abs_new=True)
    assert 0 < largest.elements < weight // 3
    monkeypatch.setattr(reference, "TILE", 64)  # the plain-torch form, which others must equal
    a, d = torch.randn(20, 1536), torch.randn(20, 256)
    with _Largest() as largest:
        reference.grad_abs_sum(a, d, torch.tensor([[0, 20]]))
    assert largest.elements <= 64 * 1536
    with _Largest() as largest:  # the check can fail
        (d.T @ a).abs().sum()
    assert largest.elements == weight


def test_only_new_rows_run_and_no_old_answer_is_made(monkeypatch):
    model = tiny.model("gpt2")
    monkeypatch.setattr(
        decoding, "greedy_batches", lambda *args: pytest.fail("an old answer was generated")
    )
    ranking = select_layer(model, REQUESTS, "salem")
    assert ranking.provenance["sequence_forwards"] == 2 * len(REQUESTS)
    assert ranking.provenance["old"] is None


def test_only_wrong_leaves_out_what_the_model_says_already():
    model = tiny.model("gpt2")
    token = model.tokenizer(" of")["input_ids"]
    assert len(token) == 1
    with torch.no_grad():  # the model now says this one token, whatever it is asked
        model.hf.lm_head.weight[token[0]] *= 3
        model.hf.transformer.ln_f.weight.zero_()
        model.hf.transformer.ln_f.bias.copy_(10 * model.hf.lm_head.weight[token[0]])
    known = replace(REQUESTS[0], case_id="known", target_new="of", target_old="a b c")
    edits = [known, *REQUESTS[1:]]
    for old in (None, "model", "ground_truth"):
        for loss_scope in ("target", "full"):
            scores = score_layers(model, edits, old=old, abs_new=True, loss_scope=loss_scope)
            assert scores.says_new.tolist() == [True, False, False]
    model = tiny.model("gpt2")
    scores = score_layers(model, edits, old=None, abs_new=True)
    scores.says_new[0] = True
    ranking = Selector(only_wrong=True).aggregate(scores)
    assert (ranking.requests, ranking.known) == (2, 1)
    assert ranking.scores == pytest.approx(select_layer(model, edits[1:], "salem").scores)
    scores.says_new[:] = True
    with pytest.raises(ScoringError, match="only_wrong leaves none"):
        Selector(only_wrong=True).aggregate(scores)


def test_a_score_that_is_not_finite_is_named():
    model = tiny.model("gpt2")
    scores = score_layers(model, REQUESTS, old=None)
    scores.norm2_new["down.weight"][1, 3] = np.inf
    with pytest.raises(ScoringError, match="salem, layer 3: the score of request '1' is inf"):
        Selector(norm="l2").aggregate(scores)
