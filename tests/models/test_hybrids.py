"""Stacks whose blocks differ: every layer can be edited, ranked and decoded, or says why not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import lga_fast
from lga_fast.errors import EditError
from lga_fast.models import EditableModel
from lga_fast.models.module_patching import unwrap_output
from lga_fast.records import EditRequest, LayerRanking
from lga_fast.scoring import estimate_cost
from lga_fast.scoring.options import ScoringOptions
from lga_fast.selectors._selector import with_notes
from tests.both_placements import assert_same_bits, both

FACT = EditRequest("a", "The capital of France is", "Rome", "France", (15, 21), "Paris")
FACTS = [FACT, EditRequest("b", "Berlin is the capital of", "Italy", "Berlin", (0, 6), "Paris")]
HYBRIDS = ["qwen3_5_text", "lfm2", "granitemoehybrid-dense", "gemma4_text-shared"]


@pytest.fixture
def nemotron_h() -> EditableModel:
    """Layers of attention, of a state, and of an MLP alone."""
    torch.manual_seed(0)
    kinds = ["linear_attention", "mlp", "full_attention", "mlp", "linear_attention", "mlp"]
    config = AutoConfig.for_model(
        "nemotron_h",
        **tiny._SIZES | {"num_hidden_layers": 6, "layers_block_type": kinds},
        mamba_num_heads=4,
        mamba_head_dim=16,
        ssm_state_size=8,
        n_groups=1,
        chunk_size=8,
    )
    return EditableModel(AutoModelForCausalLM.from_config(config), tiny.byte_level(), "nemotron")


@pytest.fixture
def quick(tmp_path) -> str:
    """A config of quick edits."""
    path = tmp_path / "quick.yaml"
    path.write_text("v_num_grad_steps: 1\ncontexts: []\n")
    return str(path)


@pytest.mark.parametrize("family", HYBRIDS)
def test_brute_force_edits_at_every_layer(family, quick):
    model = tiny.model(family, torch.float32)
    before = {name: p.clone() for name, p in model.hf.state_dict().items()}
    ranking = lga_fast.select_layer(model, [FACT], "brute_force", config=quick)
    assert sorted(ranking.order) == list(range(5))
    assert all(torch.equal(before[name], p) for name, p in model.hf.state_dict().items())


@pytest.mark.parametrize(
    "selector", ["lga", "salem", "reach", "cma", "brute_force", "random_layer"]
)
def test_layers_without_an_mlp_are_not_ranked(nemotron_h, selector, quick):
    assert nemotron_h.mlp_layers == [1, 3, 5]
    options = {"config": quick} if selector == "brute_force" else {}
    ranking = lga_fast.select_layer(nemotron_h, FACTS, selector, **options)
    assert set(ranking.order) <= {1, 3, 5} and {0, 2, 4} <= set(ranking.excluded)
    notes = [note for note in ranking.notes if "they have no MLP of their own" in note]
    assert len(notes) == (selector != "random_layer")
    assert ranking.provenance["layers_without_mlp"] == [0, 2, 4]


def test_a_streamed_backward_ends_at_the_lowest_mlp(nemotron_h, tmp_path):
    """Below it there is no gradient to send back, and no block to read."""
    resident, streamed = both(tmp_path, nemotron_h, dtype="float32")
    walked, walk = [], streamed._runner.walk
    streamed._runner.walk = lambda layers, **more: (walked.append([*layers]), walk(layers, **more))[
        1
    ]
    plan = estimate_cost(streamed, FACTS, ScoringOptions("ground_truth")).streaming
    streamed.fingerprint()  # has been read
    before = streamed.shards.bytes_read
    scores = [lga_fast.score_layers(m, FACTS, old="ground_truth") for m in (streamed, resident)]
    assert_same_bits(*scores)
    assert walked[-2:] == [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1]]
    assert plan is not None
    rows_and_one_block = streamed.shards.bytes_read - before - plan.read_bytes
    assert abs(rows_and_one_block) < streamed.block_bytes()


def test_a_layer_that_only_mixes_tokens_is_not_edited(nemotron_h):
    message = "layer 2 .* its block has no MLP, it only mixes tokens. Layers with one: 1, 3, 5"
    with pytest.raises(EditError, match=message):
        lga_fast.edit(nemotron_h, [FACT], "r_rome", layer=2)
    edit = lga_fast.edit(nemotron_h, [FACT], "r_rome", layer=3, steps=1, contexts=[])
    assert list(edit.deltas) == ["model.layers.3.mixer.down_proj.weight"]


@pytest.mark.parametrize("family", [*tiny.names(), "nemotron_h"])
def test_which_layers_later_tokens_can_read(family, nemotron_h):
    """Found by changing what a block gives the first token."""
    model = nemotron_h if family == "nemotron_h" else tiny.model(family, torch.float32)
    ids = torch.tensor([[5, 6, 7, 8]])

    def change(module, args, output):
        hidden = unwrap_output(output)
        hidden[..., 0, :] += torch.linspace(0, 1, hidden.shape[-1])

    with torch.no_grad(), model.frozen():
        before = model.hf(ids, use_cache=False).logits[0, 1:]
        for layer in range(model.layers):
            hook = model.part(layer, "block").register_forward_hook(change)
            after = model.hf(ids, use_cache=False).logits[0, 1:]
            hook.remove()
            reaches = not torch.allclose(after, before, rtol=1e-6, atol=1e-7)
            assert reaches == (layer <= model.last_reaching_layer), layer


def test_a_layer_that_later_tokens_cannot_read_is_named_with_a_better_one():
    """Layers 3 and 4 take the keys of earlier ones."""
    model = tiny.model("gemma4_text-shared")
    provenance = lga_fast.score_layers(model, FACTS).provenance
    assert (model.layers, provenance["last_reaching_layer"]) == (5, 1)
    ranking = LayerRanking(
        2, "x", (1.0, 2.0, 5.0, 4.0, 3.0), (2, 3, 4, 1, 0), provenance=provenance
    )
    (note,) = with_notes(ranking, []).notes
    assert note.startswith("Layer 2: an edit there cannot reach later tokens")
    assert note.endswith("Prefer the next one in the ranking that can (1).")
    last = with_notes(replace(ranking, layer=4, order=(4, 3, 2)), []).notes[0]
    assert last.startswith("Layer 4 is the last one: ") and last.endswith("position anew.")


def test_heads_may_differ_by_layer():
    plain, mixed = (tiny.model(f"gemma4_text{v}", torch.float32) for v in ("-plain", ""))
    width = plain.config.num_key_value_heads * (2 * 8 + 3 * 16)  # of keys: two sliding layers
    assert plain.memory.cache_bytes == mixed.memory.cache_bytes == 2 * (width + 32) * 4


def test_a_state_does_not_take_up_padding():
    """Prompts of different lengths are continued apart: padding would change the state."""
    model = tiny.model("qwen3_5_text")
    assert model.window == 0 and not model.takes_masks
    scores = lga_fast.score_layers(model, FACTS)
    apart = [lga_fast.score_layers(model, [fact]) for fact in FACTS]
    got = scores.per_request()
    np.testing.assert_allclose(got, np.concatenate([s.per_request() for s in apart]), rtol=1e-4)
