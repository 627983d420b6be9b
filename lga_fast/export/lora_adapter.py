"""A WeightEdit as a PEFT LoRA adapter, written without peft."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lga_fast.export.edit_records import record_of
from lga_fast.files import replacing_all, writing
from lga_fast.models import EditableModel, check_loaded
from lga_fast.models.edit_target import find_matrices
from lga_fast.weight_edit import WeightEdit

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def write_adapter(edit: WeightEdit, folder: Path, model: EditableModel) -> None:
    """Write both files of an adapter into `folder`; see `WeightEdit.to_peft`."""
    check_loaded(model)
    find_matrices(model, edit)  # raises if the edit does not fit
    tensors = {}
    for name, delta in edit.deltas.items():
        module = f"base_model.model.{name.removesuffix('.weight')}"
        # For Conv1D too: fan_in_fan_out transposes the product, not the factors.
        tensors[f"{module}.lora_A.weight"] = delta.right.T.contiguous()
        tensors[f"{module}.lora_B.weight"] = delta.left
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        config = json.dumps(_config(edit, model), indent=2) + "\n"
        texts = {CONFIG: config, **record_of(model, [edit])}
        paths = [folder / name for name in (*texts, WEIGHTS)]
        with replacing_all(paths) as besides:
            for beside, text in zip(besides, texts.values(), strict=False):
                beside.write_text(text, encoding="utf-8", newline="\n")
            besides[-1].write_bytes(edit.to_bytes(tensors))


def _config(edit: WeightEdit, model: EditableModel) -> dict[str, Any]:
    ranks = {name.removesuffix(".weight"): delta.rank for name, delta in edit.deltas.items()}
    rank = max(ranks.values())
    others = {module: r for module, r in ranks.items() if r != rank}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": getattr(model.hf, "name_or_path", "") or model.name,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,  # scale = alpha / r = 1
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": list(ranks),
        "fan_in_fan_out": model.family.orientation == "in_out",
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
    }
