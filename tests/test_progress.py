"""Bars: seen when asked for, one inside another, silent otherwise."""

from __future__ import annotations

import pytest

from lga_fast import progress


def test_a_bar_inside_another_is_drawn_with_it_and_leaves_it(monkeypatch):
    drawn = []
    new = progress._new
    monkeypatch.setattr(progress, "_new", lambda: drawn.append(new()) or drawn[-1])
    with progress.bar("outer", 2, True) as advance:
        with pytest.raises(KeyError), progress.bar("inner", 3) as further:
            further(1)
            assert [task.description for task in drawn[0].tasks] == ["outer", "inner"]
            raise KeyError
        advance(2)
        assert [(task.description, task.completed) for task in drawn[0].tasks] == [("outer", 2)]
    assert len(drawn) == 1
    with progress.bar("next", 1, True) as advance:
        advance(1)
    assert len(drawn) == 2


def test_what_is_inside_a_silent_bar_is_silent(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress.bar("outer", 1, False), progress.bar("inner", 1) as advance:
        advance(1)
    assert capsys.readouterr().err == ""
    with progress.bar("outer", 1) as advance:
        advance(1)
    assert "outer" in capsys.readouterr().err


def test_what_is_silenced_shows_nothing_even_if_asked(capsys):
    with progress.silenced(), progress.bar("outer", 1, True) as advance:
        advance(1)
        progress.log("something")
    assert capsys.readouterr().err == ""
    progress.log("something")
    assert capsys.readouterr().err == "something\n"


@pytest.mark.parametrize(
    ("speed", "text"), [(None, ""), (0.0, ""), (12.34, "12.3/s"), (0.25, "4.0 s each")]
)
def test_a_rate_is_shown_as_its_larger_number(speed, text):
    assert progress.rate(speed) == text
