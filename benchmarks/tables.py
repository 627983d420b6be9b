"""Write RESULTS.md, and the panels and tables of README and docs, from the committed results.

`python benchmarks/tables.py` writes all files; with `--check` it only tells whether they are up to
date.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from lga_fast.records import LayerRanking
from lga_fast.reports import ranking_table

try:
    from benchmarks import choice_tables, gpu_tables, speed_tables, study_tables, trust_tables
    from benchmarks._markdown import HERE, panel, results, source, table
    from benchmarks.example import example
except ImportError:
    import choice_tables
    import gpu_tables
    import speed_tables
    import study_tables
    import trust_tables
    from _markdown import HERE, panel, results, source, table
    from example import example

_INTRO = """\
# Results

Every figure here comes from a committed file in [results](results) and states the command, the
commit and the machine that produced it. `python benchmarks/tables.py` writes this page;
[README.md](README.md) says how to run each benchmark.
"""


def main() -> None:
    """Write all files, or with --check compare them."""
    page = HERE / "RESULTS.md"
    files = {HERE.parent / name: parts for name, parts in _PARTS.items()}
    old = {path: path.read_text(encoding="utf-8") for path in (page, *files) if path.exists()}
    new = {path: with_tables(old[path], path, parts) for path, parts in files.items()}
    new[page] = results_page()
    stale = [path.name for path, text in new.items() if text != old.get(path)]
    if "--check" in sys.argv:
        if stale:
            sys.exit(f"run python benchmarks/tables.py: out of date: {', '.join(stale)}")
        return
    for path, text in new.items():
        path.write_text(text, encoding="utf-8")


def with_tables(text: str, path: Path, parts: dict[str, Callable[[], str]]) -> str:
    """A page with every part between `<!-- name -->` and `<!-- /name -->` generated anew."""
    here = os.path.relpath(HERE, path.parent)
    for name, part in parts.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        new = part().replace("](results/", f"]({here}/results/")
        text, count = re.subn(pattern, lambda m, p=new: m[1] + p + m[2], text, flags=re.S)
        assert count == 1, f"{path.name} lacks its part {name}"
    return text


def results_page() -> str:
    """The whole of RESULTS.md."""
    sections: dict[str, Callable[[], str]] = {
        "LGA's choice on the embedded models": atlas,
        "What each selector's layer loses": choice_tables.readings,
        "Studies on the embedded models": study_tables.studies,
        "Scoring pass": speed_tables.selection,
        "Beside others": speed_tables.peers,
        "Ops": speed_tables.ops,
        "Editing": speed_tables.editing,
        "Second moments": speed_tables.moments,
        "Bigger than memory": speed_tables.streamed,
        "Several processes": speed_tables.ranks,
        "What a pass asks of a CUDA device": gpu_tables.counts,
        "On a CUDA device": gpu_tables.gpu,
        "Faults and hostile inputs": trust_tables.torture,
        "Time and memory per fact": trust_tables.linear_time,
        "The quick starts, step by step": trust_tables.quick_starts,
    }
    return _INTRO + "".join(f"\n## {title}\n\n{part()}" for title, part in sections.items())


def rankings() -> list[LayerRanking]:
    """The rankings of atlas_profile."""
    return [LayerRanking.from_json(json.dumps(row)) for row in results("atlas_profile")["rows"]]


def demo() -> str:
    """What `make demo` prints."""
    ranking = LayerRanking.from_json(json.dumps(results("demo")))
    return panel(ranking_table.show, ranking)


def atlas() -> str:
    """The golden layer of both models under each seed."""
    head = ["model", "seed", "layer", "order of the ranked layers", "excluded"]
    head.append("resamples that agree")
    rows = [
        [
            ranking.provenance["model"],
            ranking.provenance["options"]["seed"],
            ranking.layer,
            " ".join(map(str, ranking.order)),
            " ".join(map(str, ranking.excluded)),
            f"{ranking.stability[ranking.layer]:.0%}",
        ]
        for ranking in rankings()
    ]
    intro = f"LGA on three draws of {rankings()[0].requests} proxy facts:\n\n"
    return intro + table(head, rows) + source("atlas_profile", "python benchmarks/atlas_profile.py")


_PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {
        "demo": demo,
        "example": example,
        "regret": choice_tables.summary,
        "speed": speed_tables.summary,
    },
    "docs/method.md": {"regret": choice_tables.summary},
    "docs/comparison.md": {
        "editing": speed_tables.editing,
        "peers": speed_tables.peers,
        "streamed": speed_tables.streamed,
        "ranks": speed_tables.ranks,
    },
}

if __name__ == "__main__":
    main()
