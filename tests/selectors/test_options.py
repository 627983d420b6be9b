"""Options out of their limits are refused before the model runs."""

from __future__ import annotations

import pytest
import tiny

from lga_fast import registry, select_layer
from lga_fast.errors import OptionError, ScoringError, UnknownName
from lga_fast.records import EditRequest, Probe
from lga_fast.selectors import cma, lga, race

NAMES = registry.names("lga_fast.selectors")
NEAR = Probe("locality", "near", "The capital of Italy is", "Rome")
EDITS = [EditRequest("a", "The capital of France is", "Rome", "France", (15, 21), "Paris", (NEAR,))]


class RanError(Exception):
    """The model ran, or its weights were looked at by a fingerprint."""


@pytest.fixture
def model(monkeypatch):
    """A model that may not run."""

    def ran(*args, **kwargs):
        raise RanError

    model = tiny.model("gpt2")
    for module in (model.hf, model.hf.transformer, model.hf.transformer.h[0]):
        monkeypatch.setattr(module, "forward", ran)
    return model


@pytest.mark.parametrize(
    ("selector", "options", "message"),
    [
        ("lga", {"tukey": -1}, "lga: tukey: expected a number of at least 0, got -1"),
        ("lga", {"tukey": "1,0"}, "tukey: expected a number"),
        ("lga", {"tukey": float("nan")}, "tukey: expected a number"),
        ("lga", {"scope": "mlp"}, "scope: expected one of 'mlp_all', 'mlp_weights', 'edited_only'"),
        ("lga", {"old": "foo"}, "old: expected one of 'model'"),
        ("lga", {"non_finite": "foo"}, "non_finite: expected one of 'raise', 'exclude', got 'foo'"),
        ("lga", {"skip_known": 1}, "skip_known: expected true or false, got 1"),
        ("lga", {"bootstrap": -1}, "bootstrap: expected a whole number of at least 0, got -1"),
        ("lga", {"bootstrap": True}, "bootstrap: expected a whole number"),
        ("lga", {"seed": -5}, "seed: expected a whole number from 0 to"),
        ("lga_new", {"seed": 2**64}, "lga_new: seed: expected a whole number from 0 to"),
        ("lga_new", {"batch_tokens": 0}, "batch_tokens: expected a whole number of at least 1"),
        ("lga_new", {"loss_scope": "all"}, "loss_scope: expected one of 'target', 'full'"),
        ("lga_new", {"reduction": "max"}, "reduction: expected one of 'mean', 'sum'"),
        ("salem", {"norm": "l3"}, "salem: norm: expected one of 'l1mean', 'l2', 'l2rms', got 'l3'"),
        ("salem", {"only_wrong": "yes"}, "only_wrong: expected true or false, got 'yes'"),
        ("cma", {"samples": 0}, "cma: samples: expected a whole number of at least 1, got 0"),
        ("cma", {"window": 0}, "window: expected a whole number of at least 1, got 0"),
        ("cma", {"window": 2.5}, "window: expected a whole number of at least 1, got 2.5"),
        ("cma", {"noise": 0.0}, "noise: expected a number above 0, got 0.0"),
        ("cma", {"seed": 2**32}, "seed: expected a whole number from 0 to 4294967295"),
        ("cma", {"token_range": "last"}, "token_range: expected one of 'subject_last', 'all'"),
        ("cma", {"batch_tokens": -1}, "batch_tokens: expected a whole number of at least 1"),
        ("random_layer", {"seed": -1}, "random_layer: seed: expected a whole number from 0"),
        ("fixed", {"layer": -1}, "fixed: layer: expected a whole number of at least 0, got -1"),
        ("fixed", {"layer": 5}, "fixed: layer 5: tiny-gpt2 has layers 0 to 4"),
        ("race", {"share": 0}, "share: expected a number above 0, got 0"),
        ("race", {"share": "lots"}, "share: expected a number above 0, got 'lots'"),
        ("race", {"editor": "romr"}, "no 'romr' in editors. Did you mean 'rome'"),
        ("race", {"config": "no/such.yaml"}, "config: expected .*, got 'no/such.yaml'"),
        ("brute_force", {"preset": "peers"}, "preset: expected one of 'easyedit', 'original'"),
        ("brute_force", {"config": "no/such.yaml"}, "config: expected .*, got 'no/such.yaml'"),
        ("brute_force", {"editor": "romr"}, "no 'romr' in editors. Did you mean 'rome'"),
        ("brute_force", {"metric": "rewrit"}, "no 'rewrit' in metrics. Did you mean 'rewrite'"),
        ("brute_force", {"metric": "rewrit/near"}, "no 'rewrit' in metrics"),
        ("brute_force", {"metric": "rewrite/near"}, "metric: expected rewrite, got 'rewrite/near'"),
        (
            "brute_force",
            {"metric": "locality/far"},
            "no request has a value 'locality/far'; they have: rewrite, locality, locality/near$",
        ),
        ("brute_force", {"metric": "locality/"}, "no request has a value 'locality/'"),
        ("brute_force", {"metric": "portability"}, "no request has a value 'portability'"),
        ("brute_force", {"metric": "rephrase"}, "no request has a value 'rephrase'"),
        ("brute_force", {"layers": [1, -1]}, r"layers\[1\]: expected a whole number of at least 0"),
        ("brute_force", {"layers": (3, 5)}, r"layers \[3, 5\]: expected some of 0 to 4"),
    ],
)
def test_an_option_out_of_its_limits_is_refused(model, selector, options, message):
    with pytest.raises((OptionError, ScoringError, UnknownName), match=message):
        select_layer(model, EDITS, selector, **options)
    with pytest.raises((OptionError, ScoringError, UnknownName)):
        select_layer(model, EDITS, ["lga", selector, "cma"], **options)


@pytest.mark.parametrize("selector", ["lga", "lga_new", "salem", "cma", "brute_force"])
def test_the_model_above_tells_when_it_runs(model, selector):
    with pytest.raises(RanError):
        select_layer(model, EDITS, selector)


def test_numbers_may_be_text():
    assert lga.Selector(tukey="1.0", bootstrap="5") == lga.Selector(tukey=1.0, bootstrap=5)  # type: ignore[arg-type]
    assert race.Selector(share="6.5e-2").share == 0.065  # type: ignore[arg-type]
    assert cma.Selector(noise=2).noise == 2.0


def test_the_fences_constant_has_one_default():
    facts, lists = ("factual",), ("composite", "unstructured")
    assert lga.Selector().fence_constant(facts) == 1.0
    assert lga.Selector().fence_constant((*lists, *facts)) == 1.0
    assert lga.Selector().fence_constant(lists) == 0.5
    assert lga.Selector(tukey=0).fence_constant(lists) == 0


def test_every_selector_tells_what_studies_ask():
    kinds = {n: registry.member("lga_fast.selectors", n).Selector for n in NAMES}
    assert {n for n, kind in kinds.items() if kind.rests_on != "facts"} == {"fixed", "random_layer"}
    assert {n for n, kind in kinds.items() if kind.cost == "sweep"} == {"brute_force"}
    assert {n for n, kind in kinds.items() if kind.cost == "edits"} == {"race"}
