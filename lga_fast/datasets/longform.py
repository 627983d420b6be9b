"""LEME, the long-form evaluation: ZsRE and CounterFact with essay prompts for coupled entities.

The requests and probes are those of ZsRE and CounterFact. The essay prompts and the properties that
an essay should state (`coupled_prompts_and_properties`) have no answer to compare with, and are not
read.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lga_fast.datasets import counterfact, zsre
from lga_fast.datasets._forms import load_edits_file
from lga_fast.datasets._report import LoadedEdits

_ESSAYS = frozenset({"coupled_prompts_and_properties"})


def read(path: Path) -> LoadedEdits:
    """The edits of a file of LEME; raises `DataError` if it has another form.

    Example:
        >>> read(Path("zsre_mend_eval_with_coupled_entities.json")).provenance.form
        'ZsRE'
    """
    return load_edits_file(path, "longform", FORMS)


FORMS = tuple(
    replace(form, name=name, needs=form.needs | _ESSAYS, unused=form.unused | _ESSAYS)
    for name, form in (("ZsRE", zsre.FORMS[1]), ("CounterFact", counterfact.ROME))
)
