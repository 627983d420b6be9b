"""Where an editor's options come from: arguments, file, model, published configs, defaults."""

from __future__ import annotations

import difflib
import json
import os
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_type_hints

import yaml

from lga_fast import registry
from lga_fast.errors import DataError, EditError, NoLayer, UnknownName, warn
from lga_fast.models import EditableModel
from lga_fast.models.edit_target import check_editable
from lga_fast.options import checked

Preset = Literal["easyedit", "original"]
Config = str | os.PathLike[str] | Mapping[str, Any]
_EDITORS = "lga_fast.editors"

# EasyEdit's hparams keys and the options they set, in those editors that have them.
_FIELDS = {
    "v_num_grad_steps": "steps",
    "v_lr": "lr",
    "v_weight_decay": "weight_decay",
    "v_loss_layer": "loss_layer",
    "clamp_norm_factor": "clamp",
    "kl_factor": "kl_factor",
    "nll_loss_factor": "nll_factor",
    "mom2_adjustment": "mom2_adjustment",
    "mom2_update_weight": "mom2_weight",
    "update_norm_lambda": "update_norm_lambda",
    "emmet_lambda": "emmet_lambda",
    "nullspace_threshold": "nullspace_threshold",
    "L2": "l2",
}
# Keys of which only one value is supported.
_ONLY = {
    "fact_token": "subject_last",
    "layer_selection": "all",
    "context_template_length_params": [[5, 10], [10, 10]],
    "original_implementation": False,
    "enable_random_prefix_keys": True,
    "enable_prompt_keys": False,
}
_NOT_NEEDED = {
    key: why
    for keys, why in (
        ("model_name device model_parallel fp16", "the model is used as loaded"),
        (
            "rewrite_module_tmp rewrite_module_tmps layer_module_tmp",
            "the model's family defines it",
        ),
        ("mlp_module_tmp attn_module_tmp", "the model's family defines it"),
        ("ln_f_module lm_head_module", "the model's family defines it"),
        (
            "stats_dir mom2_dataset mom2_n_samples mom2_dtype",
            "second moments are measured on `corpus`",
        ),
        ("P_loc", "computed from the second moment"),
        ("max_length batch_size", "nothing is truncated, and batches are planned"),
    )
    for key in keys.split()
}


class _Setting(NamedTuple):
    source: str  # as the provenance names it
    key: str  # what the source calls the option
    value: Any

    def checked(self, hint: Any, limits: Mapping[str, Any]) -> Any:
        return checked(self.value, hint, limits, f"{self.source}: {self.key}")


def resolve(
    model: EditableModel,
    name: str,
    layer: int | None,
    preset: Preset,
    config: Config | None,
    options: Mapping[str, Any],
) -> tuple[Any, int, dict[str, Any]]:
    """Editor `name` with every option set, the layer, and the provenance of both.

    Nothing here knows an editor. Its fields are its options (`lga_fast.options`); its class
    attribute `published_hparams` holds the configs of other code, by preset and below it by family,
    by model (last part of its name, in lower case), or by "*" for all. An editor with an option
    `layers` gets a file's layers there, and the highest as its layer.

    Arguments, errors and warnings are those of `lga_fast.edit`.
    """
    kind = registry.member(_EDITORS, name).Editor
    known, hints = {f.name: f for f in fields(kind)}, get_type_hints(kind)
    report: dict[str, Any] = {"preset": preset, "unknown": [], "not_needed": {}, "notes": []}
    settings = _published(getattr(kind, "published_hparams", {}), preset, model, report)
    for key, value in model.editing.get(name, {}).items():
        if key in known:
            settings[key] = _Setting("model", key, value)
        else:
            report["not_needed"][key] = f"recommended by the model; {name} has no such option"
    if config is not None:
        settings |= _configured(config, name, known, report, layer is None)
    settings |= {key: _Setting("argument", key, value) for key, value in options.items()}
    if layer is not None:
        settings["layer"] = _Setting("argument", "layer", layer)
    values = {
        key: setting.checked(hints[key], known[key].metadata)  # here, to say where it came from
        for key, setting in settings.items()
        if key in known
    }
    editor = registry.configured(_EDITORS, name, "Editor", {**options, **values})
    source = {key: settings[key].source if key in settings else "default" for key in known}
    if setting := settings.get("layer"):
        chosen, source["layer"] = setting.checked(int, {}), setting.source
    elif layers := getattr(editor, "layers", None):
        chosen, source["layer"] = max(layers), source["layers"]
    else:
        raise NoLayer(
            "no layer to edit: give layer=int(lga_fast.select_layer(model, edits)), or a config "
            "with `layers: [5]`"
        )
    if not 0 <= chosen < model.layers:
        raise EditError(f"layer {chosen}: {model.name} has layers 0 to {model.layers - 1}")
    check_editable(model, {*(getattr(editor, "layers", None) or ()), chosen})
    about = {"config": asdict(editor), "config_source": source, "config_report": report}
    return editor, chosen, about


