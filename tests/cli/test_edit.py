"""lga-fast edit, run as users run it."""

from __future__ import annotations

import json
import math
import re
import warnings
from pathlib import Path

import pytest
import torch
from running import run
from transformers import AutoModelForCausalLM, AutoTokenizer

import lga_fast
from lga_fast.commands import _run_edit
from lga_fast.commands._notes import recorded_notes
from lga_fast.errors import warn
from lga_fast.metrics import Question, score
from lga_fast.weight_edit import WeightEdit

README = Path(__file__).parents[2] / "README.md"
TOWER = ("--prompt", "The Eiffel Tower is located in the city of", "--subject", "Eiffel Tower")
QUICK = ("--contexts", "The book says. ")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def on_tiny(saved_model, out):
    """Arguments of a quick edit of a small random bfloat16 model."""
    return (
        "--model",
        saved_model,
        "--layer",
        1,
        "--steps",
        2,
        "--contexts",
        "Berlin. ",
        "--out",
        out,
    )


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    """What the command of README prints, and the folder it writes."""
    folder = tmp_path_factory.mktemp("tower")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "100")
        patch.chdir(folder)
        return run("edit", *TOWER, "--target", "Rome", "--device", "cpu"), folder / "out" / "edit"


def test_readme_shows_what_is_printed(tower):
    """All but the numbers: on another processor the last digits may differ."""
    blocks = re.findall(r"```text\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    (shown,) = [block for block in blocks if "The edit took" in block]
    panel, said, _ = tower[0].rpartition("Written to")
    assert said and words(panel) == words(shown)


def words(panel):
    """The words of a panel, without its frame and numbers."""
    return re.sub(r"[\d.]+%?|[─│╭╮╰╯]", " ", panel).split()


def test_the_files_have_what_is_printed(tower):
    _, out = tower
    assert {p.name for p in out.iterdir()} == {"edit.safetensors", "edit.json"}
    found = json.loads((out / "edit.json").read_text())
    kinds = [line["kind"] for line in found["answers"]]
    assert kinds == ["prompt", "rephrasing", "unrelated", "unrelated"]
    assert [line["before"]["text"] for line in found["answers"][:2]] == ["Paris", "Paris"]
    assert [line["after"]["text"] for line in found["answers"][:2]] == ["Rome", "Rome"]
    assert found["took"] == 1 and found["provenance"]["layer_choice"]["selector"] == "reach"
    assert found["provenance"]["layer"] == found["provenance"]["layer_choice"]["layer"]
    model = lga_fast.load("atlas", device="cpu")
    with model.edited(lga_fast.WeightEdit.load(out / "edit.safetensors")):
        (rome,) = score(model, [Question(TOWER[1], "Rome")])
    assert math.exp(rome.log_probs[0]) == pytest.approx(found["answers"][0]["new_after"], rel=1e-4)


def test_json_is_what_the_file_has(on_tiny, out, facts):
    text = run("edit", *on_tiny, "--data", facts, "--limit", 1, "--json")
    assert json.loads(text) == json.loads((out / "edit.json").read_text())


def test_several_requests_are_averaged(on_tiny, facts):
    text = run("edit", *on_tiny, "--data", facts, "--limit", 3)
    assert text.count("│  prompt  ") == 3
    assert "of 3 requests" in text and "(3)" in text
    assert "• rephrase: no request has such probes" in text
    assert "• locality: no request has such probes" in text
    assert "layer 1" in text and "chosen by" not in text


def test_the_first_request_of_the_atlas_is_the_default(out):
    found = json.loads(
        run("edit", *QUICK, "--layer", 3, "--no-mom2-adjustment", "--json", "--out", out)
    )
    (made,) = found["provenance"]["requests"]
    assert found["provenance"]["config"]["mom2_adjustment"] is False
    assert lga_fast.load("atlas").editing["r_rome"]["mom2_adjustment"] is True
    assert made["case_id"] == lga_fast.load_edits("atlas")[0].case_id
    assert found["probes"] == {"rewrite": 1, "rephrase": 4, "locality": 7}


def test_the_layer_is_chosen_on_the_data_or_on_the_edit_itself(saved_model, facts, tmp_path, out):
    where = ("--model", saved_model, "--data", facts, "--proxy", 4)
    edited = ("--limit", 1, "--steps", 1, "--contexts", "It is. ", "--json", "--out", out)
    choice = json.loads(run("edit", *where, *edited))["provenance"]["layer_choice"]
    config = tmp_path / "steps.yaml"
    config.write_text("steps: 1\ncontexts: ['It is. ']\n")
    how = ("--selector", "reach", "--config", config, "--json")
    chosen = json.loads(run("select", *where, *how))
    assert choice["layer"] == chosen["layer"] and choice["scores"] == chosen["scores"]
    text = run("edit", "--model", saved_model, *HELLO, *edited[2:], "--weights", "streamed")
    alone = json.loads(text)["provenance"]
    assert alone["layer_choice"]["requests"] == 1 and alone["layer_choice"]["selector"] == "reach"
    assert alone["layer"] == alone["layer_choice"]["layer"]


def test_a_config_says_layer_seed_and_what_it_does_not_know(saved_model, facts, tmp_path, out):
    config = tmp_path / "rome.yaml"
    config.write_text("layers: [2]\nseed: 7\nv_num_grad_steps: 1\nv_lrr: 0.5\n")
    where = ("--model", saved_model, "--data", facts, "--limit", 1, "--out", out)
    more = ("--config", config, "--contexts", "It is. ", "--contexts", "So. ")
    text = run("edit", *where, *more, "--json")
    found = json.loads(text)
    assert found["provenance"]["layer"] == 2
    config = found["provenance"]["config"]
    assert (config["seed"], config["steps"], config["contexts"]) == (7, 1, ["It is. ", "So. "])
    (note,) = [note for note in found["notes"] if "unknown" in note]
    assert "v_lrr (did you mean v_lr?)" in note
    seeded = json.loads(run("edit", *where, *more, "--seed", 8, "--json"))
    assert seeded["provenance"]["config"]["seed"] == 8


def test_warnings_of_other_libraries_are_shown_and_are_no_notes(on_tiny, facts, monkeypatch):
    def edit(*arguments, **options):
        warn("something to know of the edit")
        warnings.warn("an argument goes in the next version", FutureWarning, stacklevel=1)
        return lga_fast.edit(*arguments, **options)

    monkeypatch.setattr(_run_edit, "edit", edit)
    with pytest.warns(FutureWarning, match="an argument goes") as shown:
        found = json.loads(run("edit", *on_tiny, "--data", facts, "--limit", 1, "--json"))
    assert [str(one.message) for one in shown] == ["an argument goes in the next version"]
    assert "something to know of the edit" in found["notes"]
    assert not [note for note in found["notes"] if "an argument goes" in note]


def test_a_repeated_warning_of_another_library_is_shown_once():
    with pytest.warns(FutureWarning) as shown:
        warnings.simplefilter("default")
        with recorded_notes() as notes:
            for _ in range(3):
                warnings.warn("goes in the next version", FutureWarning, stacklevel=1)
    assert len(shown) == 1 and not notes


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")  # peft reads it
def test_merge_and_peft_give_the_edited_model(saved_model, on_tiny, facts, out, tmp_path):
    peft = pytest.importorskip("peft")
    merged, adapter = tmp_path / "new" / "merged", tmp_path / "adapter"
    where = ("--data", facts, "--limit", 1, "--merge", merged, "--peft", adapter)
    text = run("edit", *on_tiny, *where)
    assert f"Edited model and tokenizer: {merged}" in text and f"LoRA adapter: {adapter}" in text
    assert [p.name for p in merged.parent.iterdir()] == ["merged"]
    base = lga_fast.load(saved_model)
    ids = base.tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    assert (
        AutoTokenizer.from_pretrained(merged)("The capital of France is")["input_ids"]
        == ids[0].tolist()
    )
    with torch.no_grad():
        plain = base.hf(ids).logits
        with base.edited(lga_fast.WeightEdit.load(out / "edit.safetensors")):
            edited = base.hf(ids).logits
        assert not torch.equal(plain, edited)
        again = AutoModelForCausalLM.from_pretrained(merged)
        assert again.dtype == torch.bfloat16 and torch.equal(again(ids).logits, edited)
        # The adapter is not rounded to bfloat16: in float32 both agree to what that loses.
        wide = AutoModelForCausalLM.from_pretrained(saved_model, dtype=torch.float32)
        with_adapter = peft.PeftModel.from_pretrained(wide, adapter)(ids).logits
    assert (with_adapter - edited).abs().max() < 0.2 * (edited - plain).abs().max()


def test_low_precision_is_reported(on_tiny, facts):
    text = run("edit", *on_tiny, "--data", facts, "--limit", 1)
    assert "Rounding to bfloat16: ‖applied − intended‖ / ‖intended‖ = 0." in text
    text = run("edit", *on_tiny, "--data", facts, "--limit", 1, "--dtype", "float32")
    assert "Rounding" not in text


def test_the_prompt_may_be_a_template():
    texts = {"--prompt": "The capital of {} is", "--subject": "France", "--target": "Rome"}
    request = _run_edit._one_request(texts)
    assert (request.prompt, request.subject_span) == ("The capital of France is", (15, 21))


HELLO = ["--prompt", "The capital of France is", "--subject", "France", "--target", "Rome"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--subject": None}, "needs --prompt, --subject, --target; --subject is missing"),
        ({"--subject": "Spain"}, "--subject: expected a part of the prompt 'The capital of France"),
        ({"--subject": "france"}, "in the same letter case, got 'france'"),
        ({"--target": " "}, "--target: expected a text, got ' '"),
        ({"--limit": 2}, "--limit is for the edits of --data"),
        ({"--layer": 12}, "has layers 0 to 4"),
        ({"--clamp": 0}, "clamp: expected a number above 0, got 0.0"),
        ({"--editor": "romy"}, "'romy' is not one of"),
        ({"--config": "nowhere.yaml"}, "File 'nowhere.yaml' does not exist"),
        ({"--data": "nowhere.json"}, "nowhere.json: there is no such file"),
        ({"--merge": "saved_model"}, "expected a new or empty folder"),
        ({"--merge": "new", "--out": "new"}, "--out new: expected a folder outside --merge new"),
        ({"--merge": "new", "--peft": "new/lora"}, "--peft new/lora: expected a folder outside"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_errors_come_before_work_and_are_one_paragraph(changes, message, saved_model, tmp_path):
    given = dict(zip(HELLO[::2], HELLO[1::2], strict=True))
    given |= {"--model": saved_model, "--layer": 1, "--out": tmp_path / "out"} | changes
    if given.get("--merge") == "saved_model":
        given["--merge"] = saved_model
    arguments = [part for pair in given.items() if pair[1] is not None for part in pair]
    text = run("edit", *arguments, ok=False)
    assert message in " ".join(text.split()) and "Traceback" not in text
    assert not (tmp_path / "out").exists() and not Path("new").exists()


def test_the_last_token_needs_no_subject(on_tiny, out):
    prompt = ("--prompt", "The capital of France is", "--target", "Rome")
    run("edit", *on_tiny, *prompt, "--fact-token", "last")
    (request,) = WeightEdit.load(out / "edit.safetensors").provenance["requests"]
    assert request["subject_span"] == [0, len(request["prompt"])]


def test_one_rephrasing_is_not_of_several_requests(facts, on_tiny):
    text = run("edit", *on_tiny, "--data", facts, "--rephrase", "France's capital is", ok=False)
    assert "--rephrase is for one request, but there are 6" in text
