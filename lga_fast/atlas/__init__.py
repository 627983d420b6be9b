"""The embedded atlas: facts, edit requests made from them, and two models that know them."""

from __future__ import annotations

from pathlib import Path

from lga_fast.errors import UnknownName

FOLDER = Path(__file__).parent
FACTS = FOLDER / "facts"  # one JSON file per relation
REQUESTS = FOLDER / "requests.json"
MODELS = {arch: FOLDER / "models" / arch for arch in ("gpt2", "llama")}


def folder(name: str = "atlas") -> Path:
    """Folder of an embedded model, for `from_pretrained`.

    Raises:
        UnknownName: it is not "atlas", "atlas-gpt2" or "atlas-llama".

    Example:
        >>> folder("atlas-llama").name
        'llama'
    """
    arch = "gpt2" if name == "atlas" else name.removeprefix("atlas-")
    if arch not in MODELS:
        known = ", ".join(["atlas", *(f"atlas-{arch}" for arch in MODELS)])
        raise UnknownName(f"no embedded model {name!r}. There are: {known}.")
    return MODELS[arch]
