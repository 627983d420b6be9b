"""R-ROME by EasyEdit's own modules, which a checkout has, as a way of `editing.compare`."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import torch

from lga_fast.editors._value_solver import Optimisation
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest

ROOT = Path(__file__).resolve().parents[1]
Change = tuple[torch.Tensor, torch.Tensor]


def of(
    checkout: Path, layer: int, how: Optimisation
) -> Callable[[EditableModel, list[EditRequest], tuple[str, ...]], list[Change]]:
    """What makes changes as `ours` and `usual` do, one request at a time, with these options."""
    sys.path.insert(0, str(ROOT))
    from tools.easyedit import reference

    reference.make_importable(checkout)
    module = importlib.import_module("easyeditor.models.r_rome.r_rome_main")
    hparams = module.R_ROMEHyperParams(
        **reference.HPARAMS["R-ROME"]
        | {
            "alg_name": "R-ROME",
            "stats_dir": "",
            "layers": [layer],
            "v_num_grad_steps": how.steps,
            "v_lr": how.lr,
            "v_weight_decay": how.weight_decay,
            "clamp_norm_factor": how.clamp,
            "kl_factor": how.kl_factor,
        }
    )

    def change(model: EditableModel, request: EditRequest, contexts: tuple[str, ...]) -> Change:
        module.CONTEXT_TEMPLATES_CACHE = [f"{context}{{}}" for context in contexts]
        hparams.v_loss_layer = model.layers - 1
        model.tokenizer.pad_token = model.tokenizer.eos_token
        fact = {"prompt": request.prompt, "subject": request.subject}
        with redirect_stdout(io.StringIO()):
            deltas = module.execute_r_rome(
                model.hf, model.tokenizer, fact | {"target_new": request.target_new}, hparams
            )
        ((key, value),) = deltas.values()
        return value, key

    return lambda model, requests, contexts: [change(model, r, contexts) for r in requests]
