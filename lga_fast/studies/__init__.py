"""Studies: each member is one experiment of the paper, made of sweeps and rankings.

- `golden`, `compare`, `transfer`, `sequential`, `runtime`: the experiments (base: `_experiment`)
- `_trials`: models, data sets and editors to run on, and their sweeps; `_groups`: of one data set
- `_choices`, `_measured_facts`: what every selector chooses on a trial's proxy facts
- `_golden_layers`, `_t_tests`: reductions of sweeps; `_paper`: the paper's own numbers
- `_report`: JSON, Markdown, HTML, figures
"""

from __future__ import annotations

from typing import Any

from lga_fast import extras, files, registry
from lga_fast.studies._experiment import Experiment
from lga_fast.studies._report import Report
from lga_fast.studies._trials import METRICS, Setting, run_sweeps
from lga_fast.sweep.result import Sweep
from lga_fast.sweep.run import sweep

__all__ = ["METRICS", "Experiment", "Report", "Setting", "Sweep", "run_sweeps", "study", "sweep"]


def study(name: str, setting: Setting, *, command: str = "", **options: Any) -> Report:
    """Run a study and write its report to the folder `setting.out`.

    Args:
        name: a member of `lga_fast.studies`.
        setting: what it runs on; an interrupted run resumes.
        command: the command line that asks for it, for the report's page.
        options: the fields of that member's `Study`.

    Raises:
        UnknownName: no such study, or it has no such option.
        OptionError: an option has the wrong type or is out of its limits.
        LgaFastError: a package that it needs is not installed.
        DataError: there are too few facts, or a file in `setting.out` is of another configuration.

    Example:
        >>> edits = {"atlas": lga_fast.load_edits("atlas")}
        >>> report = study("golden", Setting(Path("results"), edits, jobs=2))
        >>> print(report.markdown())
    """
    experiment: Experiment = registry.configured(__name__, name, "Study", options)
    extras.need(f"study {name}", experiment.packages, "studies")
    with files.locked(setting.out):
        report = experiment.run(setting)
        report.write(setting.out, command)
    return report
