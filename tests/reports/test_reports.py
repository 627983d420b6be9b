"""What people see: the chart, the figure, the files."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from lga_fast.records import Dropped, LayerRanking
from lga_fast.reports import plot, ranking_table
from lga_fast.reports.table import Table
from tests.reports.rankings import NEGATIVE

RANKING = replace(
    NEGATIVE,
    raw_argmax=3,
    argmax_by_scope={"mlp_all": 3, "mlp_weights": 3, "edited_only": 4},
    score_label="nats²",
    known=1,
    dropped=(Dropped("7", "the model's own answer is empty"),),
    provenance={"model": "atlas", "dtype": "float32", "device": "cpu", "kernel": "C++"},
)


def shown(ranking: LayerRanking) -> str:
    console = Console(file=io.StringIO(), width=110)
    ranking_table.show(ranking, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_chart_tells_all():
    text = shown(RANKING)
    for part in [
        "lga: layer 3 of atlas",
        "30 proxy facts, 1 of which the model already knows",
        "1 dropped: the model's own answer is empty",
        "float32 on cpu, kernels: C++",
        "◀ golden layer",
        "Score: nats²",
        "Tukey's fences -4 … 1; excluded: layer 0",
        "The choice by scope: mlp_all 3, mlp_weights 3, edited_only 4",
        "80%",
        "• The score is negative at every layer.",
    ]:
        assert part in text, part
    line = next(line for line in text.splitlines() if "excluded" in line and "-40" in line)
    assert "◂" in line, "a bar that does not fit is marked as cut"


def test_a_layer_that_has_no_score_shows_none():
    scores = (0.0, 1.0, 0.0, -40.0)
    some = replace(RANKING, layer=1, scores=scores, order=(1, 2), excluded=(0, 3), stability=())
    assert [ranking_table.score_text(some, n) for n in range(4)] == ["–", "1", "0", "-40"]
    (line,) = (line for line in shown(some).splitlines() if " 0  " in line and "excluded" in line)
    assert "–" in line


def test_bars_are_in_proportion():
    assert ranking_table._bar(1.0).count("█") == 16 and ranking_table._bar(0.5).count("█") == 8
    assert ranking_table._bar(-0.5).index("█") < ranking_table._bar(-0.5).index("│")
    assert ranking_table._bar(0.0).strip() == "│"
    assert len({len(ranking_table._bar(x)) for x in (-9, -1, -0.3, 0, 0.7, 1, 5)}) == 1


def test_a_bare_ranking_can_be_shown():
    plain = replace(RANKING, excluded=(), fences=None, stability=(), dropped=(), notes=(), known=0)
    assert "golden layer" in shown(plain) and "fences" not in shown(plain)


def test_signs_that_do_not_occur_take_no_room():
    scores = (0.2, 1.0, 0.5, 0.0, 0.1)
    plain = replace(RANKING, layer=1, scores=scores, order=(1, 2, 0, 4, 3), excluded=())
    small = replace(plain, scores=(-0.1, *scores[1:]), order=(1, 2, 4, 3, 0))

    def chosen(ranking: LayerRanking) -> str:
        return next(line for line in shown(ranking).splitlines() if "golden layer" in line)

    assert " 1  │" + "█" * 16 in chosen(plain)
    assert " 1    │" + "█" * 16 in chosen(small)  # two columns: a tenth of a bar


def test_a_shared_pass_is_said():
    made = RANKING.provenance | {
        "old": None,
        "pass_shared_by": ["lga", "salem"],
        "seconds_old_answers": 0.0,
        "seconds_scoring": 1.5,
        "peak_bytes": 2**20,
    }
    text = shown(replace(RANKING, provenance=made))
    assert "1.50 s for the scores (one pass with salem); peak memory 1 MiB" in text
    assert "old answers" not in text
    assert "0.00 s for the old answers" in shown(
        replace(RANKING, provenance=made | {"old": "model"})
    )


@pytest.mark.parametrize("ranking", [RANKING, replace(RANKING, stability=(), fences=None)])
def test_the_figure_is_written_and_repeats(tmp_path, ranking):
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    for name in "ab":
        plot.write(ranking, *(tmp_path / f"{name}.{form}" for form in starts))
    for form, start in starts.items():
        content = (tmp_path / f"a.{form}").read_bytes()
        assert content.startswith(start) and content == (tmp_path / f"b.{form}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 6


def test_json_reads_back():
    assert LayerRanking.from_json(RANKING.to_json()) == RANKING


def test_a_cell_is_no_html():
    table = Table("t", ("a|b", "value"), (("<img src=x onerror=alert(1)>", "1\n2 & 3"),))
    assert "| &lt;img src=x onerror=alert(1)&gt; | 1 2 &amp; 3 |" in table.markdown()
