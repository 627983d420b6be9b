"""The embedded atlas: real-world facts, edit requests made of them, two models that know them."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
FACTS = FOLDER / "facts"  # one JSON file per relation
REQUESTS = FOLDER / "requests.json"
MODELS = {name: FOLDER / "models" / name for name in ("gpt2", "llama")}
