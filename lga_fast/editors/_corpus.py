"""A text corpus as rows of tokens, its checksum, and a note where it falls short."""

from __future__ import annotations

import hashlib
import json
import random
import re
from itertools import accumulate
from pathlib import Path
from typing import Any

from lga_fast import atlas
from lga_fast.errors import DataError
from lga_fast.models import EditableModel

_SEED = 1  # of the documents' order, as in ROME's own code
_PIECE = 1_000_000  # characters given to the tokenizer at once


def read(corpus: str | Path | None) -> tuple[str, str, list[str]]:
    """Name, SHA-256 and documents of a text file or folder.

    Raises:
        DataError: it cannot be read as UTF-8, or is empty.
    """
    path, sha256 = Path(corpus or atlas.FOLDER / "text.txt"), hashlib.sha256()
    files = {p.relative_to(path).as_posix(): p for p in path.rglob("*") if p.is_file()}
    files = {n: files[n] for n in sorted(files) if not n.startswith(".") and "/." not in n}
    documents = []
    for name, file in files.items() if path.is_dir() else [("", path)]:
        try:
            raw = file.read_bytes()
            documents.append(raw.decode("utf-8-sig").replace("\r\n", "\n").strip())
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{file}: expected UTF-8 text: {error}") from None
        sha256.update(f"{name}\0{len(raw)}\0".encode() * bool(name) + raw)  # one file: its own
    if not path.is_dir():
        paragraphs = re.split(r"\n\s*\n", documents[0])
        documents = paragraphs if len(paragraphs) > 1 else documents[0].split("\n")
    documents = [text for text in documents if text.strip()]
    if not documents:
        raise DataError(f"{path}: expected text, found none")
    return ("atlas/" if corpus is None else "") + path.name, sha256.hexdigest(), documents


def rows_of(model: EditableModel, documents: list[str], wanted: int, limit: int) -> list[list[int]]:
    """Rows of at most `limit` token ids, `wanted` in all, or as many as the documents have."""
    start, rows = start_of(model), []
    order, step = random.Random(_SEED).sample(documents, len(documents)), limit - len(start)
    for text in (d[i : i + _PIECE] for d in order for i in range(0, len(d), _PIECE)):
        ids = model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        for i in range(0, len(ids), step):
            rows.append([*start, *ids[i : i + step]][:wanted])
            wanted -= len(rows[-1])
            if not wanted:
                return rows
    return rows


def start_of(model: EditableModel) -> list[int]:
    """Ids of the special tokens that the tokenizer puts before a text."""
    out = model.tokenizer("a", return_special_tokens_mask=True)
    return list(out["input_ids"][: out["special_tokens_mask"].index(0)])


def tokenizer_checksum(model: EditableModel, documents: list[str]) -> str:
    """Checksum of the token ids of the text's beginning."""
    ids = model.tokenizer(documents[0][:500], add_special_tokens=False)["input_ids"]
    return hashlib.sha256(json.dumps([start_of(model), ids]).encode()).hexdigest()


def counts(rows: list[list[int]], wanted: int, width: int) -> dict[str, Any]:
    """How much was read, with notes on what falls short: keys in equal contexts are equal."""
    read, contexts = sum(map(len, rows)), set()
    notes = [] if read == wanted else [f"the text has {read} of the {wanted} tokens asked for"]
    for row in rows:
        contexts.update(accumulate(row, lambda *seen: hash(seen), initial=0))
        if len(contexts) > width:
            break
    else:
        notes.append(f"fewer distinct contexts than d_in = {width}: the moment is singular")
    return {"tokens": read, "rows": len(rows), "notes": notes}
