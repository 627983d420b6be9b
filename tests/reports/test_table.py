"""Tables of reports in every form."""

from __future__ import annotations

import csv
import io

import pytest

from lga_fast.reports.table import Table

TABLE = Table(
    "Means_of 50%",
    ("", "a & b", "c"),
    (("r|1", "1 ± 2", "x, y"), ("r2", "-0.000", "nan")),
    "α = 5%",
)


def test_forms():
    assert TABLE.markdown() == (
        "## Means_of 50%\n\n|  | a &amp; b | c |\n| --- | ---: | ---: |\n"
        "| r\\|1 | 1 ± 2 | x, y |\n| r2 | 0.000 | – |\n\nα = 5%\n"
    )
    rows = list(csv.reader(io.StringIO(TABLE.csv())))
    assert rows == [["", "a & b", "c"], ["r|1", "1 ± 2", "x, y"], ["r2", "0.000", "–"]]
    latex = TABLE.latex()
    assert r"\caption{Means\_of 50\%}" in latex and r"\begin{tabular}{lrr}" in latex
    body = latex.partition(r"\toprule")[2].partition(r"\bottomrule")[0].strip().splitlines()
    assert [body[0], *body[2:]] == [
        r"& a \& b & c \\",
        r"r|1 & 1 $\pm$ 2 & x, y \\",
        r"r2 & 0.000 & -- \\",
    ]
    assert latex.count(r"\begin") == latex.count(r"\end") == 2


@pytest.mark.parametrize(
    ("cell", "mended"),
    [
        ("-0.000", "0.000"),
        ("-0", "0"),
        ("-0.0%", "0.0%"),
        ("0.1 [-0.00, 0.2]", "0.1 [0.00, 0.2]"),
        ("-0.001", "-0.001"),
        ("-0.05", "-0.05"),
        ("-0e-5", "-0e-5"),
        ("gpt-0", "gpt-0"),
        ("2024-0", "2024-0"),
        ("nan", "–"),
        ("banana", "banana"),
    ],
)
def test_zero_has_no_sign_and_nan_is_a_dash(cell, mended):
    assert Table("", ("a",), ((cell,),)).rows == ((mended,),)
