"""A streamed model's own forward and backward: the resident bits, each block read when it runs."""

from __future__ import annotations

import pytest
import tiny
import torch
from both_placements import both
from torch.multiprocessing.reductions import StorageWeakRef

from lga_fast.errors import LgaFastError
from lga_fast.models.module_patching import patched_forwards
from tests.models.edits import make_edit

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12], [13, 14, 5, 6, 9, 9, 7, 8]])


@pytest.fixture
def models(tmp_path):
    """A small Llama, resident and streamed."""
    return both(tmp_path, tiny.model("llama", torch.float32))


def counted(streamed, monkeypatch):
    """Blocks in the order in which they are read."""
    order, read = [], streamed.shards.read
    firsts = {names[0]: layer for layer, names in enumerate(streamed._block_names)}

    def reading(names):
        names = list(names)
        order.extend([firsts[names[0]]] if names[0] in firsts else [])
        return read(names)

    monkeypatch.setattr(streamed.shards, "read", reading)
    return order


def shifted(model, layer, delta):
    """Logits with `delta` added to a layer's MLP's output at one token, and what made them."""

    def add(module, args, output):
        return output.index_put(
            (torch.arange(2), torch.tensor([3, 4])), delta.expand(2, -1), accumulate=True
        )

    handle = model.part(layer, "mlp").register_forward_hook(add)
    last = model.part(model.layers - 1, "mlp")
    with patched_forwards({last: lambda hidden, real=last.forward: 2 * real(hidden)}):
        logits = model.hf(IDS, use_cache=False).logits
    handle.remove()
    return logits


def test_a_backward_runs_blocks_again_as_they_ran(models, monkeypatch):
    """Hooks and replaced forwards too, though they have ended by then."""
    order, found = counted(models[1], monkeypatch), []
    for model in models:
        delta = torch.linspace(-1, 1, 32, requires_grad=True)
        with model.frozen():
            logits = shifted(model, 2, delta)
            logits.log_softmax(-1)[..., 7].sum().backward()
        found.append((logits.detach(), delta.grad))
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))
    assert found[0][1].abs().sum() > 0
    assert order == [0, 1, 2, 3, 4, 4, 3, 2]  # below the change nothing is read again


def test_a_graph_holds_no_block_and_two_are_in_memory_at_most(models, monkeypatch):
    _, streamed = models
    alive, most = [], []
    read = streamed._loader._read

    def seen(layer):
        tensors, copied = read(layer)
        weights = [t.untyped_storage() for name, t in tensors.items() if "norm" not in name]
        alive.append([StorageWeakRef(weight) for weight in weights])
        most.append(count())
        return tensors, copied

    def count():
        return sum(any(not one.expired() for one in block) for block in alive)

    monkeypatch.setattr(streamed._loader, "_read", seen)
    delta = torch.zeros(32, requires_grad=True)
    with streamed.frozen():
        logits = shifted(streamed, 1, delta)
        assert count() == 0
        logits.sum().backward()
    assert count() == 0 and len(alive) == 5 + 4 and max(most) <= 2


def test_what_was_read_ahead_is_dropped_with_the_forward(models):
    resident, streamed = models
    with pytest.raises(RuntimeError, match="enough"), torch.no_grad():
        handle = streamed.part(1, "mlp").register_forward_hook(lambda *args: 1 / 0)
        try:
            streamed.hf(IDS)
        except ZeroDivisionError:
            raise RuntimeError("enough") from None
        finally:
            handle.remove()
    assert streamed._loader._next is None and not streamed._loader.loaded_layers
    assert all(p.is_meta for block in streamed._blocks for p in block.parameters())
    assert streamed.hf.get_output_embeddings().weight.is_meta
    with torch.no_grad():
        assert torch.equal(streamed.hf(IDS).logits, resident.hf(IDS).logits)


def test_a_backward_under_other_edits_is_refused(models):
    _, streamed = models
    delta = torch.zeros(32, requires_grad=True)
    with streamed.frozen():
        with streamed.edited(make_edit(streamed)):
            logits = shifted(streamed, 1, delta)
        with pytest.raises(LgaFastError, match="block 4: expected a backward under the edits"):
            logits.sum().backward()
    seen = set()
    for _ in range(20):  # an edit may come to lie where one that has ended lay
        with streamed.edited(make_edit(streamed)):
            seen.add(streamed._overlays.in_effect())
    assert len(seen) == 20
