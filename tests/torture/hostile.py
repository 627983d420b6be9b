"""Texts that are nearly right, at each door: read, or refused by an `LgaFastError`."""

from __future__ import annotations

import collections
import json
import random
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lga_fast
from lga_fast import registry
from lga_fast.datasets import easyedit_requests, load_edits
from lga_fast.editors._config import settings_of
from lga_fast.errors import LgaFastError
from lga_fast.load_arguments import parse_bytes, parse_device, parse_dtype, read_editing
from lga_fast.parsing import parse_path
from lga_fast.records import LayerRanking
from lga_fast.streaming.checkpoint_files import INDEX, check_index

_RECORD = {
    "case_id": 1,
    "prompt": "The tower of Paris stands in",
    "subject": "Paris",
    "target_new": "Rome",
    "ground_truth": "France",
    "probes": [{"kind": "locality", "group": "a", "prompt": "x", "answer": "y"}],
}
_CONFIG = {"alg_name": "ROME", "layers": [5], "v_lr": 5e-1, "v_num_grad_steps": 20}
RANKING = {"layer": 1, "selector": "lga", "scores": [1.0, 2.0], "order": [1, 0], "excluded": []}
_INDEX = {"metadata": {"total_size": 1}, "weight_map": {"a": "x.safetensors"}}
VALUES = (
    *(None, True, 0, -1, 2**64, 10**400, 1e308, float("nan"), float("inf"), "", " ", "\0"),
    *("\ud800", "x" * 10_000, "<b>", "../x", "~nouser/x", [], {}, [[[]]], {"a": {"b": 1}}, [None]),
)
# A model of 2**64 layers is made one by one until memory ends; that is for transformers to refuse.
SMALL = tuple(v for v in VALUES if not isinstance(v, int) or abs(v) < 100)
_BITS = (
    "[",
    "{",
    '"',
    "\\ud800",
    "&a",
    "*a",
    "!!float x",
    "\0",
    ":",
    "- ",
    "\n",
    "9" * 5000,
    "\ufeff",
)


def changed(value: Any, draw: random.Random, values: Sequence[Any] = VALUES) -> Any:
    """Plain JSON with one of its values replaced, dropped or repeated."""
    if not isinstance(value, dict | list) or not value or draw.random() < 0.2:
        return draw.choice(values)
    copy = value.copy()
    key = draw.choice(list(copy) if isinstance(copy, dict) else range(len(copy)))
    how = draw.random()
    if how < 0.2:
        del copy[key]
    elif how < 0.3 and isinstance(copy, dict):
        copy["x" * draw.choice((1, 9999))] = draw.choice(values)
    else:
        copy[key] = changed(copy[key], draw, values)
    return copy


def text_of(value: Any, draw: random.Random, values: Sequence[Any] = VALUES) -> str:
    """JSON of a changed value, at times broken, or nested deeply."""
    text = json.dumps(changed(value, draw, values))
    if draw.random() < 0.4:
        at = draw.randrange(len(text) + 1)
        text = text[:at] + draw.choice(_BITS) * draw.choice((1, 1, 3000)) + text[at:]
    return text[: draw.randrange(len(text) + 1)] if draw.random() < 0.2 else text


def damaged(content: bytes, draw: random.Random, is_json: bool = False) -> bytes:
    """Changed JSON; or bytes cut off, added or changed."""
    if is_json and draw.random() < 0.7:
        value, end = json.JSONDecoder().raw_decode(content.decode())
        text = text_of(value, draw, SMALL)
        return text.encode("utf-8", "surrogatepass") + content.decode()[end:].encode()
    at, how = draw.randrange(len(content) + 1), draw.random()
    if how < 0.3:
        return content[:at]
    if how < 0.4:
        return content[:at] + draw.randbytes(9) + content[at:]
    at = draw.randrange(min(len(content), draw.choice((16, 400, len(content))))) if content else 0
    return content[:at] + draw.randbytes(draw.choice((1, 8))) + content[at + 1 :]


def _doors(folder: Path) -> dict[str, Callable[[random.Random], Any]]:
    def written(name: str, value: Any, draw: random.Random) -> Path:
        path = folder / name
        path.write_text(text_of(value, draw), encoding="utf-8", errors="surrogatepass")
        return path

    def config(ending: str) -> Callable[[random.Random], Any]:
        def read(draw: random.Random) -> Any:
            report: dict[str, Any] = {"unknown": [], "not_needed": {}}
            path = str(written(f"c{ending}", _CONFIG, draw))
            return settings_of(path, "rome", ("lr", "steps"), report, True)

        return read

    doors: dict[str, Callable[[random.Random], Any]] = {
        "request": lambda draw: easyedit_requests([changed(_RECORD, draw)]),
        "config in JSON": config(".json"),
        "config in YAML": config(".yaml"),
        "ranking": lambda draw: LayerRanking.from_json(text_of(RANKING, draw)),
        "index": lambda draw: check_index(written(INDEX, _INDEX, draw).parent),
        "editing.json": lambda draw: read_editing(written("e.json", {"rome": _CONFIG}, draw)),
        "edit": lambda draw: lga_fast.WeightEdit.load(written("e.safetensors", _RECORD, draw)),
        "device": lambda draw: parse_device(draw.choice(VALUES)),
        "dtype": lambda draw: parse_dtype(draw.choice(VALUES)),
        "memory budget": lambda draw: parse_bytes(text_of("8GiB", draw)),
        "path": lambda draw: parse_path(draw.choice(VALUES)),
    }
    for name in registry.names("lga_fast.datasets"):
        doors[f"data set {name}"] = lambda draw, name=name: load_edits(
            name, written("d.json", [_RECORD], draw)
        )
    return doors


def tried(seed: int, failures: list[str], each: int = 40) -> collections.Counter[str]:
    """How many inputs were tried, `each` at a door; `failures` gets what is no error of ours."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        return asked(_doors(Path(folder)), seed, failures, each)


def asked(
    doors: Mapping[str, Callable[[random.Random], Any]], seed: int, failures: list[str], each: int
) -> collections.Counter[str]:
    """The same of some doors; a failure can be had again by its seed and number."""
    count: collections.Counter[str] = collections.Counter()
    for name, door in doors.items():
        for number in range(each):
            count[name] += 1
            place = f"{name}: seed {seed}, {number}"
            try:
                door(random.Random(f"{seed} {name} {number}"))
            except LgaFastError as error:
                if len(str(error)) > 4000:
                    failures.append(f"{place}: {len(str(error))} characters")
            except Exception as error:
                failures.append(f"{place}: {type(error).__name__}: {str(error)[:100]!a}")
    return count
