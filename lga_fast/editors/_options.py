"""Where an editor's options come from: arguments, file, model, published configs, defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal, SupportsIndex, get_args, get_type_hints

from lga_fast import registry
from lga_fast.editors._config import Config, Setting, read, settings_of, unknown_keys
from lga_fast.errors import EditError, NoLayer, UnknownName, warn
from lga_fast.models import EditableModel
from lga_fast.models.edit_target import check_editable
from lga_fast.options import checked

Preset = Literal["easyedit", "original"]
_EDITORS = "lga_fast.editors"


def resolve(
    model: EditableModel,
    name: str,
    layer: SupportsIndex | None,
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
    known = [f.name for f in fields(kind)]
    report: dict[str, Any] = {"preset": preset, "unknown": [], "not_needed": {}, "notes": []}
    settings = _published(getattr(kind, "published_hparams", {}), preset, model, report)
    for key, value in model.editing.get(name, {}).items():
        if key in known:
            settings[key] = Setting("model", key, value)
        else:
            report["not_needed"][key] = f"recommended by the model; {name} has no such option"
    settings |= _requested(name, layer, config, options, report)
    if report["unknown"]:
        warn(unknown_keys(config, report["unknown"], known))
    editor, chosen = _checked(name, settings, options)
    source = {key: settings[key].source if key in settings else "default" for key in known}
    if chosen is not None:
        source["layer"] = settings["layer"].source
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


def window(name: str, last: int, length: int | None = None) -> list[int]:
    """The layers that an editor changes together where the last of them was chosen.

    Args:
        name: of the editor.
        last: the chosen layer.
        length: number of layers; default: as many as EasyEdit's configs of the editor have.
    """
    usual: int = registry.member(_EDITORS, name).Editor.window
    return list(range(max(0, last - (length or usual) + 1), last + 1))


def chosen_layers(name: str, config: Config | None, last: int) -> dict[str, Any]:
    """Arguments of `edit` for a layer that was chosen: its window if the config's layers are auto.

    Args:
        name: of the editor.
        config: see `lga_fast.edit`.
        last: the chosen layer.
    """
    auto = config is not None and read(config).get("layers") == "auto"
    layers = window(name, last)
    return {"layer": last} | ({"layers": layers} if auto and len(layers) > 1 else {})


def check_options(
    name: str, layer: SupportsIndex | None, config: Config | None, options: Mapping[str, Any]
) -> None:
    """Refuse what `resolve` refuses whatever the model is, so that it need not be loaded first."""
    settings = _requested(name, layer, config, options, {"unknown": [], "not_needed": {}})
    _checked(name, settings, options)


def _checked(
    name: str, settings: Mapping[str, Setting], options: Mapping[str, Any]
) -> tuple[Any, int | None]:
    """Editor `name` with these settings, and the layer if they have one."""
    kind = registry.member(_EDITORS, name).Editor
    hints = get_type_hints(kind) | {"layer": int}
    limits = {f.name: f.metadata for f in fields(kind)} | {"layer": {"min": 0}}
    values = {  # checked here, to say where each came from
        key: checked(one.value, hints[key], limits[key], f"{one.source}: {one.key}")
        for key, one in settings.items()
        if key in limits
    }
    layer = values.pop("layer", None)
    return registry.configured(_EDITORS, name, "Editor", {**options, **values}), layer


def _published(
    published: Mapping[str, Any], preset: str, model: EditableModel, report: dict[str, Any]
) -> dict[str, Setting]:
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
        key: Setting(source, key, value)
        for source, options in tables.items()
        for key, value in options.items()
    }


def _requested(
    name: str,
    layer: SupportsIndex | None,
    config: Config | None,
    options: Mapping[str, Any],
    report: dict[str, Any],
) -> dict[str, Setting]:
    """What the caller sets, by a config or by arguments."""
    settings: dict[str, Setting] = {}
    if config is not None:
        known = [f.name for f in fields(registry.member(_EDITORS, name).Editor)]
        settings |= settings_of(config, name, known, report, with_layer=layer is None)
    settings |= {key: Setting("argument", key, value) for key, value in options.items()}
    if layer is not None:
        settings["layer"] = Setting("argument", "layer", layer)
    return settings