def _published(
    published: Mapping[str, Any], preset: str, model: EditableModel, report: dict[str, Any]
) -> dict[str, _Setting]:
    """What other code's configs say for this model."""
    if preset not in get_args(Preset):
        raise UnknownName(f"no preset {preset!r}. There are: {', '.join(get_args(Preset))}.")
    table = published.get(preset, {})
    listed = [n for n in (model.family_name, Path(model.name).name.lower()) if n in table]
    if table and not listed:
        report["notes"].append(
            f"no published config lists {model.family_name}: lga_fast's defaults apply"
        )
    tables = {f"preset: {preset}": table.get("*", {})}
    tables |= {f"published: {name}": table[name] for name in listed}
    return {
        key: _Setting(source, key, value)
        for source, options in tables.items()
        for key, value in options.items()
    }


def _configured(
    config: Config,
    name: str,
    known: Mapping[str, Any],
    report: dict[str, Any],
    with_layer: bool,
) -> dict[str, _Setting]:
    """What a file or a mapping sets; keys that set nothing go into the report."""
    inline = isinstance(config, Mapping)
    place, options = ("config", config) if inline else (str(config), _read(Path(config)))
    options, settings = {str(key): value for key, value in options.items()}, {}
    method = options.pop("alg_name", name)
    if str(method).lower().replace("-", "_") != name:
        raise EditError(f"{place}: alg_name: it is for {method!r}, but the editor is {name!r}")
    for key, value in options.items():
        field, where = _FIELDS.get(key, key), f"{place}: {key}"
        if key in ("layer", "layers") and not with_layer:
            continue
        if key == "layers" and key not in known:
            if not isinstance(value, list | tuple) or len(value) != 1:
                got = reprlib.repr(value)
                raise EditError(f"{where}: {name} edits one layer: expected one, got {got}")
            field, value = "layer", value[0]
        if field in settings:
            raise DataError(f"{where}: {settings[field].key} sets the same; keep one of the two")
        if field in known or field == "layer":
            settings[field] = _Setting(place, key, value)
        elif key in _ONLY:
            if value != _ONLY[key]:
                got = reprlib.repr(value)
                raise EditError(f"{where}: only {_ONLY[key]!r} is supported, got {got}")
            report["not_needed"][key] = "the only supported value"
        elif key in _FIELDS or key in _NOT_NEEDED:
            report["not_needed"][key] = _NOT_NEEDED.get(key, f"{name} has no such option")
        else:
            report["unknown"].append(key)
    if report["unknown"]:
        hints = [_hint(key, [*known, *_FIELDS]) for key in report["unknown"]]
        warn(f"{place}: unknown keys are ignored: {', '.join(hints)}")
    return settings


def _hint(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"{key} (did you mean {near[0]}?)" if near else key


def _read(path: Path) -> dict[str, Any]:
    """The mapping a file holds."""
    try:
        text = path.expanduser().read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            data = json.loads(text, object_pairs_hook=_unique)
        else:
            data, root = yaml.safe_load(text), yaml.compose(text, yaml.SafeLoader)
            if isinstance(root, yaml.MappingNode):  # of equal keys safe_load keeps the last
                _unique([(key.value, value) for key, value in root.value])
    except (OSError, ValueError, yaml.YAMLError) as error:
        short = " ".join(str(error).split())
        raise DataError(f"{path}: expected a config in YAML or JSON: {short}") from None
    if not isinstance(data, dict):
        raise DataError(f"{path}: expected keys with values, got {reprlib.repr(data)}")
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for i, (key, _) in enumerate(pairs):
        if key in dict(pairs[:i]):
            raise ValueError(f"{key} is there twice")
    return dict(pairs)
