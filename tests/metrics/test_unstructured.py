"""Scores of free answers, in the common convention and in EasyEdit's."""

from __future__ import annotations

import importlib.util
import math

import pytest
import tiny

from lga_fast.errors import MetricError
from lga_fast.metrics import Continuation, GeneratedText, choose, measure_cases
from lga_fast.records import EditRequest, Probe

ANSWER = "George Rankin was a soldier. He was a politician, too."
PARA = Probe("rephrase", "rephrase", "What did George Rankin do?", ANSWER)
REQUEST = EditRequest("a", "What is George Rankin's occupation?", ANSWER, probes=(PARA,))
LARGE = ("bert_score", "easyedit_bert_score")


def metric(**options):
    return choose(["unstructured"], {"unstructured": {"exclude": LARGE} | options})["unstructured"]


def values(*written, **options):
    texts = [GeneratedText("?" + text, text) for text in written]
    return metric(**options).measure(REQUEST, [], texts)


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """Small modules in place of the two packages that load large models."""
    (tmp_path / "bert_score.py").write_text(
        "import torch\n"
        "class BERTScorer:\n"
        "    made = 0\n"
        "    def __init__(self, lang):\n"
        "        assert lang == 'en'\n"
        "        BERTScorer.made += 1\n"
        "    def score(self, written, answers):\n"
        "        assert len(written) == len(answers) == 1\n"
        "        return tuple(torch.tensor([x]) for x in (0.1, 0.2, 0.75))\n"
    )
    (tmp_path / "sentence_transformers.py").write_text(
        "import torch\n"
        "class SentenceTransformer:\n"
        "    def __init__(self, name):\n"
        "        assert name == 'all-MiniLM-L6-v2'\n"
        "    def encode(self, texts, convert_to_tensor):\n"
        "        return torch.tensor([[float(len(t)), 1.0] for t in texts])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    monkeypatch.undo()
    import sys

    for name in ("bert_score", "sentence_transformers"):
        sys.modules.pop(name, None)


def test_the_answer_itself_has_all_points():
    found = values(ANSWER, ANSWER)
    assert len(found) == 10
    assert all(value == pytest.approx(1) for value in found.values())


def test_the_conventions_differ_where_they_should():
    found = values("george rankin, a soldier", "politician politician")
    # rouge-score: 4 of 4 words written, of 10 in the answer, whatever their case
    assert found["rouge_1"] == pytest.approx(2 * 1 * 0.4 / 1.4)
    # the rouge package: 8 different words with their case and commas, two of which were written
    assert found["easyedit_rouge_1"] == pytest.approx(2 / 8)
    # pairs: "george rankin" and "a soldier" of 9 and 3; with case only "a soldier", of 8 sorts
    assert found["rouge_2"] == pytest.approx(2 * (2 / 3) * (2 / 9) / (2 / 3 + 2 / 9))
    assert found["easyedit_rouge_2"] == pytest.approx(1 / 8)
    assert found["para_rouge_l"] == pytest.approx(2 * (1 / 2) * (1 / 10) / (1 / 2 + 1 / 10))
    assert found["easyedit_para_rouge_l"] == 0  # "politician," has a comma


def test_bleu_of_words_and_of_characters():
    found = values("George Rankin was a soldier.", "x")
    # all n-grams of words are right: what is left is the penalty for shortness, 6 of 13 tokens
    assert found["bleu"] == pytest.approx(math.exp(1 - 13 / 6))
    # and of characters alike
    assert found["easyedit_bleu"] == pytest.approx(math.exp(1 - len(ANSWER) / 28))
    scrambled = values("soldier a was Rankin George", "x")
    assert scrambled["easyedit_bleu"] > 3 * scrambled["bleu"] > 0


def test_an_empty_answer_has_no_points():
    assert all(value == pytest.approx(0, abs=1e-9) for value in values("", "").values())
    assert values("one", "two")["easyedit_rouge_l"] == 0


def test_without_paraphrases_there_is_no_para_rouge():
    bare = EditRequest("b", REQUEST.prompt, ANSWER)
    made = metric()
    assert len(made.questions(bare)) == 1
    found = made.measure(bare, [], [GeneratedText("", ANSWER)])
    assert found["para_rouge_l"] is None and found["easyedit_para_rouge_l"] is None


def test_what_is_asked_and_what_counts():
    assert metric(max_total_tokens=64).questions(REQUEST) == [
        Continuation(REQUEST.prompt, 64),
        Continuation(PARA.prompt, 64),
    ]
    names = ("bleu", "rouge_1", "rouge_2", "rouge_l", "para_rouge_l")
    assert metric(convention="standard").headline == names
    assert metric().headline == tuple(f"easyedit_{name}" for name in names)
    assert "rouge_2" not in values(ANSWER, ANSWER, exclude=(*LARGE, "rouge_2"))


@pytest.mark.usefixtures("stand_ins")
def test_bert_scores_come_from_their_packages():
    found = values(ANSWER[:-1], ANSWER, exclude=())
    assert found["bert_score"] == pytest.approx(0.75)
    a, b = len(ANSWER), len(ANSWER) - 1
    cosine = (a * b + 1) / math.hypot(a, 1) / math.hypot(b, 1)
    assert found["easyedit_bert_score"] == pytest.approx(cosine)
    made = metric(exclude=())
    for _ in range(3):
        made.measure(REQUEST, [], [GeneratedText("", "x"), GeneratedText("", "y")])
    import bert_score

    assert bert_score.BERTScorer.made == 2  # one for each metric, however many requests
    assert len(made.headline) == 6


def test_it_runs_on_a_model():
    named = choose(
        ["unstructured", "overall"], {"unstructured": {"exclude": LARGE, "max_total_tokens": 40}}
    )
    cases, _ = measure_cases(tiny.model("gpt2"), [REQUEST], None, named)
    counted = [cases[0][name] for name in named["unstructured"].headline]
    assert cases[0]["overall"] == pytest.approx(sum(counted) / 5)


def test_missing_packages_and_wrong_options_are_refused():
    missing = [
        m for m in ("bert_score", "sentence_transformers") if not importlib.util.find_spec(m)
    ]
    if missing:
        names = ", ".join(m.replace("_", "-") for m in missing)
        with pytest.raises(MetricError, match=rf"needs {names}, not installed here\. .*lga-fast\["):
            metric(exclude=())
    with pytest.raises(
        MetricError, match=r"exclude\[0\]: expected one of 'bleu', 'rouge_1'.* got 'blue'"
    ):
        metric(exclude=("blue",))
    with pytest.raises(
        MetricError, match="convention: expected one of 'easyedit', 'standard', got 'other'"
    ):
        metric(convention="other")
