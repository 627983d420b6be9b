"""Every layer of a real model edited: `python benchmarks/real_sweep.py MODEL DATA FILE OUT.npz`.

The ground truth that selectors are judged by. The facts are the first of the file that the model
knows (or does not: `--unknown`): it gives each token of the old answer, teacher-forced, greedily;
with `--mention`, which questions need, the old answer is in its next 16 tokens, in any case of the
letters. How many were asked and known, and the means by layer, are written beside OUT as `.json`
once all facts are swept; `--facts-of SWEEP` takes the facts of another one. A sweep that was
stopped resumes. FILE is `-` for the embedded facts. `--also rome` writes ROME's sweep beside
R-ROME's, of the values that R-ROME has optimised: with the same contexts ROME's are the same.
Started by torchrun, each process sweeps chunks of its own, and the first one writes them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lga_fast
from lga_fast import distributed, editors, files, metrics, provenance
from lga_fast.records import EditRequest
from lga_fast.scoring.pairs import generated
from lga_fast.sweep import statistics
from lga_fast.sweep.result import Sweep
from lga_fast.sweep.sweep_run import Chunk, SweepOptions, SweepRun

METRICS = ("rewrite", "rephrase", "locality", "log_prob")
ASKED = 400  # at most so many facts are asked at a time
BATCH_TOKENS = 2048
SAID = 16  # tokens in which `--mention` looks for the old answer


def main() -> None:
    """Choose the facts, and sweep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("file")
    parser.add_argument("out", type=Path)
    parser.add_argument("--facts", type=int, default=40)
    parser.add_argument("--facts-of", type=Path, help="a sweep whose facts are taken")
    parser.add_argument("--unknown", action="store_true", help="facts that it does not know")
    parser.add_argument("--mention", action="store_true", help="known if it comes to say it")
    parser.add_argument("--cheap", action="store_true", help="the editor's cheap edits")
    parser.add_argument("--editor", default="r_rome")
    parser.add_argument("--also", nargs="*", default=[], help="editors that share its values")
    parser.add_argument("--chunk", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = lga_fast.load(given.model, dtype="float32")
    every = facts_of(given.data, given.file)
    about: dict[str, Any] = {"facts": "unknown" if given.unknown else "known"}
    if given.facts_of:
        facts = {request.case_id: request for request in every}
        chosen = [facts[case_id] for case_id in read(given.facts_of).case_ids]
        about = {"facts": f"of {given.facts_of.name}"}
    else:
        knows = mentions if given.mention else answers
        chosen, asked, known = choose(model, every, given.facts, knows, wanted=not given.unknown)
        about |= {"asked": asked, "known": known}
    with ExitStack() as held:
        if distributed.started_together():
            held.enter_context(distributed.ranks())
        ranks, runs = distributed.current(), []
        for editor in (given.editor, *given.also):
            stem = given.out.stem + (f"_{editor}" if editor != given.editor else "")
            out = given.out.with_stem(stem)
            held.enter_context(files.locked(out if ranks.is_rank_zero else None))
            options = cheaper(model, editor) if given.cheap else {}
            settings = SweepOptions(editor, metrics=METRICS, chunk=given.chunk)
            runs.append(SweepRun(model, chosen, settings, out=out, **options))
        editors.optimise_at = remembered(editors.optimise_at)
        starts = sorted({start for run in runs for start in run.missing()})
        ranks.assert_same(missing_chunks=starts)
        for at in range(0, len(starts), ranks.size):
            now = starts[at : at + ranks.size]
            own = edited(runs, now[ranks.rank]) if ranks.rank < len(now) else {}
            for start, chunks in zip(now, ranks.gather(own), strict=False):
                for i, chunk in chunks.items():
                    runs[i].add(start, chunk)
        if ranks.is_rank_zero:
            for run in runs:
                report(run, about)


def edited(runs: list[SweepRun], start: int) -> dict[int, Chunk]:
    """The chunk that starts there, by the place of each run that lacks it."""
    chunks = {}
    for i, run in enumerate(runs):
        if start in run.missing():
            print(f"{run.out}: {run.finished()} of {len(run.requests)} facts", flush=True)
            chunks[i] = run.edit_chunk(start)
    return chunks


def remembered(optimise: Callable[..., Any]) -> Callable[..., Any]:
    """The same, but a call with the arguments of the last one gives its result again."""
    last: list[Any] = [None, None]

    def once(model: lga_fast.EditableModel, *rest: Any, **named: Any) -> Any:
        if last[0] != (rest, named):
            last[:] = [(rest, named), optimise(model, *rest, **named)]
        return last[1]

    return once


def report(run: SweepRun, about: dict[str, Any]) -> None:
    """Write what facts a finished sweep has, and its means by layer."""
    assert run.out is not None
    swept = run.result()
    about |= {
        "case_ids": swept.case_ids,
        "commit": provenance.commit(),
        "means": {
            name: [None if x != x else round(float(x), 4) for x in statistics.mean(values)]
            for name, values in swept.acc.items()
        },
    }
    run.out.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")


def facts_of(data: str, file: str) -> list[EditRequest]:
    """All facts of a file; `-`: the embedded ones."""
    return list(lga_fast.load_edits(data, None if file == "-" else file))


def read(path: Path) -> Sweep:
    """The facts of a sweep's file that are swept; it may be unfinished."""
    with np.load(path) as stored:
        about, acc, before = json.loads(str(stored["about"])), stored["acc"], stored["before"]
    done = np.flatnonzero(~np.isnan(acc[about["names"].index("rewrite")]).all(1))
    names, cases = about["names"], tuple(about["case_ids"][i] for i in done)
    return Sweep(
        {name: acc[i][done] for i, name in enumerate(names)},
        {name: before[i][done] for i, name in enumerate(names)},
        cases,
        tuple(range(acc.shape[2])),
        provenance=about,
    )


def cheaper(model: lga_fast.EditableModel, editor: str) -> dict[str, Any]:
    """The options by which the editor's cheap edits differ from its own."""
    own, _, _ = editors.resolve(model, editor, 0, "easyedit", None, {})
    before = asdict(own)
    return {name: value for name, value in asdict(own.cheap()).items() if value != before[name]}


def choose(
    model: lga_fast.EditableModel,
    every: list[EditRequest],
    facts: int,
    knows: Callable[[lga_fast.EditableModel, list[EditRequest]], list[bool]],
    wanted: bool,
) -> tuple[list[EditRequest], int, int]:
    """The first facts of the wanted kind, how many were asked for them, and how many it knew."""
    usable = [r for r in every if r.subject_span is not None and r.target_old]
    chosen: list[EditRequest] = []
    asked = known = 0
    for start in range(0, len(usable), ASKED):
        part = usable[start : start + ASKED]
        for request, knew in zip(part, knows(model, part), strict=True):
            asked += 1
            known += knew
            if knew == wanted:
                chosen.append(request)
            if len(chosen) == facts:
                return chosen, asked, known
    return chosen, asked, known


def answers(model: lga_fast.EditableModel, requests: list[EditRequest]) -> list[bool]:
    """Whether it gives each token of the old answer, teacher-forced, greedily."""
    questions = [metrics.Question(r.prompt, r.target_old or "") for r in requests]
    scored = metrics.score(model, questions, show_progress=False)
    return [answer.accuracy == 1 for answer in scored]


def mentions(model: lga_fast.EditableModel, requests: list[EditRequest]) -> list[bool]:
    """Whether the old answer is in what it says first, in any case of its letters."""
    prompts = {i: model.tokenizer(r.prompt)["input_ids"] for i, r in enumerate(requests)}
    said = generated(model, prompts, dict.fromkeys(prompts, SAID), BATCH_TOKENS)
    return [
        (r.target_old or "").casefold() in model.tokenizer.decode(said[i]).casefold()
        for i, r in enumerate(requests)
    ]


if __name__ == "__main__":
    main()
