"""An editor's options: from arguments, a file, the model, the peers' configs, or defaults."""

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

# EasyEdit's hparams keys and the fields they set, in those editors that have such a field.
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
# Keys of which one value only is built.
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
        ("model_name device model_parallel fp16", "the model is used as it was loaded"),
        ("rewrite_module_tmp rewrite_module_tmps layer_module_tmp", "the model's family says it"),
        ("mlp_module_tmp attn_module_tmp", "the model's family says it"),
        ("ln_f_module lm_head_module", "the model's family says it"),
        ("stats_dir mom2_dataset mom2_n_samples mom2_dtype", "a second moment is of `corpus`"),
        ("P_loc", "made from the second moment"),
        ("max_length batch_size", "nothing is cut, and batches are planned"),
    )
    for key in keys.split()
}


class _Given(NamedTuple):
    source: str  # as the provenance names it
    key: str  # what the source calls the field
    value: Any


def resolve(
    model: EditableModel,
    name: str,
    layer: int | None,
    preset: Preset,
    config: Config | None,
    options: Mapping[str, Any],
) -> tuple[Any, int, dict[str, Any]]:
    """Editor `name` with every field filled in, the layer, and the provenance of both.

    Nothing here knows an editor. Its dataclass declares the fields, with limits of numbers as the
    metadata `min` or `above`; its class attribute `published_hparams` says what others publish, by
    preset and below it by family, by model (last part of its name, in lower case), or by "*" for
    all. An editor with a field `layers` gets a file's layers there, and the highest as its layer.

    Arguments and errors are those of `lga_fast.edit`.
    """
    kind = registry.member(_EDITORS, name).Editor
    known, hints = {f.name: f for f in fields(kind)}, get_type_hints(kind)
    report: dict[str, Any] = {"preset": preset, "unknown": [], "not_needed": {}, "notes": []}
    given = _by_published(getattr(kind, "published_hparams", {}), preset, model, report)
    for key, value in model.editing.get(name, {}).items():
        if key in known:
            given[key] = _Given("model", key, value)
        else:
            report["not_needed"][key] = f"advice of the model; {name} has no such option"
    if config is not None:
        given |= _by_file(config, name, known, report, layer is None)
    given |= {key: _Given("argument", key, value) for key, value in options.items()}
    if layer is not None:
        given["layer"] = _Given("argument", "layer", layer)
    values = {
        key: checked(at.value, hints[key], known[key].metadata, f"{at.source}: {at.key}")
        for key, at in given.items()
        if key in known
    }
    editor = registry.configured(_EDITORS, name, "Editor", {**options, **values})
    source = {key: given[key].source if key in given else "default" for key in known}
    if at := given.get("layer"):
        chosen = checked(at.value, int, {}, f"{at.source}: {at.key}")
        source["layer"] = at.source
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


def _by_published(
    published: Mapping[str, Any], preset: str, model: EditableModel, report: dict[str, Any]
) -> dict[str, _Given]:
    if preset not in get_args(Preset):
        raise UnknownName(f"no preset {preset!r}. There are: {', '.join(get_args(Preset))}.")
    table = published.get(preset, {})
    listed = [n for n in (model.family_name, Path(model.name).name.lower()) if n in table]
    if table and not listed:
        report["notes"].append(f"no peer lists {model.family_name}: lga_fast's defaults serve it")
    given = {key: _Given(f"preset: {preset}", key, v) for key, v in table.get("*", {}).items()}
    for name in listed:
        given |= {key: _Given(f"published: {name}", key, v) for key, v in table[name].items()}
    return given


def _by_file(
    config: Config,
    name: str,
    known: Mapping[str, Any],
    report: dict[str, Any],
    with_layer: bool,
) -> dict[str, _Given]:
    """What a file or a mapping asks for; keys that ask for nothing go into the report."""
    inline = isinstance(config, Mapping)
    place, asked = ("config", config) if inline else (str(config), _read(Path(config)))
    asked, given = {str(key): value for key, value in asked.items()}, {}
    its = asked.pop("alg_name", name)
    if str(its).lower().replace("-", "_") != name:
        raise EditError(f"{place}: alg_name: it is for {its!r}, the editor asked for is {name!r}")
    for key, value in asked.items():
        field, where = _FIELDS.get(key, key), f"{place}: {key}"
        if key in ("layer", "layers") and not with_layer:
            continue
        if key == "layers" and key not in known:
            if not isinstance(value, list | tuple) or len(value) != 1:
                got = reprlib.repr(value)
                raise EditError(f"{where}: {name} edits one layer: expected one, got {got}")
            field, value = "layer", value[0]
        if field in given:
            raise DataError(f"{where}: {given[field].key} says the same; keep one of the two")
        if field in known or field == "layer":
            given[field] = _Given(place, key, value)
        elif key in _ONLY:
            if value != _ONLY[key]:
                got = reprlib.repr(value)
                raise EditError(f"{where}: only {_ONLY[key]!r} is built, got {got}")
            report["not_needed"][key] = "what is built"
        elif key in _FIELDS or key in _NOT_NEEDED:
            report["not_needed"][key] = _NOT_NEEDED.get(key, f"{name} has no such option")
        else:
            report["unknown"].append(key)
    if report["unknown"]:
        hints = [_hint(key, [*known, *_FIELDS]) for key in report["unknown"]]
        warn(f"{place}: unknown and not used: {', '.join(hints)}")
    return given


def _hint(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"{key} (did you mean {near[0]}?)" if near else key


def _read(path: Path) -> dict[str, Any]:
    """The mapping a file holds."""
    try:
        text = path.expanduser().read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            data = json.loads(text, object_pairs_hook=_once)
        else:
            data, root = yaml.safe_load(text), yaml.compose(text, yaml.SafeLoader)
            if isinstance(root, yaml.MappingNode):  # of equal keys safe_load keeps the last
                _once([(key.value, value) for key, value in root.value])
    except (OSError, ValueError, yaml.YAMLError) as error:
        short = " ".join(str(error).split())
        raise DataError(f"{path}: expected a config in YAML or JSON: {short}") from None
    if not isinstance(data, dict):
        raise DataError(f"{path}: expected keys with values, got {reprlib.repr(data)}")
    return data


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for i, (key, _) in enumerate(pairs):
        if key in dict(pairs[:i]):
            raise ValueError(f"{key} is there twice")
    return dict(pairs)
