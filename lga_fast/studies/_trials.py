"""What studies run on: models, data sets and editors, and the sweeps of them, made once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from lga_fast import editors, progress, provenance
from lga_fast.datasets import LoadedEdits, Split, split
from lga_fast.errors import DataError
from lga_fast.loading import load
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest
from lga_fast.sweep.result import Sweep
from lga_fast.sweep.run import CHUNK, Chunk, Sweeping

METRICS = ("rewrite", "rephrase", "locality", "portability")


@dataclass(frozen=True)
class Setting:
    """What a study is to run on; it can be handed to another process.

    Requests without a subject in their prompt take no part. The others are split with `seed`; the
    first `test` of the test part are used.
    """

    out: Path  # sweeps are kept in its folder `sweeps`, and gone on with
    data: dict[str, LoadedEdits]  # by the name that the report shows
    models: tuple[str, ...] = ("atlas", "atlas-llama")  # for `lga_fast.load`
    editors: tuple[str, ...] = ("r_rome",)
    proxy: int = 20
    test: int = 60
    seed: int = 42
    metrics: tuple[str, ...] = METRICS
    preset: editors.Preset = "easyedit"
    config: str | None = None
    device: str | None = None
    dtype: str | None = None
    chunk: int = CHUNK  # facts that a process edits and measures together
    jobs: int = 1  # processes that sweep, with an even share of the threads each

    def __post_init__(self) -> None:
        """Refuse what no golden layer can be found of."""
        if "rewrite" not in self.metrics:
            raise DataError(
                f"metrics={','.join(self.metrics)}: expected rewrite among them, because layers "
                "are compared by it"
            )

    def trials(self) -> list[Trial]:
        """Every model with every data set and editor; the models are held together."""
        return [
            Trial(self, source, model, data, editor)
            for source in self.models
            for model in [load(source, device=self.device, dtype=self.dtype)]
            for data in self.data
            for editor in self.editors
        ]

    def made(self) -> dict[str, Any]:
        """What is needed to repeat a study."""
        asked = {name: value for name, value in vars(self).items() if name not in ("out", "data")}
        data = {
            name: asdict(edits.provenance) | {"records": len(edits)}
            for name, edits in self.data.items()
        }
        return provenance.environment() | {"setting": asked, "data": data}


@dataclass(frozen=True)
class Trial:
    """One model with one data set and one editor."""

    setting: Setting
    source: str
    model: EditableModel
    data: str
    editor: str

    @property
    def name(self) -> str:
        """For reports; data set and editor only where there are several."""
        parts = [self.source]
        parts += [self.data] if len(self.setting.data) > 1 else []
        parts += [self.editor] if len(self.setting.editors) > 1 else []
        return ", ".join(parts)

    @cached_property
    def usable(self) -> list[int]:
        """Places of the requests that can be edited."""
        edits = self.setting.data[self.data]
        return [i for i, request in enumerate(edits) if request.subject_span is not None]

    @cached_property
    def split(self) -> Split:
        """Proxy and test part; indices are places in the data set as loaded."""
        edits, asked = self.setting.data[self.data], self.setting
        if len(self.usable) < asked.proxy + asked.test:
            raise DataError(
                f"{self.data}: {len(self.usable)} of {len(edits)} requests have their subject in "
                f"their prompt; expected at least {asked.proxy} proxy and {asked.test} test facts"
            )
        parts = split([edits[i] for i in self.usable], asked.proxy, asked.seed)
        test = parts.test_indices[: asked.test]
        return replace(
            parts,
            test=parts.test[: asked.test],
            proxy_indices=tuple(self.usable[i] for i in parts.proxy_indices),
            test_indices=tuple(self.usable[i] for i in test),
        )

    def sweep(self) -> Sweep:
        """Proxy and test facts at every layer; made by `run`, or now."""
        sweeping = self.sweeping()
        for start in sweeping.missing():
            sweeping.add(start, sweeping.at(start))
        return sweeping.result()

    def parts(self) -> tuple[Sweep, Sweep]:
        """That sweep's proxy and test facts."""
        sweep = self.sweep()
        proxy, test = ([r.case_id for r in part] for part in self.split)
        return sweep.of(proxy), sweep.of(test)

    def sweeping(self) -> Sweeping:
        """That sweep as far as its file has it."""
        return self.part(self.split.proxy + self.split.test, "")

    def part(self, requests: list[EditRequest], name: str, **options: Any) -> Sweeping:
        """A sweep of some requests, kept under a name of its own."""
        asked = self.setting
        return Sweeping(
            self.model,
            requests,
            self.editor,
            None,
            asked.metrics,
            out=self.file("sweeps", name, "npz"),
            chunk=asked.chunk,
            preset=asked.preset,
            config=asked.config,
            **options,
        )

    def file(self, folder: str, name: str, suffix: str) -> Path:
        """Where something of this trial is kept."""
        stem = "-".join(filter(None, (self.source, self.data, self.editor, name)))
        return self.setting.out / folder / f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', stem)}.{suffix}"

    def provenance(self) -> dict[str, Any]:
        """Which facts took part, and where it ran."""
        edits = self.setting.data[self.data]
        return {
            "model": self.source,
            "data": self.data,
            "editor": self.editor,
            "provenance": provenance.of(self.model),
            "proxy_indices": self.split.proxy_indices,
            "test_indices": self.split.test_indices,
            "without_subject": len(edits) - len(self.usable),
        }


def by_model(trials: Sequence[Trial]) -> dict[str, dict[str, Trial]]:
    """Trials by data set, of each model and editor; the latter is named where there are several."""
    found: dict[str, dict[str, Trial]] = {}
    for trial in trials:
        several = len(trial.setting.editors) > 1
        name = f"{trial.source}, {trial.editor}" if several else trial.source
        found.setdefault(name, {})[trial.data] = trial
    return found


def run(setting: Setting, show_progress: bool | None = None) -> list[Trial]:
    """Make all sweeps of a setting, or go on with them; the trials.

    With several jobs the chunks of all trials are shared out.
    """
    trials = setting.trials()
    sweeps = [trial.sweeping() for trial in trials]
    tasks = [(at, start) for at, one in enumerate(sweeps) for start in one.missing()]
    total = sum(len(one.requests) for one in sweeps)
    with progress.bar("sweeping facts", total, show_progress) as advance:
        advance(sum(one.done() for one in sweeps))
        for at, start, found in _found(setting, sweeps, tasks):
            advance(sweeps[at].add(start, found))
    return trials


def _found(
    setting: Setting, sweeps: list[Sweeping], tasks: list[tuple[int, int]]
) -> Iterator[tuple[int, int, Chunk]]:
    """The number of a sweep, a chunk of it, and what was found, as they come."""
    if setting.jobs == 1 or not tasks:
        for at, start in tasks:
            yield at, start, sweeps[at].at(start)
        return
    threads = max(1, torch.get_num_threads() // setting.jobs)
    pool = ProcessPoolExecutor(setting.jobs, get_context("spawn"), _start, (setting, threads))
    try:
        futures = {pool.submit(_at, *task): task for task in tasks}
        for future in as_completed(futures):
            yield *futures[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)


_sweeps: list[Sweeping] = []  # of a process that `_found` started


def _start(setting: Setting, threads: int) -> None:
    import transformers

    transformers.logging.disable_progress_bar()
    torch.set_num_threads(threads)
    _sweeps.extend(trial.sweeping() for trial in setting.trials())


def _at(at: int, start: int) -> Chunk:
    return _sweeps[at].at(start)
