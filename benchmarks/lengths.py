"""Token counts of real requests, for timing without data: `python benchmarks/lengths.py ...`.

Its arguments: a tokenizer, and a folder with zsre/ZsRE-test-all.json and
wikibio/wikibio-test-all.json (KnowEdit). Of 100 requests of the one and 30 of the other, drawn with
a fixed seed, `lengths.json` gets the tokens of prompt, old and new answer. WikiBio has no old
answers; a model's own is cut to the new one's length.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from transformers import AutoTokenizer

import lga_fast
from lga_fast.datasets import split
from lga_fast.tokens import target_row

FILE = Path(__file__).parent / "lengths.json"
SEED = 0
DRAWN = {"zsre": ("ZsRE-test-all.json", 100), "wikibio": ("wikibio-test-all.json", 30)}


def main() -> None:
    """Write lengths.json."""
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    lengths = {}
    for name, (file, count) in DRAWN.items():
        edits = lga_fast.load_edits(name, Path(sys.argv[2]) / name / file)
        drawn = edits.take(split(edits, count, SEED).proxy_indices)
        lengths[name] = []
        for edit in drawn:
            new = target_row(tokenizer, edit.prompt, edit.target_new)
            old = target_row(tokenizer, edit.prompt, edit.target_old or edit.target_new)
            lengths[name].append([new.start, len(old.target), len(new.target)])
    FILE.write_text(json.dumps(lengths) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
