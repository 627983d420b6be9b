"""Where the prompt ends and the answer begins, for each tokenizer's way with spaces."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tiny
from transformers import PreTrainedTokenizer

import lga_fast
from lga_fast.datasets import easyedit_requests
from lga_fast.errors import EditError
from lga_fast.tokens import encode, encode_prompt, locate, target_row, token_at

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


@pytest.mark.parametrize(
    ("prompt", "target", "text"),
    [
        ("法国的首都是", "巴黎", "法国的首都是巴黎"),
        ("法国的首都在哪里？", "巴黎", "法国的首都在哪里？巴黎"),
        ("人口超过 100", "万", "人口超过 100万"),
        ("彼の母語は", "English", "彼の母語はEnglish"),
        ("เมืองหลวงคือ", "ปารีส", "เมืองหลวงคือปารีส"),
        ("프랑스의 수도는", "파리", "프랑스의 수도는 파리"),
        ("The capital of France (法国) is", "巴黎", "The capital of France (法国) is 巴黎"),
        ("2 + 2 =", "4", "2 + 2 = 4"),
        ("法国的首都是", " 巴黎", "法国的首都是 巴黎"),  # as the caller wants it
    ],
)
def test_scripts_without_spaces_get_none_before_the_answer(prompt, target, text):
    row = target_row(tiny.byte_level(), prompt, target)
    assert tiny.byte_level().decode(row.ids) == text


class Words(PreTrainedTokenizer):
    """A slow tokenizer: characters, but for two tokens that are longer; it begins with `<s>`."""

    vocab = ("<s>", "Darr", "ieux", *map(chr, range(32, 127)))

    def __init__(self, **options):
        super().__init__(bos_token="<s>", **options)

    @property
    def vocab_size(self):
        return len(self.vocab)

    def get_vocab(self):
        return {token: i for i, token in enumerate(self.vocab)}

    def _tokenize(self, text, **_):
        text = text.replace("Darrieux", "\0\1")
        return [{"\0": "Darr", "\1": "ieux"}.get(c, c) for c in text]

    def _convert_token_to_id(self, token):
        return self.vocab.index(token)

    def _convert_id_to_token(self, index):
        return self.vocab[index]

    def convert_tokens_to_string(self, tokens):
        return "".join(tokens)

    def build_inputs_with_special_tokens(self, ids, pair=None):
        return [0, *ids]

    def get_special_tokens_mask(self, ids, pair=None, already_has_special_tokens=False):
        return [1, *[0] * len(ids)]


def test_a_slow_tokenizer_tells_characters_by_decoding():
    prompt = "The mother tongue of Danielle Darrieux is"
    ids, offsets = locate(Words(), prompt)
    assert [prompt[a:b] for a, b in offsets[1:]] == [Words.vocab[i] for i in ids[1:]]
    row = target_row(Words(), prompt, "English")
    index = token_at(Words(), prompt, prompt.index(" is") - 1, row.ids)
    assert Words.vocab[row.ids[index]] == "ieux"


def test_a_slow_tokenizer_that_decodes_to_another_text_is_refused():
    class Lower(Words):
        def convert_tokens_to_string(self, tokens):
            return "".join(tokens).lower()

    with pytest.raises(EditError, match="slow tokenizer, and its tokens decode to 'the mother"):
        token_at(Lower(), "The mother tongue", 3, [])


def test_a_model_with_a_slow_tokenizer_is_edited():
    fact = {"prompt": "The mother tongue of Danielle Darrieux is", "target_new": "English"}
    model = tiny.model("llama")
    fast, slow = (lga_fast.load(model.hf, tokenizer=t) for t in (tiny.metaspace(), Words()))
    requests = easyedit_requests([fact | {"subject": "Danielle Darrieux"}])
    for one in (fast, slow):
        assert lga_fast.edit(one, requests, layer=1, steps=2, contexts=[]).deltas
        ranking = lga_fast.select_layer(one, requests, "reach", config={"contexts": []})
        assert ranking.requests == 1


@pytest.mark.parametrize("tokenizer", [tiny.metaspace(), tiny.metaspace(add_eos=True), Words()])
def test_a_begin_token_that_the_text_has_is_not_doubled(tokenizer):
    plain = encode(tokenizer, "The capital")[0]
    assert encode_prompt(tokenizer, "The capital") == plain
    again = encode(tokenizer, f"{tokenizer.bos_token}The capital")[0]
    assert again.count(tokenizer.bos_token_id) == plain.count(tokenizer.bos_token_id) == 1
