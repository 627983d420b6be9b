"""Entropy of n-grams, and where the words come from."""

from __future__ import annotations

import math

import pytest

from lga_fast.errors import MetricError
from lga_fast.metrics import Continuation, GeneratedText, choose
from lga_fast.metrics.fluency import Metric, n_gram_entropy
from lga_fast.records import EditRequest

REQUEST = EditRequest("a", "The capital of France is", "Rome")
VECTOR = "the cat sat on the mat and the cat sat on the rug"


def value(text, **options):
    made = choose(["fluency"], {"fluency": {"sentences": False} | options})["fluency"]
    return made.measure(REQUEST, [], [GeneratedText(text, "")])


@pytest.fixture
def untrained_punkt(tmp_path, monkeypatch):
    """Data of nltk, as good as empty: it cuts after every full stop before a capital."""
    folder = tmp_path / "tokenizers" / "punkt_tab" / "english"
    folder.mkdir(parents=True)
    for name in ("abbrev_types.txt", "collocations.tab", "ortho_context.tab", "sent_starters.txt"):
        (folder / name).write_text("")
    monkeypatch.setattr("nltk.data.path", [str(tmp_path)])


def test_the_known_vector():
    words = VECTOR.split()
    assert n_gram_entropy(words) == pytest.approx(2.915417, abs=1e-6)
    pairs, triples = 2.918296, 2.913977
    assert n_gram_entropy(words) == pytest.approx(pairs / 3 + 2 * triples / 3, abs=1e-6)


def test_a_text_that_repeats_itself_has_less():
    assert n_gram_entropy(["a"] * 50) == 0
    assert n_gram_entropy(list("ab") * 25) == pytest.approx(1.0, abs=1e-3)
    assert n_gram_entropy([]) == n_gram_entropy(["a"]) == 0
    assert n_gram_entropy(["a", "b", "c"]) == pytest.approx(1 / 3)


def test_it_is_scaled_by_the_most_that_so_many_tokens_could_have():
    found = value(VECTOR)
    assert found["fluency_raw"] == pytest.approx(2.915417, abs=1e-6)
    assert found["fluency"] == pytest.approx(found["fluency_raw"] / math.log2(100))
    assert value("a b c d e f g h", max_total_tokens=2)["fluency"] == 1.0


def test_texts_are_cleaned_and_cut_into_words_as_easyedit_does():
    assert value("a b\n\nc d")["fluency_raw"] == value("a b c d")["fluency_raw"]
    assert value("ﬁ ﬁ x")["fluency_raw"] == value("fi fi x")["fluency_raw"]
    # "it's" and "it." are two words each; a full stop inside is not cut off without sentences
    assert value("it's it.")["fluency_raw"] == value("w x y z")["fluency_raw"]


@pytest.mark.usefixtures("untrained_punkt")
def test_sentences_part_full_stops_from_words():
    text = "A cat. The cat. A cat. The cat."
    assert value(text, sentences=True) == value("A cat . The cat . A cat . The cat .")
    assert value(text, sentences=False)["fluency_raw"] != value(text, sentences=True)["fluency_raw"]


def test_what_is_asked():
    assert Metric(sentences=False).questions(REQUEST) == [
        Continuation("The capital of France is", 100, past_end=True, sampler="greedy", seed=42)
    ]
    made = Metric(sampler="top5", max_total_tokens=50, sentences=False, seed=3)
    assert made.questions(REQUEST) == [Continuation(REQUEST.prompt, 50, True, "top5", 3)]


def test_missing_data_is_said_at_once_with_both_ways_out(monkeypatch):
    monkeypatch.setattr("nltk.data.path", [])
    with pytest.raises(MetricError, match=r"nltk.downloader punkt_tab\. Or pass sentences=False"):
        Metric()
    with pytest.raises(
        MetricError, match="max_total_tokens: expected a whole .* at least 2, got 1"
    ):
        Metric(sentences=False, max_total_tokens=1)


def test_a_missing_package_brings_the_line_that_installs_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        MetricError, match=r"needs nltk, .* pip install 'lga-fast\[eval\]', or only"
    ):
        Metric(sentences=False)
