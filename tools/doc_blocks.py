"""The code blocks of Markdown pages, for tests and tools that run them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

CODE = ("python", "sh", "bash", "json", "yaml", "toml")  # the others are output or text
_BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.S | re.M)


@dataclass(frozen=True)
class Block:
    """A fenced block; one with a title is a file."""

    language: str
    title: str
    text: str

    @property
    def first_line(self) -> str:
        """What it is known by."""
        return self.text.partition("\n")[0]

    @property
    def commands(self) -> list[str]:
        """The commands of a shell block, each on one line."""
        lines = re.sub(r"\\\n\s*", "", self.text).splitlines()
        return [line for line in lines if line.strip() and not line.startswith("#")]


def blocks(page: Path) -> list[Block]:
    """A page's blocks of code, in their order."""
    text = page.read_text(encoding="utf-8")
    found = [Block(language, title, body) for language, title, body in _BLOCK.findall(text)]
    return [block for block in found if block.language in CODE]
