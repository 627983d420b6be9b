"""Contexts: sampled as ROME does, or given."""

from __future__ import annotations

import pytest
import tiny
import torch

from lga_fast.editors import _contexts, rome
from lga_fast.editors._layer_editor import SEED_WORDS
from lga_fast.editors._value_problem import answer_row
from lga_fast.errors import OptionError
from lga_fast.records import EditRequest
from lga_fast.tokens import encode, target_row

pytestmark = pytest.mark.usefixtures("keep_double")

REQUEST = EditRequest("a", "The tower of Paris stands in", "New York", "Paris", (13, 18))


def test_a_context_may_stand_around_the_prompt():
    model = tiny.model("llama")
    row, index = answer_row(model, "Q: {} A:", REQUEST)
    prompt = f"Q: {REQUEST.prompt} A:"
    assert row == target_row(model.tokenizer, prompt, REQUEST.target_new)
    assert model.tokenizer.decode(row.ids[: index + 1]).endswith(REQUEST.subject)
    before = answer_row(model, "Q: {}", REQUEST)
    assert before == answer_row(model, "Q: ", REQUEST)
    assert _contexts.of(model, rome.Editor(contexts=("", "{}", "Q: {}"))) == ("", "Q: {}")
    assert rome.Editor(contexts=("", "{}", "Q: {}")).rows == 3
    with pytest.raises(OptionError, match=r"contexts: expected one {} for the prompt, got '{} {}'"):
        rome.Editor(contexts=("{} {}",))


def test_contexts_are_seeded_and_touch_no_global_state():
    model, rng = tiny.model("gpt2"), torch.get_rng_state()
    first, again, other = (_contexts.generate(model, seed) for seed in (1, 1, 2))
    assert first == again != other and len(first) == 21 and first[0] == ""
    assert all(text.endswith(". ") for text in first[1:])
    assert torch.equal(torch.get_rng_state(), rng)


@pytest.mark.parametrize("family", ["gpt2", "llama", "mistral", "falcon"])
def test_contexts_are_those_that_are_sampled_one_after_another(family):
    model, generator, plain = tiny.model(family), torch.Generator().manual_seed(3), [""]
    for length in (3, 6):
        for start in SEED_WORDS * 2:
            ids, _ = encode(model.tokenizer, start)
            while len(ids) < length:
                with torch.no_grad(), model.frozen():  # without its dropout
                    best = model.hf(torch.tensor([ids])).logits[0, -1].float().topk(5)
                pick = torch.multinomial(best.values.softmax(-1), 1, generator=generator)
                ids.append(int(best.indices[pick]))
            text = model.tokenizer.decode(ids, skip_special_tokens=True)
            plain.append(f"{text}. ".replace("{}", "{ }"))
    assert _contexts.generate(model, 3, lengths=(3, 6), per_seed=2) == tuple(plain)
