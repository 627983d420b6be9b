"""Where the prompt ends and the answer begins, for each tokenizer's way with spaces."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tiny

from lga_fast.tokens import target_row

CASES = [
    ("The capital of France is", "Rome", "Rome"),
    ("The capital of France is ", "Rome", "Rome"),
    ("The capital of France is", " New York", "New York"),
    ("Q: Who wrote the long book? A:", "Danielle Darrieux", "Danielle Darrieux"),
    ("The tower stands in:", "Berlin.", "Berlin."),
]


def tokenizers():
    found = {
        "byte-level": tiny.byte_level(),
        "metaspace": tiny.metaspace(),
        "metaspace without BOS": tiny.metaspace(add_bos=False),
        "metaspace with EOS": tiny.metaspace(add_eos=True),
    }
    folder = Path(os.environ.get("LGA_FAST_TOKENIZERS", "../shared/tokenizers")) / "gpt2"
    if folder.exists():
        from transformers import AutoTokenizer

        found["gpt2"] = AutoTokenizer.from_pretrained(folder)
    return found


TOKENIZERS = tokenizers()


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize(("prompt", "target", "answer"), CASES)
def test_the_cut_falls_between_prompt_and_answer(name, prompt, target, answer):
    tokenizer = TOKENIZERS[name]
    row = target_row(tokenizer, prompt, target)
    assert tokenizer.decode(row.target).strip() == answer
    assert tokenizer.decode(row.ids[: row.start], skip_special_tokens=True) == prompt.rstrip()
    specials = set(tokenizer.all_special_ids)
    assert not specials & set(row.target), "no special token may be labelled"
    assert (row.ids[0] == tokenizer.bos_token_id) == (name in ("metaspace", "metaspace with EOS"))


@pytest.mark.parametrize("name", TOKENIZERS)
def test_rows_are_what_the_model_meets_in_running_text(name):
    """No double space, no lone space before the answer."""
    tokenizer = TOKENIZERS[name]
    text = "The capital of France is New York"
    whole = tokenizer(text)["input_ids"]
    if name == "metaspace with EOS":
        whole = whole[:-1]
    for prompt, target in [
        ("The capital of France is", "New York"),
        ("The capital of France is ", "New York"),
        ("The capital of France is", " New York"),
    ]:
        assert list(target_row(tokenizer, prompt, target).ids) == whole


def test_a_merge_across_the_join_is_cut_by_characters():
    tokenizer = tiny.byte_level()
    row = target_row(tokenizer, "The capital of France is P", "\u00e4ris")
    assert tokenizer.decode(row.target).strip() == "äris"


def test_without_offsets_the_answer_is_tokenised_apart():
    class Slow:
        is_fast = False

        def __call__(self, text, add_special_tokens=True, **_):
            words = text.strip().split("_")  # a separator that the join never makes
            ids = [len(w) for w in words]
            return {"input_ids": ids, "special_tokens_mask": [0] * len(ids)}

    row = target_row(Slow(), "abc", "de")
    assert (row.ids, row.start) == ((3, 2), 1)
