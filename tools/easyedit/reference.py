"""What EasyEdit's own code answers on the embedded model, as figures for a test.

    python tools/easyedit/reference.py CHECKOUT COMMIT tests/integrations/easyedit_reference.json

CHECKOUT is a folder with EasyEdit's `easyeditor` as of COMMIT. Its modules for the six methods, and
those that edit and evaluate, run unchanged; what they import besides is replaced by empty modules,
so that none of EasyEdit's other requirements has to be installed. Both sides get the same contexts,
which EasyEdit would sample, and the same second moments, which it would measure on Wikipedia.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import json
import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lga_fast import atlas, load, load_edits
from lga_fast.editors._moments import moments

CONTEXTS = ["The town is old. ", "Because of the rain. ", "I think that it is so. "]
_REAL = {
    "editors": {"editor", "utils", "batch_editor"},
    "evaluate": {"evaluate", "evaluate_utils", "metric_meta"},
    "util": {"nethook", "generate", "globals", "hparams", "device", "runningstats", "logit_lens"},
    "models": {"rome", "r_rome", "memit", "emmet", "pmet", "alphaedit"},
}
_METHODS = {  # package, module, hparams, function
    "ROME": ("rome", "rome_main", "ROMEHyperParams", "apply_rome_to_model"),
    "R-ROME": ("r_rome", "r_rome_main", "R_ROMEHyperParams", "apply_r_rome_to_model"),
    "MEMIT": ("memit", "memit_main", "MEMITHyperParams", "apply_memit_to_model"),
    "EMMET": ("emmet", "emmet_main", "EMMETHyperParams", "apply_emmet_to_model"),
    "PMET": ("pmet", "pmet_main", "PMETHyperParams", "apply_pmet_to_model"),
    "AlphaEdit": (
        "alphaedit",
        "AlphaEdit_main",
        "AlphaEditHyperParams",
        "apply_AlphaEdit_to_model",
    ),
}
_EVERY = {
    "fact_token": "subject_last",
    "v_num_grad_steps": 15,
    "v_lr": 0.5,
    "v_loss_layer": 7,
    "v_weight_decay": 0.001,
    "clamp_norm_factor": 4,
    "kl_factor": 0.0625,
    "mom2_adjustment": False,
    "rewrite_module_tmp": "transformer.h.{}.mlp.c_proj",
    "layer_module_tmp": "transformer.h.{}",
    "mlp_module_tmp": "transformer.h.{}.mlp",
    "attn_module_tmp": "transformer.h.{}.attn",
    "ln_f_module": "transformer.ln_f",
    "lm_head_module": "transformer.wte",
    "mom2_dataset": "wikipedia",
    "mom2_n_samples": 100,
    "mom2_dtype": "float32",
    "device": "cpu",
    "model_name": "atlas",
}
_RANK_ONE = _EVERY | {"layers": [1], "context_template_length_params": [[5, 10], [10, 10]]}
_MASS = _EVERY | {"layers": [1, 2, 3], "layer_selection": "all", "mom2_update_weight": 1000}
HPARAMS: dict[str, dict[str, Any]] = {
    "ROME": _RANK_ONE | {"mom2_adjustment": True},
    "R-ROME": _RANK_ONE,
    "MEMIT": _MASS,
    "EMMET": _MASS | {"layers": [4], "update_norm_lambda": 0, "emmet_lambda": 0.1},
    "PMET": _MASS
    | {
        "nll_loss_factor": 1,
        "rewrite_module_tmps": ["transformer.h.{}.mlp.c_proj"],
        "mlp_module_tmp": "transformer.h.{}.mlp.c_proj",
        "attn_module_tmp": "transformer.h.{}.attn.c_proj",
    },
    "AlphaEdit": _MASS | {"nullspace_threshold": 0.02, "L2": 10, "P_loc": "null_space_project.pt"},
}


def _member(module: str, name: str) -> Any:
    """A module that runs, or an empty class for what is imported and never used."""
    if name.startswith("__"):
        raise AttributeError(name)
    if name in _REAL.get(module.rpartition(".")[2], ()):
        return importlib.import_module(f"{module}.{name}")
    return type(name, (), {})


class _Empty(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands for modules of EasyEdit that are not in `_REAL`, and for what they require."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        package, _, rest = name.partition(".")
        if package == "easyeditor":
            folder, _, module = rest.partition(".")
            if module and module.partition(".")[0] in _REAL.get(folder, ()):
                return None
        elif package not in ("datasets", "openai", "sklearn"):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> ModuleType:
        module = ModuleType(spec.name)
        module.__path__ = [str(self.checkout.joinpath(*spec.name.split(".")))]
        module.__getattr__ = partial(_member, spec.name)  # type: ignore[method-assign]
        return module

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ == "easyeditor.util.alg_dict":
            module.ALG_DICT = {}  # type: ignore[attr-defined]
        if module.__name__ == "easyeditor.evaluate":
            for name in _REAL["evaluate"]:
                vars(module).update(vars(importlib.import_module(f"easyeditor.evaluate.{name}")))
        if module.__name__ == "easyeditor.util":
            vars(module).update(vars(importlib.import_module("easyeditor.util.hparams")))


def make_importable(checkout: Path) -> None:
    """Let `easyeditor` be imported from here on."""
    sys.meta_path.insert(0, _Empty(checkout.resolve()))


def arguments() -> dict[str, Any]:
    """Three facts of the atlas as arguments of `BaseEditor.edit`."""
    facts = load_edits("atlas")[:3]
    inputs: dict[str, dict[str, Any]] = {}
    for kind in ("locality", "portability"):
        probes = [[p for p in fact.probes if p.kind == kind][:2] for fact in facts]
        if all(probes):
            prompts, truths = (
                [[getattr(p, n) for p in of] for of in probes] for n in ("prompt", "answer")
            )
            inputs[f"{kind}_inputs"] = {"near": {"prompt": prompts, "ground_truth": truths}}
    rephrases = [next(p.prompt for p in fact.probes if p.kind == "rephrase") for fact in facts]
    names = {"prompts": "prompt", "target_new": "target_new", "subject": "subject"}
    columns = {theirs: [getattr(f, ours) for f in facts] for theirs, ours in names.items()}
    return columns | {"rephrase_prompts": rephrases} | inputs


def write_moments(stats_dir: Path) -> None:
    """Second moments on the atlas's text, where and as EasyEdit stores its own."""
    model = load("atlas", device="cpu")
    folder = stats_dir / "atlas" / "wikipedia_stats"
    folder.mkdir(parents=True)
    for layer, moment in moments(model, range(1, 5), tokens=20000).items():
        name = f"transformer.h.{layer}.mlp.c_proj_float32_mom2_100.npz"
        total = {"mom2.mom2": (moment.second * moment.tokens).float().numpy()}
        count = {"mom2.count": moment.tokens, "sample_size": 100}
        np.savez(folder / name, **total, **count, **{"mom2.constructor": "SecondMoment()"})


