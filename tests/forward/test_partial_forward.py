"""A forward that begins in the middle gives what the whole one gives."""

from __future__ import annotations

import pytest
import tiny
import torch

from lga_fast import registry
from lga_fast.forward.partial_forward import RecordedForward
from lga_fast.models.module_patching import patched_forwards

pytestmark = pytest.mark.usefixtures("keep_double")

FAMILIES = registry.names("lga_fast.models.families")
IDS = torch.randint(0, 300, (3, 12), generator=torch.Generator().manual_seed(0))
BEGIN, LAST = torch.tensor([3, 9, 0, 3]), torch.tensor([11, 11, 7, 4])
EVERY, ROWS = torch.arange(4), torch.tensor([0, 2, 1, 0])  # in any order, and twice


@pytest.mark.parametrize("window", [6, 64])
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_changed_gives_the_recorded_logits(family, window):
    model = tiny.model(family, sliding_window=window, window_size=window)
    with torch.no_grad(), model.frozen():
        whole = model.hf(IDS, use_cache=False).logits
        recording = RecordedForward(model, IDS, {0, 2, 4})
        first = torch.zeros(1, dtype=torch.long)
        logits = recording.run(first, first)[0]
        torch.testing.assert_close(logits, whole[0, 0], rtol=1e-11, atol=1e-11)
        begin = torch.tensor([recording.first(int(t)) for t in BEGIN])
        assert begin.any() == (model.takes_masks and model.window >= IDS.shape[1])
        for block in (0, 2, 4):
            logits = recording.run_from(block, ROWS, begin, (EVERY, LAST - begin))
            torch.testing.assert_close(logits, whole[ROWS, LAST], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("family", ["gpt2", "gptj", "opt", "gemma3"])
def test_a_changed_output_acts_as_in_a_whole_forward(family):
    model = tiny.model(family, sliding_window=64)
    module = model.part(3, "mlp")

    def change(output: torch.Tensor) -> torch.Tensor:
        runs = torch.arange(len(output))
        return output.index_put((runs, BEGIN - begin), output.new_ones(()))

    with torch.no_grad(), model.frozen():
        recording = RecordedForward(model, IDS, {1, 3})
        recording.run(torch.arange(3), torch.tensor([11, 11, 11]))
        begin = torch.zeros_like(BEGIN)
        ids = IDS[ROWS]
        shape = tuple(ids.shape)
        hook = module.register_forward_hook(
            lambda module, args, output: change(output.view(*shape, -1)).view_as(output)
        )
        whole = model.hf(ids, use_cache=False).logits
        hook.remove()
        begin = torch.tensor([recording.first(int(t)) for t in BEGIN])
        unchanged = recording.run_from(1, ROWS, begin, (EVERY, LAST - begin))
        for block in (1, 3):
            logits = recording.run_from(block, ROWS, begin, (EVERY, LAST - begin), {module: change})
            torch.testing.assert_close(logits, whole[torch.arange(4), LAST], rtol=1e-11, atol=1e-11)
            assert (logits - unchanged).abs().max() > 1e-3  # the change can be seen


def test_the_models_own_forwards_come_back():
    model = tiny.model("gptj")
    with torch.no_grad(), model.frozen():
        recording = RecordedForward(model, IDS, {2})
        recording.run(torch.arange(3), torch.tensor([11, 11, 11]))

        def stop(output):
            assert "forward" in vars(model.part(0, "block"))
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            recording.run_from(2, ROWS, BEGIN, (EVERY, LAST - BEGIN), {model.part(4, "mlp"): stop})
    for module in model.hf.modules():
        assert "forward" not in vars(module)
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_a_forward_that_somebody_replaced_is_put_back():
    module = torch.nn.Identity()
    theirs = module.forward = lambda x: x + 1
    with patched_forwards({module: lambda x: x + 2}):
        assert module(1) == 3
    assert module.forward is theirs and module(1) == 2


def test_the_last_mlp_runs_where_it_is_read():
    model = tiny.model("llama")
    seen = []
    with torch.no_grad(), model.frozen():
        recording = RecordedForward(model, IDS, {1})
        recording.run(EVERY[:3], torch.tensor([11, 11, 11]))
        model.part(4, "mlp").gate_proj.register_forward_hook(lambda m, a, o: seen.append(o.shape))
        recording.run_from(1, ROWS, BEGIN * 0, (EVERY, LAST))
    assert seen == [(1, 4, 48)]
