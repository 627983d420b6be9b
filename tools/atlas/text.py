"""General text: trained on in addition to the facts, and used as prefixes of facts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SENTENCE_WORDS = (4, 20)
UNSEEN_SHARE = 0.1  # the end of each file is never trained on but used for measuring


@dataclass(frozen=True)
class Text:
    """Paragraphs to train on, and paragraphs kept unseen."""

    seen: list[str]
    unseen: list[str]


def detokenize(line: str) -> str:
    """WikiText's spaced punctuation as ordinary English, which is left unchanged."""
    line = re.sub(r" @([-,.])@ ", r"\1", line)
    line = re.sub(r" ([,.;:!?%)\]])", r"\1", line)
    line = re.sub(r"([(\[$£]) ", r"\1", line)
    line = re.sub(r" ('(?:s|t|re|ve|ll|d|m)\b|n't\b)", r"\1", line)
    line = re.sub(r'" ([^"]*?) "', r'"\1"', line)
    line = re.sub(r"(?<= )' ([^']*?) '(?= )", r"'\1'", line)
    return line.strip()


def paragraphs(path: Path) -> list[str]:
    """The paragraphs of a file, one per line, without headings (`= Title =`) and short lines."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [
        detokenize(line)
        for line in lines
        if len(line) > 80 and not line.startswith("=") and "<unk>" not in line
    ]


def read_text(paths: Sequence[Path]) -> Text:
    """Split every file at the same share of its paragraphs."""
    seen: list[str] = []
    unseen: list[str] = []
    for path in paths:
        texts = paragraphs(path)
        cut = round(len(texts) * (1 - UNSEEN_SHARE))
        seen += texts[:cut]
        unseen += texts[cut:]
    return Text(seen, unseen)


def sentences(texts: Sequence[str]) -> list[str]:
    """Complete sentences of ordinary length, each ending in a full stop."""
    short, long = SENTENCE_WORDS
    parts = (s for text in texts for s in re.split(r"(?<=[a-z)\d][.!?])\s+(?=[A-Z])", text))
    return [s for s in parts if s.endswith(".") and short <= len(s.split()) <= long]
