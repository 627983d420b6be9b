"""The model that hparams name, and the layers that suit it."""

from __future__ import annotations

from typing import Any

import torch

from lga_fast import editors, registry
from lga_fast.errors import warn
from lga_fast.integrations.easyedit import _hparams
from lga_fast.loading import load
from lga_fast.models import EditableModel
from lga_fast.selectors import TO_EDIT, select_layer


def load_model(hparams: Any) -> EditableModel:
    """The model of `model_name`: an id, a folder, or `(model, tokenizer)`, used as they are.

    As in EasyEdit its dtype is float32, or float16 with `fp16`; `model_parallel` spreads it over
    all devices, and a number as `device` is that of a CUDA device.

    Warns:
        LgaFastWarning: a CUDA device is asked for and there is none; the CPU is used.
    """
    if not isinstance(hparams.model_name, str):
        model, tokenizer = hparams.model_name
        return load(model, tokenizer)
    dtype = "float16" if hparams.fp16 else "float32"
    device = "auto" if hparams.model_parallel else _device(hparams.device)
    return load(hparams.model_name, device=device, dtype=dtype)


def _device(device: Any) -> Any:
    if str(device).isdigit() or isinstance(device, float):
        device = f"cuda:{int(device)}"
    if str(device).startswith("cuda") and not torch.cuda.is_available():
        warn(f"hparams: device: there is no {device}; the CPU is used")
        return "cpu"
    return device


def select_layers(
    hparams: Any,
    requests: Any,
    *,
    selector: str = TO_EDIT,
    window: int | None = None,
    model: EditableModel | None = None,
    **options: Any,
) -> list[int]:
    """The layers to edit, for `hparams.layers`: the golden one, or the window that ends there.

    Args:
        hparams: which model and method; an object or a path. Not changed.
        requests: the facts to choose on, better not those to be edited and measured; EasyEdit's
            request dicts, or whatever `lga_fast.load_edits` takes.
        selector: a member of `lga_fast.selectors`.
        window: number of layers; default: as many as `hparams.layers` has, or where that says
            "auto", as EasyEdit's configs of the method have: 5 for MEMIT, PMET and AlphaEdit, 1 for
            ROME, R-ROME and EMMET.
        model: as loaded already.
        options: of the selector; its editor and config are those of the hparams.

    Raises:
        DataError: hparams or requests are not what they should be.
        ScoringError: no layer can be chosen on these requests.

    Example:
        >>> hparams.layers = select_layers(hparams, proxy_facts)
        >>> hparams.save("gpt2-xl-golden.yaml")
    """
    hparams = _hparams.resolve(hparams)
    layers = getattr(hparams, "layers", "auto")
    name = registry.canonical("lga_fast.editors", hparams.alg_name)
    # Without the model itself, which a ranking's provenance would copy.
    config = {key: value for key, value in hparams.to_dict().items() if key != "model_name"}
    offered = {"editor": name, "config": config}
    options = registry.of_member("lga_fast.selectors", selector, "Selector", offered) | options
    ranking = select_layer(model or load_model(hparams), requests, selector, **options)
    length = window or (None if layers == "auto" else len(layers))
    return editors.window(name, int(ranking), length)
