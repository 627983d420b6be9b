"""An editor's options in a file or a mapping, under the names of the fields or EasyEdit's."""

from __future__ import annotations

import difflib
import os
import reprlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lga_fast import registry
from lga_fast.errors import DataError, EditError, shortened
from lga_fast.parsing import parse_json, parse_path, parse_yaml

# A file, with or without its suffix; a mapping; or an object such as EasyEdit's hparams.
Config = str | os.PathLike[str] | Mapping[str, Any] | object

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
    "stats_dir": "stats_dir",
    "P_loc": "projections",
}
# Of these, what EasyEdit makes where it is not there.
_MADE = {"stats_dir": "second moments are measured", "P_loc": "it is computed"}
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
            "mom2_dataset mom2_n_samples mom2_dtype",
            "second moments are read from `stats_dir`, or measured on `corpus`",
        ),
        ("max_length batch_size", "nothing is truncated, and batches are planned"),
    )
    for key in keys.split()
}


_SHOWN = 10  # unknown keys in a warning


class Setting(NamedTuple):
    source: str  # as the provenance names it
    key: str  # what the source calls the option
    value: Any


def settings_of(
    config: Config, name: str, known: Collection[str], report: dict[str, Any], with_layer: bool
) -> dict[str, Setting]:
    """What a config sets; keys that set nothing go into the report.

    Args:
        config: to be read.
        name: of the editor.
        known: names of its options.
        report: gets the `unknown` and the `not_needed` keys.
        with_layer: whether the config's layers count.

    Raises:
        DataError: the config cannot be read, or sets an option twice.
        EditError: it is for another editor, or asks for something unsupported.
    """
    place = _place(config)
    options, settings = {str(key): value for key, value in read(config).items()}, {}
    method = options.pop("alg_name", name)
    if registry.canonical(__name__.rpartition(".")[0], method) != name:
        raise EditError(
            f"{place}: alg_name: it is for {reprlib.repr(method)}, but the editor is {name!r}"
        )
    for key, value in options.items():
        field, where = _FIELDS.get(key, key), f"{place}: {shortened(key, 60)}"
        if key in ("layer", "layers") and (not with_layer or value == "auto"):
            continue
        if key in _MADE and isinstance(value, str) and not Path(value).expanduser().exists():
            report["not_needed"][key] = f"there is no {value}: {_MADE[key]}"
            continue
        if key == "layers" and key not in known:
            if not isinstance(value, list | tuple) or len(value) != 1:
                got = reprlib.repr(value)
                raise EditError(f"{where}: {name} edits one layer: expected one, got {got}")
            field, value = "layer", value[0]
        if field in settings:
            raise DataError(f"{where}: {settings[field].key} sets the same; keep one of the two")
        if field in known or field == "layer":
            settings[field] = Setting(place, key, value)
        elif key in _ONLY:
            if value != _ONLY[key]:
                got = reprlib.repr(value)
                raise EditError(f"{where}: only {_ONLY[key]!r} is supported, got {got}")
            report["not_needed"][key] = "the only supported value"
        elif key in _FIELDS or key in _NOT_NEEDED:
            report["not_needed"][key] = _NOT_NEEDED.get(key, f"{name} has no such option")
        else:
            report["unknown"].append(key)
    return settings


def overridden(config: str | None, options: Mapping[str, Any]) -> str | Mapping[str, Any] | None:
    """A file's config with these options in place of its own; without any, the file."""
    if not options:
        return config
    kept = {} if config is None else read(config)
    return {k: v for k, v in kept.items() if _FIELDS.get(k, k) not in options} | dict(options)


def unknown_keys(config: Config | None, keys: Collection[str], known: Collection[str]) -> str:
    """A warning of a config's unknown keys, with the nearest of the known ones."""
    hints = [_hint(key, [*known, *_FIELDS]) for key in [*keys][:_SHOWN]]
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"{_place(config)}: unknown keys are ignored: {', '.join(hints)}{more}"


def _place(config: Config | None) -> str:
    return str(config) if isinstance(config, str | os.PathLike) else "config"


def _hint(key: str, known: list[str]) -> str:
    key = shortened(key, 60)
    near = difflib.get_close_matches(key, known, n=1)
    return f"{key} (did you mean {near[0]}?)" if near else key


def read(config: Config) -> Mapping[str, Any]:
    """The keys and values of a config.

    Raises:
        DataError: it is a file that cannot be read, or no config at all.
    """
    if isinstance(config, Mapping):
        return config
    if hasattr(config, "__dict__") and not isinstance(config, os.PathLike):
        return vars(config)
    path = parse_path(config)
    with_suffix = path.with_name(f"{path.name}.yaml")  # EasyEdit's examples leave it out
    return _read(path if path.exists() or not with_suffix.exists() else with_suffix)


def _read(path: Path) -> dict[str, Any]:
    """The mapping a file holds."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            data = parse_json(text, object_pairs_hook=_unique)
        else:
            data, root = parse_yaml(text), yaml.compose(text, yaml.SafeLoader)
            if isinstance(root, yaml.MappingNode):  # of equal keys the last one is kept
                _unique([(str(key.value), value) for key, value in root.value])
    except (OSError, ValueError) as error:
        short = shortened(" ".join(str(error).split()))
        raise DataError(f"{path}: expected a config in YAML or JSON: {short}") from None
    if not isinstance(data, dict):
        raise DataError(f"{path}: expected keys with values, got {reprlib.repr(data)}")
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"{shortened(key, 60)} is there twice")
        values[key] = value
    return values
