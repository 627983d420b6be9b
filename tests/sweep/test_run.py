"""A sweep is what editing each request alone gives; its file is gone on with, or refused."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import tiny

import lga_fast
from lga_fast.errors import DataError, ScoringError
from lga_fast.metrics import choose, measure_cases
from lga_fast.records import Dropped
from lga_fast.sweep import layer_edits, sweep_run
from lga_fast.sweep.run import sweep
from tests.studies.facts import CHEAP, NO_SUBJECT, REQUESTS

METRICS = ("rewrite", "rephrase", "locality", "overall")


def test_it_is_editing_and_measuring_one_after_another():
    model = tiny.model("gpt2")
    found = sweep(model, REQUESTS, layers=[3, 0], metrics=METRICS, **CHEAP)
    assert found.layers == (0, 3) and found.case_ids == ("a", "b", "c")
    _, before = measure_cases(model, REQUESTS, None, choose(METRICS))
    for column, layer in enumerate(found.layers):
        for row, request in enumerate(REQUESTS):
            edit = lga_fast.edit(model, [request], layer=layer, **CHEAP)
            with model.edited(edit):
                ((alone, _),) = [measure_cases(model, [request], None, choose(METRICS), before)]
            for name, values in found.acc.items():
                expected = alone[0].get(name)
                assert values[row, column] == (expected if expected is not None else NAN), name


class _Nan:
    def __eq__(self, other):
        return bool(np.isnan(other))


NAN = _Nan()


def test_what_a_sample_lacks_is_nan_and_what_is_dropped_is_listed():
    found = sweep(tiny.model("gpt2"), [*REQUESTS, NO_SUBJECT], layers=[1], **CHEAP)
    assert np.isnan(found.acc["rephrase"][1:]).all() and not np.isnan(found.acc["rewrite"]).any()
    assert set(found.acc) == {"rewrite", "rephrase", "locality", "locality/near", "locality/far"}
    assert found.before["locality"].tolist()[::2] == [1, 1]
    assert found.dropped == (Dropped("d", "its subject is not in its prompt"),)
    few = found.of(["c", "a"])
    assert few.case_ids == ("c", "a")
    assert few.acc["rewrite"].tolist() == found.acc["rewrite"][[2, 0]].tolist()
    with pytest.raises(ScoringError, match="1 cases are not in it, first 'x'"):
        found.of(["a", "x"])
    with pytest.raises(ScoringError, match="no sample has a value 'portability'; they have: rew"):
        found.values("portability")


def test_a_stopped_sweep_goes_on_and_gives_the_same(tmp_path, monkeypatch):
    model, out = tiny.model("llama"), tmp_path / "new" / "sweep.npz"
    alone = {"chunk": 1, **CHEAP}
    whole = sweep(model, REQUESTS, **alone)
    asked, at = [], layer_edits.LayerEdits.edit

    def stopped(self, layers, requests):
        asked.append(requests[0].case_id)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return at(self, layers, requests)

    monkeypatch.setattr(layer_edits.LayerEdits, "edit", stopped)
    with pytest.raises(KeyboardInterrupt):
        sweep(model, REQUESTS, out=out, **alone)
    assert [file.name for file in out.parent.iterdir()] == ["sweep.npz"]
    again = sweep(model, REQUESTS, out=out, **alone)
    assert asked == ["a", "b", "b", "c"]
    for made in (again, sweep(model, REQUESTS, out=out, **alone)):  # the last one only reads
        assert made.case_ids == whole.case_ids and set(made.acc) == set(whole.acc)
        for name, values in whole.acc.items():
            np.testing.assert_array_equal(made.acc[name], values)
            np.testing.assert_array_equal(made.before[name], whole.before[name])
        assert [run["requests"] for run in made.provenance["runs"]] == [[0, 1], [1, 2], [2, 3]]
        assert made.provenance["notes"] == whole.provenance["notes"]
    assert len(asked) == 4


def test_chunks_and_layers_together_are_what_each_alone_is():
    model = tiny.model("llama")
    whole = sweep(model, REQUESTS, **CHEAP)
    for layer in whole.layers:
        alone = sweep(model, REQUESTS, layers=[layer], chunk=2, **CHEAP)
        for name, values in alone.acc.items():
            np.testing.assert_array_equal(values[:, 0], whole.acc[name][:, layer])


def test_a_file_of_something_else_is_refused(tmp_path):
    model, out = tiny.model("gpt2"), tmp_path / "sweep.npz"
    sweep(model, REQUESTS, layers=[1], out=out, **CHEAP)
    content = out.read_bytes()
    with pytest.raises(DataError, match=r"another configuration: config\..* was .*, is now .*"):
        sweep(model, REQUESTS, layers=[1], out=out, **CHEAP | {"steps": 5})
    changed = [replace(REQUESTS[0], target_new="Berlin"), *REQUESTS[1:]]
    with pytest.raises(DataError, match="requests_sha256"):
        sweep(model, changed, layers=[1], out=out, **CHEAP)
    with pytest.raises(DataError, match=r"layers was \[1\], is now \[1, 2\]"):
        sweep(model, REQUESTS, layers=[1, 2], out=out, **CHEAP)
    model.tokenizer = deepcopy(model.tokenizer)
    model.tokenizer.backend_tokenizer.pre_tokenizer = None
    with pytest.raises(DataError, match="another configuration: tokenizer was '.*', is now '.*'"):
        sweep(model, REQUESTS, layers=[1], out=out, **CHEAP)
    assert out.read_bytes() == content
    for text in (b"", b"not a sweep", content[: len(content) // 2]):
        out.write_bytes(text)
        with pytest.raises(DataError, match="expected a file of lga_fast.Sweep, version 2"):
            sweep(model, REQUESTS, layers=[1], out=out, **CHEAP)


@pytest.mark.parametrize("acc", [np.zeros(3), np.zeros((3, 0)), np.zeros(())], ids=str)
def test_arrays_without_names_are_refused(acc, tmp_path):
    model, out = tiny.model("gpt2"), tmp_path / "sweep.npz"
    sweep(model, REQUESTS[:1], layers=[1], out=out, **CHEAP)
    with np.load(out) as file:
        about = json.loads(str(file["about"])) | {"names": []}
    np.savez(out, about=np.array(json.dumps(about)), acc=acc, before=np.zeros(0))
    with pytest.raises(DataError, match="expected a file of lga_fast.Sweep, version 2"):
        sweep(model, REQUESTS[:1], layers=[1], out=out, **CHEAP)


@pytest.mark.parametrize("name", ["names", "runs", "configuration"])
def test_a_description_of_other_types_is_refused(name, tmp_path):
    model, out = tiny.model("gpt2"), tmp_path / "sweep.npz"
    sweep(model, REQUESTS[:1], layers=[1], out=out, **CHEAP)
    with np.load(out) as file:
        arrays = dict(file)
    about = json.loads(str(arrays.pop("about"))) | {name: ""}
    np.savez(out, about=np.array(json.dumps(about)), **arrays)
    with pytest.raises(DataError, match=f"{name}: expected a .*, got a str"):
        sweep(model, REQUESTS[:1], layers=[1], out=out, **CHEAP)


def test_notes_are_collected_and_not_warned_of(recwarn):
    twice = replace(REQUESTS[0], prompt="The capital of France is France's")
    found = sweep(tiny.model("gpt2"), [twice], layers=[1, 2], **CHEAP)
    (note,) = found.provenance["notes"]
    assert "'France' is in the prompt 2 times" in note
    assert found.provenance["notes"][note] == [1, 2]
    assert not [w for w in recwarn if issubclass(w.category, UserWarning)]


def test_contexts_are_sampled_once(monkeypatch):
    from lga_fast.editors import _contexts

    sampled, generate = [], _contexts.generate
    monkeypatch.setattr(_contexts, "generate", lambda *args: sampled.append(1) or generate(*args))
    found = sweep(tiny.model("gpt2"), REQUESTS[:1], layers=[1, 2], steps=1)
    assert len(sampled) == 1 and found.provenance["config"]["contexts"] is None


def test_bad_requests_and_layers_are_refused():
    model = tiny.model("gpt2")
    with pytest.raises(ScoringError, match=r"layers \[5\]: expected some of 0 to 4"):
        sweep(model, REQUESTS, layers=[5])
    with pytest.raises(ScoringError, match="none of 1 requests has its subject in its prompt"):
        sweep(model, [NO_SUBJECT])


def test_seconds_and_forwards_are_accounted_for():
    found = sweep(tiny.model("gpt2"), REQUESTS[:2], layers=[1, 2], **CHEAP | {"steps": 3})
    runs = found.provenance["runs"]
    # two contexts and the KL's row, three forwards with two backwards, two requests
    assert [run["forwards"] for run in runs] == [3 * 5 * 2 * 2]  # two layers
    assert found.seconds() == sum(r["seconds_editing"] + r["seconds_measuring"] for r in runs) > 0
    assert sweep_run.METRICS == ("rewrite", "rephrase", "locality")
