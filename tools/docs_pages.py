"""Hooks of mkdocs: pages that do not lie in docs/, and links that leave it.

Pages link to files as they lie in the repository, so that they can be read there too. On the site
such a link leads to that file's page; a file without one is only named.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from click import Context
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from lga_fast.cli import main  # noqa: E402 - from this checkout; help texts need no torch

PAGES = {"benchmarks/RESULTS.md": "results.md", "CHANGELOG.md": "changelog.md"}
COMMANDS = "reference/commands.md"
_LINK = re.compile(r"\[([^\]]*)\]\((?!https://|#)([^)#]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the pages of `PAGES`, and that of the commands."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, COMMANDS, content=commands()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Lead every link to a page of the site."""
    here = page.file.src_uri
    sources = {site: source for source, site in PAGES.items()}
    folder = posixpath.dirname(sources.get(here, f"docs/{here}"))

    def led(match: re.Match[str]) -> str:
        text, link, anchor = match[1], match[2], match[3] or ""
        target = posixpath.normpath(posixpath.join(folder, link))
        if not target.startswith("docs/") and target not in PAGES:
            return text
        target = PAGES.get(target, target.removeprefix("docs/"))
        return f"[{text}]({posixpath.relpath(target, posixpath.dirname(here) or '.')}{anchor})"

    return _LINK.sub(led, markdown)


def commands() -> str:
    """The help text of every command, as a terminal of 80 columns shows it."""
    settings = main.context_settings | {"terminal_width": 80, "max_content_width": 80}
    top = Context(main, info_name="lga-fast", **settings)
    helps = {"lga-fast": main.get_help(top)}
    for name in main.list_commands(top):
        command = main.get_command(top, name)
        assert command is not None
        context = Context(command, info_name=name, parent=top, **command.context_settings)
        helps[f"lga-fast {name}"] = command.get_help(context)
    parts = (f"\n## {title}\n\n```text\n{text}\n```\n" for title, text in helps.items())
    return "# Commands\n" + "".join(parts)
