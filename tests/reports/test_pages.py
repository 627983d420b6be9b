"""Pages of rankings, edits and evaluations: complete, escaped, and of one file."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import tiny

import lga_fast
from lga_fast.errors import LgaFastError
from lga_fast.reports import answers, html, pages
from lga_fast.reports.table import Table
from tests.reports.rankings import NEGATIVE

FACTS = [
    {"prompt": "The capital of France is", "subject": "France", "target_new": "Rome <b>"},
    {"prompt": "The tower stands in", "subject": "tower", "target_new": "New York"},
]
MADE = {
    "model": "atlas",
    "dtype": "float32",
    "device": "cpu",
    "kernel": "C++",
    "torch": "2.13.0",
    "options": {"scope": "mlp_all", "seed": 42},
}
RANKING = replace(NEGATIVE, provenance=MADE)
QUICK = {"layer": 1, "contexts": (), "steps": 2}


class Page(HTMLParser):
    """Words, tags and what a page would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words, self.open, self.loads = [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "link"):
            self.open.append(tag)
        self.loads += [value for key, value in attrs if key in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def read(text: str) -> Page:
    page = Page(text)
    assert not page.open and all(one.startswith("data:image/svg+xml") for one in page.loads)
    assert not re.search(r"\bnan\b|-0\.0+\b(?!\d)", page.text)
    return page


@pytest.fixture(scope="module")
def model():
    return tiny.model("gpt2")


def test_a_rankings_page_has_choice_evidence_and_uncertainty():
    other = replace(RANKING, selector="salem", layer=4, scores=(0.0,) * 5)
    text = pages.ranking_page({"lga": RANKING}, "lga-fast select")
    page = read(text)
    for part in [
        "Layer 3 of atlas",
        "lga chooses layer 3 of 5; 80% of resamples of the facts agree.",
        "Tukey's fences -4 … 1; excluded: layer 0",
        "The score is negative at every layer.",
        "0 -40 0% excluded 1 -2 0% 4",
        "lga-fast select",
        "scope mlp_all",
        "torch 2.13.0",
    ]:
        assert part in page.text, part
    both = read(pages.ranking_page({"lga": RANKING, "salem": other}))
    assert "Layers of atlas: lga: 3, salem: 4" in both.text and len(both.loads) == 2


@pytest.mark.filterwarnings("ignore::lga_fast.errors.LgaFastWarning")
def test_an_edits_page_has_answers_and_options(model):
    change = lga_fast.edit(model, FACTS[:1], **QUICK)
    report = answers.compare(model, FACTS[:1], change, rephrase="France's capital is")
    page = read(pages.edit_page(report, change, None, "lga-fast edit"))
    for part in [
        "r_rome at layer 1",
        "Rome <b>",
        "France's capital is",
        "unrelated",
        "transformer.h.1.mlp.c_proj.weight 32×48 1",
        "steps 2 argument",
        "lga-fast edit",
    ]:
        assert part in page.text, part
    assert not page.loads
    with_choice = pages.edit_page(report, change, RANKING)
    assert "Why layer 3" in read(with_choice).text


@pytest.mark.filterwarnings("ignore::lga_fast.errors.LgaFastWarning")
def test_an_evaluations_page_has_its_tables(model, monkeypatch):
    results = lga_fast.evaluate(model, FACTS, metrics=["rewrite", "rephrase"], **QUICK)
    page = read(pages.evaluation_page(results))
    mean, after = results.summary.after["rewrite"], page.text.partition("Before and after")[2]
    error = mean.sd / 2**0.5
    assert f"{mean.mean:.3f} ± {error:.3f} {mean.sd:.3f} 2" in after
    for part in (
        "2 requests",
        "Every request after its edit",
        "Not measured for lack of probes: rephrase",
        "steps 2",
    ):
        assert part in page.text, part
    monkeypatch.setattr(pages, "_CASES", 1)
    assert "1 more requests are not shown" in read(pages.evaluation_page(results)).text


def test_a_table_of_words_is_aligned_to_the_left():
    table = Table("t", ("a", "b"), (("x", "y"),), words=True)
    assert "| --- | --- |" in table.markdown() and "{ll}" in table.latex()
    page = html.page("t", [html.Section(tables=[table])], html.Origin({}))
    assert '<table class="words">' in page
    assert html.options_table({"a": (1, 2), "b": None, "c": {"d": ()}}).rows == (
        ("a", "1, 2"),
        ("b", "–"),
        ("c", "d: none"),
    )


def test_a_page_needs_its_packages(monkeypatch):
    monkeypatch.setattr("lga_fast.extras.missing", lambda packages: ["jinja2"])
    with pytest.raises(LgaFastError, match=r"pip install 'lga-fast\[studies\]'"):
        html.need()
