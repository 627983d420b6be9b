"""What studies run on: models, data sets and editors, with sweeps that are made once."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from lga_fast import editors, progress, provenance
from lga_fast.datasets import LoadedEdits, Split, split
from lga_fast.errors import DataError, LgaFastWarning
from lga_fast.loading import load
from lga_fast.metrics import choose
from lga_fast.models import EditableModel
from lga_fast.options import SEEDS, Options, option
from lga_fast.records import EditRequest
from lga_fast.sweep.result import Sweep
from lga_fast.sweep.sweep_run import CHUNK, Chunk, SweepOptions, SweepRun

METRICS = ("rewrite", "rephrase", "locality", "portability")


@dataclass(frozen=True)
class Setting(Options):
    """What a study is to run on; it can be handed to another process.

    Requests without a subject in their prompt take no part. The others are split with `seed`; the
    first `test` of the test part are used.
    """

    out: Path  # its folder `sweeps` has the sweeps, from which a run resumes
    data: dict[str, LoadedEdits]  # by the name that the report shows
    models: tuple[str, ...] = option(("atlas", "atlas-llama"), "Models, for `lga_fast.load`.")
    editors: tuple[str, ...] = option(("r_rome",), "Editors.", member="lga_fast.editors")
    proxy: int = option(20, "Number of facts that layers are chosen on.", min=1)
    test: int = option(60, "Number of facts that layers are measured on.", min=1)
    seed: int = option(42, "Seed of all that is random.", **SEEDS)
    metrics: tuple[str, ...] = option(METRICS, "What to measure.", member="lga_fast.metrics")
    preset: editors.Preset = option("easyedit", "Source of the editor's default options.")
    config: str | Mapping | None = option(
        None, "YAML or JSON file of the editor's options.", path=True
    )
    device: str | None = option(None, "Where models go.")
    dtype: str | None = option(None, "Type of the weights.")
    chunk: int = option(CHUNK, "Number of facts edited and measured together.", min=1)
    jobs: int = option(1, "Number of processes that sweep, sharing the threads.", min=1)

    def __post_init__(self) -> None:
        """Refuse unfit metrics, and a config that an editor cannot follow, as well."""
        super().__post_init__()
        if "rewrite" not in self.metrics:
            raise DataError(
                f"metrics={','.join(self.metrics)}: expected rewrite among them, because layers "
                "are compared by it"
            )
        choose(self.metrics)
        for editor in self.editors:
            editors.check_options(editor, 0, self.config, {})  # every layer is edited

    def trials(self) -> list[Trial]:
        """Every model with every data set and editor; the models are held together.

        Raises:
            DataError: a data set has too few facts; this is before a model is loaded.
        """
        for data in self.data:
            self.split(data)
        return [
            Trial(self, source, model, data, editor)
            for source in self.models
            for model in [load(source, device=self.device, dtype=self.dtype)]
            for data in self.data
            for editor in self.editors
        ]

    def usable(self, data: str) -> list[int]:
        """Places of a data set's requests that can be edited."""
        return [i for i, fact in enumerate(self.data[data]) if fact.subject_span is not None]

    def split(self, data: str) -> Split:
        """Proxy and test part of a data set; indices are places in it as loaded."""
        edits, usable = self.data[data], self.usable(data)
        if len(usable) < self.proxy + self.test:
            raise DataError(
                f"{data}: {len(usable)} of {len(edits)} requests have their subject in their "
                f"prompt; expected at least {self.proxy} proxy and {self.test} test facts"
            )
        parts = split([edits[i] for i in usable], self.proxy, self.seed)
        return replace(
            parts,
            test=parts.test[: self.test],
            proxy_indices=tuple(usable[i] for i in parts.proxy_indices),
            test_indices=tuple(usable[i] for i in parts.test_indices[: self.test]),
        )

    def provenance(self) -> dict[str, Any]:
        """What is needed to repeat a study."""
        options = {name: value for name, value in vars(self).items() if name not in ("out", "data")}
        data = {
            name: asdict(edits.provenance) | {"records": len(edits)}
            for name, edits in self.data.items()
        }
        return provenance.environment() | {"setting": options, "data": data}


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
        """For reports; with data set and editor only where there are several."""
        parts = [self.source]
        parts += [self.data] if len(self.setting.data) > 1 else []
        parts += [self.editor] if len(self.setting.editors) > 1 else []
        return ", ".join(parts)

    @cached_property
    def split(self) -> Split:
        """The data set's."""
        return self.setting.split(self.data)

    def sweep(self) -> Sweep:
        """Proxy and test facts at every layer; what `run_sweeps` has not made is made now."""
        run = self.whole_run()
        for start in run.missing():
            run.add(start, run.edit_chunk(start))
        return run.result()

    def parts(self) -> tuple[Sweep, Sweep]:
        """That sweep's proxy and test facts."""
        sweep = self.sweep()
        proxy, test = ([r.case_id for r in part] for part in self.split)
        return sweep.of(proxy), sweep.of(test)

    def whole_run(self) -> SweepRun:
        """The run of that sweep, as far as its file has it."""
        return self.sweep_run(self.split.proxy + self.split.test, "")

    def sweep_run(self, requests: Sequence[EditRequest], name: str, **options: Any) -> SweepRun:
        """A sweep of some requests, kept in a file of its own name; options: of the editor."""
        setting = self.setting
        return SweepRun(
            self.model,
            requests,
            SweepOptions(self.editor, None, setting.metrics, setting.preset, setting.chunk),
            out=self.file("sweeps", name, "npz"),
            config=setting.config,
            **options,
        )

    def file(self, folder: str, name: str, suffix: str) -> Path:
        """The file in which something of this trial is kept."""
        stem = "-".join(filter(None, (self.source, self.data, self.editor, name)))
        return self.setting.out / folder / f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', stem)}.{suffix}"

    def provenance(self) -> dict[str, Any]:
        """Which facts took part, how they were edited, and where it ran."""
        edits, setting = self.setting.data[self.data], self.setting
        layer = min(self.model.editable_layers, default=0)  # options are the same at each
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LgaFastWarning)  # the run itself has raised it
            _, _, about = editors.resolve(
                self.model, self.editor, layer, setting.preset, setting.config, {}
            )
        return {
            "model": self.source,
            "data": self.data,
            "editor": self.editor,
            "editor_config": about["config"],
            "editor_config_source": about["config_source"],
            "provenance": provenance.of(self.model),
            "proxy_indices": self.split.proxy_indices,
            "test_indices": self.split.test_indices,
            "without_subject": len(edits) - len(self.setting.usable(self.data)),
        }


