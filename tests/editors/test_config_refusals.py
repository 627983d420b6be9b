"""Configs and arguments that an editor cannot follow are refused by name."""

from __future__ import annotations

import json
import time

import pytest

import lga_fast
from lga_fast.errors import DataError, EditError, LgaFastWarning, UnknownName
from tests.editors.configs import FACT, HPARAMS, resolved


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ('alg_name: "R-ROME"', EditError, "alg_name: it is for 'R-ROME', but the editor is 'rome'"),
        ("layers: [3, 4]", EditError, r"layers: rome edits one layer: expected one, got \[3, 4\]"),
        ("layers: []", EditError, r"layers: rome edits one layer: expected one, got \[\]"),
        ("layers: 3", EditError, "layers: rome edits one layer: expected one, got 3"),
        ("layers: [1.5]", EditError, "layers: expected a whole number of at least 0, got 1.5"),
        ("layers: [-1]", EditError, "layers: expected a whole number of at least 0, got -1"),
        ("fact_token: last", EditError, "fact_token: only 'subject_last' is supported, got 'last'"),
        (
            "context_template_length_params: [[5, 2]]",
            EditError,
            r"context_template_length_params: only .* is supported, got \[\[5, 2\]\]",
        ),
        ("v_num_grad_steps: 0", EditError, "v_num_grad_steps: .* number of at least 1, got 0"),
        ("v_num_grad_steps: 2.5", EditError, "v_num_grad_steps: expected a whole .* got 2.5"),
        ("v_lr: 0", EditError, "v_lr: expected a number above 0, got 0"),
        ("v_lr: -5e-1", EditError, "v_lr: expected a number above 0, got '-5e-1'"),
        ("v_lr: .nan", EditError, "v_lr: expected a number above 0, got nan"),
        ("v_lr: inf", EditError, "v_lr: expected a number above 0, got 'inf'"),
        ("v_lr: fast", EditError, "v_lr: expected a number above 0, got 'fast'"),
        ("v_lr:", EditError, "v_lr: expected a number above 0, got None"),
        ("v_lr: true", EditError, "v_lr: expected a number above 0, got True"),
        ("clamp_norm_factor: 0", EditError, "clamp_norm_factor: expected a number above 0, got 0"),
        ("v_weight_decay: -1", EditError, "v_weight_decay: .* of at least 0, got -1"),
        ("mom2_adjustment: 1", EditError, "mom2_adjustment: expected true or false, got 1"),
        ("v_lr: 0.5\nlr: 0.4", DataError, "lr: v_lr sets the same; keep one of the two"),
        ("v_lr: 0.5\nv_lr: 0.4", DataError, "expected a config .*: v_lr is there twice"),
        ("v_lr: [0.5", DataError, "expected a config in YAML or JSON: while parsing"),
    ],
)
def test_a_file_that_cannot_be_followed_is_refused_by_name(model, hparams, changed, error, message):
    key = changed.partition(":")[0]
    lines = [changed if line.startswith(f"{key}:") else line for line in HPARAMS.splitlines()]
    assert changed in lines
    hparams.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(error, match=f"tiny.yaml: {message}"):
        resolved(model, hparams)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.yaml", None, "expected a config in YAML or JSON: .*No such file"),
        ("list.yaml", "- steps\n- 3\n", "expected keys with values, got .'steps', 3."),
        ("empty.yaml", "", "expected keys with values, got None"),
        ("broken.json", '{"steps": 3', "expected a config in YAML or JSON: Expecting"),
        ("twice.json", '{"steps": 3, "steps": 4}', "expected a config .*: steps is there twice"),
        ("latin.yaml", b"contexts: [\xe9]", "expected a config .* can't decode byte 0xe9"),
    ],
)
def test_what_is_no_config_is_refused(model, tmp_path, name, text, message):
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=f"{name}: {message}"):
        resolved(model, path)


def test_arguments_are_checked_like_the_rest(model):
    with pytest.raises(EditError, match="argument: steps: expected a whole number .* got 0"):
        lga_fast.edit(model, [FACT], "rome", layer=1, steps=0)
    with pytest.raises(EditError, match="argument: contexts: expected a list, each text, got 'a'"):
        lga_fast.edit(model, [FACT], "rome", layer=1, contexts="a")
    with pytest.raises(EditError, match="argument: corpus: .* that exists, got 'no/such.txt'"):
        lga_fast.edit(model, [FACT], "rome", layer=1, corpus="no/such.txt")
    with pytest.raises(EditError, match="argument: seed: .* from 0 to 9223372036854775807, got -1"):
        lga_fast.edit(model, [FACT], "rome", layer=1, seed=-1)
    with pytest.raises(UnknownName, match="editor 'rome' has no option rate"):
        lga_fast.edit(model, [FACT], "rome", layer=1, rate=1)
    with pytest.raises(UnknownName, match=r"no preset 'papers'. There are: easyedit, original"):
        lga_fast.edit(model, [FACT], "rome", layer=1, preset="papers")


def test_a_long_config_is_checked_in_linear_time_and_its_warning_is_short(model, tmp_path):
    path = tmp_path / "long.json"
    path.write_text(json.dumps({f"key {i}" + "x" * 100: 1 for i in range(50_000)}))
    began = time.process_time()
    with pytest.warns(LgaFastWarning, match="unknown keys are ignored: .* and 49990 more") as seen:
        lga_fast.edit(model, [FACT], "r_rome", layer=2, config=path, steps=1)
    assert time.process_time() - began < 10
    assert max(len(str(one.message)) for one in seen) < 2000