def _weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def edit(method: str, stats_dir: Path, sequential: bool, padding: str) -> dict[str, Any]:
    """EasyEdit's metrics, and the norm of each changed weight's last change."""
    folder, main, hparams_class, apply = _METHODS[method]
    package = f"easyeditor.models.{folder}"
    module = importlib.import_module(f"{package}.{main}")
    one_list = folder.endswith("rome")
    around = [f"{context}{{}}" for context in CONTEXTS]
    module.CONTEXT_TEMPLATES_CACHE = ["{}", *around] if one_list else [["{}"], around]
    for of in (module, importlib.import_module("easyeditor.models.rome.compute_u")):
        of.COV_CACHE = of.INV_MOM2_CACHE = {}
    module.P_loaded = module.cache_c_new = False
    editing = importlib.import_module("easyeditor.editors.editor")
    hparams = getattr(module, hparams_class)(
        **HPARAMS[method] | {"alg_name": method, "stats_dir": str(stats_dir)}
    )
    hparams.model_name = "gpt2-xl"  # AlphaEdit and PMET branch on names
    editor = editing.BaseEditor.__new__(editing.BaseEditor)
    editor.model = AutoModelForCausalLM.from_pretrained(atlas.folder(), dtype=torch.float32)
    editor.model.config._name_or_path = "atlas"
    editor.tok = AutoTokenizer.from_pretrained(atlas.folder())
    editor.tok.pad_token_id = editor.tok.eos_token_id
    editor.tok.padding_side = padding
    editor.model_name, editor.alg_name, editor.hparams = "gpt2-xl", method, hparams
    editor.device, editor.apply_algo = "cpu", getattr(module, apply)
    before = _weights(editor.model)
    norms: list[dict[str, float]] = []

    def counted(*positional: Any, **named: Any) -> Any:
        old = _weights(positional[0])
        model, copies = apply_algo(*positional, **named)
        changes = {n: p.detach() - old[n] for n, p in model.named_parameters()}
        norms.append({n: float(change.norm()) for n, change in changes.items() if change.any()})
        return model, copies

    apply_algo, editor.apply_algo = editor.apply_algo, counted
    metrics, model, _ = editor.edit(**arguments(), sequential_edit=sequential, verbose=False)
    kept = any(not torch.equal(p, before[n]) for n, p in model.named_parameters())
    for one in metrics:
        del one["requested_rewrite"]
    return {"metrics": metrics, "change_norms": norms, "model_stays_edited": kept}


def main() -> None:
    """Write the figures."""
    commit, out = sys.argv[2], Path(sys.argv[3]).resolve()
    make_importable(Path(sys.argv[1]))
    folder = Path(tempfile.mkdtemp())
    os.chdir(folder)  # EasyEdit writes logs and projections here
    write_moments(folder / "stats")
    figures: dict[str, Any] = {
        "command": f"python tools/easyedit/reference.py CHECKOUT {commit} {sys.argv[3]}",
        "easyedit": commit,
        "contexts": CONTEXTS,
        "arguments": arguments(),
        "methods": {},
    }
    # EasyEdit pads on the left for PMET alone, and finds subjects as if it padded on the right.
    for method, padding in [*((method, "right") for method in _METHODS), ("PMET", "left")]:
        results = {
            str(sequential): edit(method, folder / "stats", sequential, padding)
            for sequential in (False, True)
        }
        hparams = HPARAMS[method] | {"alg_name": method}
        name = method if padding == "right" else f"{method} padded left"
        figures["methods"][name] = {"hparams": hparams, "sequential": results}
    out.write_text(json.dumps(figures) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
