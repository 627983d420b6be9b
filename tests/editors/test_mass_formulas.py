"""What MEMIT, EMMET and AlphaEdit promise holds for the keys and residuals of small models."""

from __future__ import annotations

import pytest
import tiny
import torch
from mass import CONTEXTS, FAMILIES, GENTLE, LAYER, OPTIONS, REQUESTS, THRESHOLD, editor, solved

import lga_fast
from lga_fast.errors import EditError, LgaFastWarning
from lga_fast.records import EditRequest

pytestmark = pytest.mark.usefixtures("keep_double")


@pytest.mark.parametrize("family", FAMILIES)
def test_memit_is_the_ridge_solution(family):
    """ΔW minimises λ tr(ΔW C ΔWᵀ) + ‖ΔW K − R‖²: the gradient is 0, and so is the dense form's."""
    it = solved("memit", family)
    weight = OPTIONS["memit"]["mom2_weight"]
    gap = it.keys @ it.change.T - it.residual
    gradient = gap.T @ it.keys + weight * it.change @ it.second
    assert float(gradient.norm()) < 1e-9 * float((it.residual.T @ it.keys).norm())
    dense = torch.linalg.solve(weight * it.second + it.keys.T @ it.keys, it.keys.T @ it.residual).T
    torch.testing.assert_close(it.change, dense, rtol=1e-7, atol=1e-10)
    assert 0.05 < float(gap.norm() / it.residual.norm()) < 0.95, "neither all nor nothing"
    (first, *_) = it.updates[LAYER].written
    (alone,) = solved("memit", family, REQUESTS[:1]).updates[LAYER].written
    assert first == pytest.approx(alone)


@pytest.mark.parametrize("family", FAMILIES)
def test_emmet_keeps_the_equality_at_the_least_cost(family):
    """λ_E = 0: (W + ΔW) K = W K + R, and ΔW C_w is a combination of the keys (Lagrange)."""
    it = solved("emmet", family, emmet_lambda=0.0)
    torch.testing.assert_close(it.keys @ it.change.T, it.residual, rtol=1e-9, atol=1e-11)
    weighted = it.change @ (20 * it.second + 1e-3 * torch.eye(48).to(it.second))
    keys = torch.linalg.qr(it.keys.T).Q
    torch.testing.assert_close(weighted @ keys @ keys.T, weighted, rtol=1e-7, atol=1e-9)
    assert it.updates[LAYER].written == pytest.approx([1, 1, 1])


def test_emmets_lambda_holds_as_its_policy_says():
    first = REQUESTS[:1]
    for policy, batch, equal in (
        ("always", first, False),
        ("always", REQUESTS, False),
        ("batch_gt_1", first, True),
        ("batch_gt_1", REQUESTS, False),
    ):
        it = solved("emmet", requests=batch, lambda_policy=policy)
        reach = it.keys @ it.change.T
        assert torch.allclose(reach, it.residual, rtol=1e-6) == equal
        if policy == "always" and batch is first:  # shrunk by D / (D + λ_E)
            (share,) = it.updates[LAYER].written
            torch.testing.assert_close(reach, share * it.residual, rtol=1e-9, atol=1e-12)
            weighted = 20 * it.second + 1e-3 * torch.eye(48).to(it.second)
            size = float(it.keys @ torch.linalg.solve(weighted, it.keys.T))
            assert share == pytest.approx(size / (size + 0.5))


def test_requests_that_keys_cannot_tell_apart_share_their_changes():
    model = tiny.model("gpt2")
    twice = [REQUESTS[0], EditRequest("d", REQUESTS[0].prompt, "Rome", "Paris", (13, 18))]
    ready = editor("emmet", emmet_lambda=0.0).prepare(model, LAYER)
    values = ready._values(twice)
    (update,) = ready._updates(twice, values).values()
    mean = (values[0].delta + values[1].delta) / 2
    reach = update.keys @ (update.left @ update.right.T).T
    torch.testing.assert_close(reach, torch.stack([mean, mean]), rtol=1e-6, atol=1e-9)
    (note,) = ready._edit(twice, values, {LAYER: update}).provenance["notes"]
    assert note.startswith("layer 2: the keys of the 2 requests are linearly dependent")


@pytest.mark.parametrize("family", FAMILIES)
def test_alphaedit_leaves_the_kept_directions_alone(family):
    """ΔW annihilates them, and is (P (K Kᵀ + M) + L2·I)⁻¹ P K Rᵀ; M are earlier edits' keys."""
    it = solved("alphaedit", family)
    sizes, vectors = torch.linalg.eigh(it.second)
    kept, free = vectors[:, sizes >= THRESHOLD], vectors[:, sizes < THRESHOLD]
    assert min(kept.shape[1], free.shape[1]) > 10
    assert float((it.change @ kept).norm()) < 1e-12 * float(it.change.norm())
    projection = torch.from_numpy(free.numpy() @ free.numpy().T)

    def dense(keys, earlier, residual):
        gram = keys.T @ keys + earlier.T @ earlier
        system = projection @ gram + 1e-2 * torch.eye(48).to(gram)
        return torch.linalg.solve(system, projection @ keys.T @ residual).T

    none = it.keys[:0]
    torch.testing.assert_close(it.change, dense(it.keys, none, it.residual), rtol=1e-7, atol=1e-9)
    ready = editor("alphaedit").prepare(it.model, LAYER)
    ready.solve_joint(REQUESTS[:1])
    ready.solve_independent(REQUESTS[1:])  # independent edits leave nothing behind
    ready.solve_joint(REQUESTS[1:2])
    update = ready.update(LAYER, it.keys[2:], it.residual[2:])
    wanted = dense(it.keys[2:], it.keys[:2], it.residual[2:])
    torch.testing.assert_close(update.left @ update.right.T, wanted, rtol=1e-6, atol=1e-9)
    alone = dense(it.keys[2:], none, it.residual[2:])
    spared = [float((it.keys[:2] @ change.T).norm()) for change in (wanted, alone)]
    assert spared[0] < 0.9 * spared[1], "what earlier edits wrote moves less"


def test_alphaedit_without_free_or_without_kept_directions():
    model = tiny.model("gpt2", torch.float32)
    options = {"layer": LAYER, "contexts": CONTEXTS, **GENTLE}
    with pytest.raises(
        EditError,
        match=r"layer 2: none of the 48 directions .* below nullspace_threshold 1e-09, so none is "
        r"free to use: the smallest is 3.\d+e-05, the largest 0.6\d+\. Raise nullspace_threshold",
    ):
        lga_fast.edit(model, REQUESTS, "alphaedit", nullspace_threshold=1e-9, **options)
    options |= {"nullspace_threshold": 9, "l2": 1e-3}
    with pytest.warns(
        LgaFastWarning, match="layer 2: all 48 directions of its keys .* no key is p"
    ):
        made = lga_fast.edit(model, REQUESTS, "alphaedit", **options)
    report = made.provenance["second_moment"]["2"]
    assert report["free"] == report["directions"] == 48 and report["corpus"] == "atlas/text.txt"
