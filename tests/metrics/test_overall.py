"""Overall: what §9.6 of the algorithms' page found in the paper's tables."""

from __future__ import annotations

import pytest

from lga_fast.errors import MetricError
from lga_fast.metrics import averages
from lga_fast.metrics.overall import Metric


def overall(values, **options):
    return Metric(**options).combine(values)["overall"]


def test_it_is_the_mean_of_what_is_there():
    values = {"rewrite": 1.0, "locality": 0.5, "portability": None, "fluency": 0.9}
    assert overall(values) == pytest.approx(0.8)
    assert overall(values, exclude=("fluency",)) == pytest.approx(0.75)
    assert overall({"rephrase": None}) is None and overall({}) is None
    with pytest.raises(MetricError, match="exclude=fluencyy: expected values that are measured"):
        overall(values, exclude=("fluencyy",))


def test_weights_of_wiki_counterfact():
    """With 9.25 % of samples without portability each column weighs what a fit to Table 2 gave.

    Least squares over its nine rows: .259 rewrite, .258 locality, .229 portability, .256 fluency.
    """
    samples, without = 10_000, 925
    fitted = {"rewrite": 0.259, "locality": 0.258, "portability": 0.229, "fluency": 0.256}

    def dataset(means):
        full = overall(means)
        less = overall(means | {"portability": None})
        cases = [{"overall": full}] * (samples - without) + [{"overall": less}] * without
        return averages(cases)["overall"].mean

    base = dict.fromkeys(fitted, 0.5)
    for name, weight in fitted.items():
        gain = dataset(base | {name: 0.6}) - dataset(base)
        assert gain / 0.1 == pytest.approx(weight, abs=3e-3), name


@pytest.mark.parametrize("exclude", [(), ("fluency",)])
def test_it_is_the_plain_mean_where_every_sample_has_every_metric(exclude):
    """Of all columns, as in most tables; of all but fluency, as in those of sequential editing."""
    cases = [
        {"rewrite": 1.0, "rephrase": 0.5, "locality": 0.75, "fluency": 0.9},
        {"rewrite": 0.0, "rephrase": 1.0, "locality": 0.25, "fluency": 0.6},
    ]
    columns = [averages(cases)[name].mean for name in cases[0] if name not in exclude]
    each = [{"overall": overall(case, exclude=exclude)} for case in cases]
    assert averages(each)["overall"].mean == pytest.approx(sum(columns) / len(columns))