def by_model(trials: Sequence[Trial]) -> dict[str, dict[str, Trial]]:
    """Trials by data set, for each model and editor; the latter is named if there are several."""
    grouped: dict[str, dict[str, Trial]] = {}
    for trial in trials:
        several = len(trial.setting.editors) > 1
        name = f"{trial.source}, {trial.editor}" if several else trial.source
        grouped.setdefault(name, {})[trial.data] = trial
    return grouped


def run_sweeps(setting: Setting, show_progress: bool | None = None) -> list[Trial]:
    """Make or resume all sweeps of a setting; returns its trials.

    With several jobs the chunks of all trials are shared out.
    """
    trials = setting.trials()
    runs = [trial.whole_run() for trial in trials]
    tasks = [(number, start) for number, run in enumerate(runs) for start in run.missing()]
    total = sum(len(run.requests) for run in runs)
    with progress.bar("sweeping facts", total, show_progress) as advance:
        advance(sum(run.finished() for run in runs))
        for number, start, chunk in _edited(setting, runs, tasks):
            advance(runs[number].add(start, chunk))
    return trials


def _edited(
    setting: Setting, runs: list[SweepRun], tasks: list[tuple[int, int]]
) -> Iterator[tuple[int, int, Chunk]]:
    """The number of a run, the start of a chunk, and the chunk, in order of completion."""
    if setting.jobs == 1 or not tasks:
        for number, start in tasks:
            yield number, start, runs[number].edit_chunk(start)
        return
    threads = max(1, torch.get_num_threads() // setting.jobs)
    pool = ProcessPoolExecutor(setting.jobs, get_context("spawn"), _start, (setting, threads))
    try:
        futures = {pool.submit(_edit_chunk, *task): task for task in tasks}
        for future in as_completed(futures):
            yield *futures[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)


_runs: list[SweepRun] = []  # of a process that `_edited` started


def _start(setting: Setting, threads: int) -> None:
    import transformers

    transformers.logging.disable_progress_bar()
    torch.set_num_threads(threads)
    _runs.extend(trial.whole_run() for trial in setting.trials())


def _edit_chunk(number: int, start: int) -> Chunk:
    return _runs[number].edit_chunk(start)
