"""The model comes back, wherever and by whatever the work is interrupted."""

from __future__ import annotations

from functools import partial

import pytest
import tiny
import torch

from lga_fast import undo
from tests.models.edits import make_edit
from tests.torture import operations
from tests.torture.interrupts import Interrupt, places
from tests.torture.model_state import differences, state

CASES = [(kind, one) for kind, some in operations.OPERATIONS.items() for one in some]
COUNT = 5  # places in each; `make torture` tries more


@pytest.mark.parametrize(("kind", "operation"), CASES, ids=[f"{k}-{o.__name__}" for k, o in CASES])
def test_nothing_stays_changed(kind, operation, tmp_path):
    model = operations.make(kind, tmp_path)
    work = partial(operations.quietly, operation, model)
    work()  # what is read once and kept is there
    before = state(model)
    for number, error in places(work, COUNT, seed=0):
        one = Interrupt(number, error)
        one.run(work)
        assert one.raised
        assert not differences(before, state(model)), f"{error.__name__} at {one.lines[-1]}"


def test_every_line_that_ends_an_edit():
    model = tiny.model("gpt2", torch.float32)
    work = partial(operations.quietly, operations.edited, model)
    before, plain = state(model), Interrupt()
    plain.run(work)
    begin = next(n for n, (file, _) in enumerate(plain.lines) if file == "/models/editable.py")
    last = {line: number for number, line in enumerate(plain.lines) if number > begin}
    cleaning = {line for line in last if line[0] in ("/undo.py", "/models/edit_stack.py")}
    assert len(cleaning) > 30
    for line in cleaning:
        Interrupt(last[line]).run(work)
        assert not differences(before, state(model)), line


def test_what_stays_changed_is_seen(monkeypatch):
    """The tests above can fail: without the undoing, they find what is left."""
    model = tiny.model("gpt2", torch.float32)
    before = state(model)
    monkeypatch.setattr(undo, "finish", lambda objects: None)
    Interrupt(10**9).run(partial(operations.quietly, operations.edited, model))
    changed = differences(before, state(model))
    assert changed == ["weights", "gradients", "training", "edits"]


@pytest.mark.parametrize("how", ("next use", "restore", "open", "outer"))
def test_what_is_interrupted_twice_is_done_later(how):
    model = tiny.model("gpt2", torch.float32)
    before, edit, interrupts = state(model), make_edit(model), 2
    get_parameter = model.hf.get_parameter

    def interrupted(name):
        nonlocal interrupts
        if model.edited_names() and interrupts:
            interrupts -= 1
            raise KeyboardInterrupt
        return get_parameter(name)

    outer = make_edit(model, (3,), seed=1)
    opened = model.edited(outer) if how in ("outer", "open") else None
    if opened:
        opened.__enter__()
    with pytest.raises(KeyboardInterrupt), model.edited(edit):
        # not by monkeypatch, which in older pytest puts back an attribute where there was none
        model.hf.get_parameter = interrupted
    assert not interrupts and model.carries(edit)
    if how == "next use":
        with model.frozen():
            assert not model.carries(edit)
    elif how == "outer":
        opened.__exit__(None, None, None)
    else:
        model.restore()
        assert not model.carries(outer)
    del model.hf.get_parameter
    assert not differences(before, state(model))
    if how == "open":
        opened.__exit__(None, None, None)  # has nothing left to do
        assert not differences(before, state(model))
