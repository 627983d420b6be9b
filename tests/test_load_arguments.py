"""What `load` passes on to transformers, and the sources that it refuses at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import nn

import lga_fast
from lga_fast import provenance, run_identity
from lga_fast.errors import LgaFastError
from lga_fast.load_arguments import FromPretrained

FACTS = [{"prompt": "The capital of {} is", "subject": "France", "target_new": "Rome"}]


@pytest.fixture
def hub(saved_model, monkeypatch):
    """What transformers and the Hub are asked for; a Hub id gives the saved model."""
    import huggingface_hub
    import transformers

    asked = []
    for name in ("AutoModelForCausalLM", "AutoTokenizer"):
        cls = getattr(transformers, name)

        def fetch(path, real=cls.from_pretrained, kind=name, **options):
            asked.append((kind, path, options))
            local = {k: v for k, v in options.items() if k not in ("revision", "token")}
            return real(saved_model, **local)

        monkeypatch.setattr(cls, "from_pretrained", fetch)

    def snapshot(hub_id, **options):
        asked.append(("snapshot", hub_id, options))
        return str(saved_model)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    return asked


def test_a_version_is_passed_on_and_recorded_but_no_token(hub):
    model = lga_fast.load("org/name", device="cpu", revision="v2", token="secret")
    assert {kind for kind, _, _ in hub} == {"AutoModelForCausalLM", "AutoTokenizer"}
    for _, path, options in hub:
        assert path == "org/name"
        assert (options["revision"], options["token"]) == ("v2", "secret")
        assert not options.get("trust_remote_code")
    about = provenance.of(model)
    assert about["revision"] == "v2" and "secret" not in str(about) and "attention" not in about


@pytest.mark.parametrize("weights", ["streamed", "auto"])
def test_a_version_is_streamed_from_its_snapshot(hub, weights, saved_model):
    options = {"revision": "v2", "token": True, "weights": weights}
    model = lga_fast.load("org/name", device="cpu", **options)
    kind, hub_id, asked = hub[0]
    assert (kind, hub_id, asked["revision"], asked["token"]) == ("snapshot", "org/name", "v2", True)
    assert model.source == str(saved_model) and model.name == "org/name"
    assert provenance.of(model)["revision"] == "v2"


@pytest.mark.parametrize("weights", ["resident", "streamed"])
def test_attention_is_set_and_decides_what_is_the_same_run(saved_model, weights):
    plain = lga_fast.load(saved_model, device="cpu", dtype="float32")
    options = {"device": "cpu", "dtype": "float32", "weights": weights}
    model = lga_fast.load(saved_model, attn_implementation="eager", **options)
    assert plain.hf.config._attn_implementation == "sdpa"
    assert model.hf.config._attn_implementation == "eager"
    before, now = (
        run_identity.of(provenance.of(m), tokenizer="t", requests_sha256="r")
        for m in (plain, model)
    )
    assert run_identity.differences(before, now) == "attention was None, is now 'eager'"
    scores = [lga_fast.score_layers(m, FACTS).norm2_new["down.weight"] for m in (plain, model)]
    torch.testing.assert_close(*map(torch.from_numpy, scores), rtol=1e-3, atol=0)
    with pytest.raises(LgaFastError):
        lga_fast.load(saved_model, attn_implementation="none such", **options)


def test_attention_that_cannot_be_changed_later_is_set_from_the_start(tmp_path):
    """Falcon picks its attention's class when it is made."""
    falcon = tiny.model("falcon", torch.float32)
    falcon.hf.save_pretrained(tmp_path)
    falcon.tokenizer.save_pretrained(tmp_path)
    for weights in ("resident", "streamed"):
        how: dict[str, Any] = {"device": "cpu", "weights": weights, "attn_implementation": "eager"}
        model = lga_fast.load(tmp_path, **how)
        assert model.hf.config._attn_implementation == "eager"
        assert provenance.of(model)["attention"] == "eager"


def test_options_that_cannot_be_kept_are_refused_with_the_reason(saved_model):
    model = tiny.model("gpt2")
    for source, options, says in [
        (model.hf, {"attn_implementation": "eager"}, "a model object is used as it is"),
        (model.hf, {"token": "secret"}, "a model object is used as it is"),
        (saved_model, {"revision": "v2"}, "revision: it is for Hub ids, and"),
        ("atlas", {"revision": "v2"}, "it is for Hub ids"),
        (saved_model, {"trust_remote_code": True, "weights": "streamed"}, "use weights='resident'"),
    ]:
        with pytest.raises(LgaFastError, match=says) as caught:
            lga_fast.load(source, **options)
        assert "secret" not in str(caught.value)


def test_code_of_a_checkpoint_is_passed_on_and_not_streamed(hub):
    model = lga_fast.load("org/name", device="cpu", trust_remote_code=True, weights="auto")
    assert "own code cannot be streamed" in model.placement
    assert all(options["trust_remote_code"] is True for _, _, options in hub)
    assert FromPretrained(trust_remote_code=True).provenance(model.hf) == {}


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (
            "./mdoel",
            r"\./mdoel: expected a folder, there is none\. Did you mean model\?$",
        ),
        ("zoo/gpt", r"zoo/gpt: expected a folder, .* Did you mean zoo/gpt2\?"),
        ("no/such/folder", "there is no folder no/such"),
        ("~/no such model", "expected a folder, there is none"),
        (Path("gpt9"), "gpt9: expected a folder"),
    ],
)
def test_a_mistyped_path_fails_at_once(source, says, tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: pytest.fail("asked"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "zoo" / "gpt2").mkdir(parents=True)
    (tmp_path / "model").mkdir()
    with pytest.raises(LgaFastError, match=says):
        lga_fast.load(source)


def test_a_hub_id_beside_a_folder_of_its_name_is_told_by_its_revision(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org").mkdir()
    with pytest.raises(LgaFastError, match="If it is a Hub id, say which revision, such as 'main'"):
        lga_fast.load("org/name", device="cpu")
    assert lga_fast.load("org/name", device="cpu", revision="main").name == "org/name"


def test_the_folder_of_an_adapter_is_refused_with_the_call_that_merges_it(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(LgaFastError, match=r"peft\.AutoPeftModelForCausalLM\.from_pretrained"):
        lga_fast.load(tmp_path)


class Adapter(nn.Linear):
    """Has what classes of PEFT's layers have."""

    adapter_layer_names = ("lora_A", "lora_B")


def test_an_unmerged_adapter_is_refused_with_the_call_that_merges_it():
    model = tiny.model("llama", torch.float32)
    wrapper = type("PeftModel", (type(model.hf),), {"__module__": "peft.peft_model"})
    plain = model.hf.model.layers[1].mlp.down_proj
    model.hf.model.layers[1].mlp.down_proj = Adapter(48, 32, bias=False)
    says = r"got LlamaForCausalLM with PEFT adapters in 1 modules, such as model\.layers\.1\.mlp\."
    with pytest.raises(LgaFastError, match=rf"{says}.*load\(model\.merge_and_unload\(\)"):
        lga_fast.load(model.hf, tokenizer=model.tokenizer)
    model.hf.model.layers[1].mlp.down_proj = plain
    assert lga_fast.load(model.hf, tokenizer=model.tokenizer).layers == 5
    model.hf.__class__ = wrapper
    with pytest.raises(LgaFastError, match=r"got a PEFT PeftModel\. .*load\(model\.get_base_model"):
        lga_fast.load(model.hf, tokenizer=model.tokenizer)
