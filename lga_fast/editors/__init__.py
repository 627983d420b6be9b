"""Editors: each member solves requests at a layer into a `WeightEdit`; the folder is the registry.

_options.py    where an editor's options come from: arguments, file, model, preset, defaults
_config.py     the file: its keys, and what they set
_layer_editor.py, _rank_one.py (ROME's), _mass.py (MEMIT's, over several layers)    members' bases
_value_solver.py, _value_problem.py    the optimised value; _contexts.py: what is put before prompts
_keys.py       keys and outputs, read again while MEMIT and its kin edit layer after layer
_outlook.py    how large a change may become and how much is written, for forecasts of edits
_moments.py, _moment_pass.py, _corpus.py    second moments of keys; _preconditioner.py solves with C
_moment_sources.py, _stored_statistics.py    where they come from; those that other code has stored
_cost_messages.py    what streamed weights will be read, logged before it happens
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, SupportsIndex

from lga_fast import registry
from lga_fast.datasets import LoadedEdits, easyedit_requests
from lga_fast.editors._config import Config, overridden
from lga_fast.editors._config import read as read_config
from lga_fast.editors._cost_messages import verbose_costs
from lga_fast.editors._layer_editor import LayerEditor, Solver
from lga_fast.editors._options import Preset, check_options, chosen_layers, resolve, window
from lga_fast.editors._outlook import outlook
from lga_fast.editors._value_solver import optimise_at
from lga_fast.errors import EditError, warn
from lga_fast.models import EditableModel, check_loaded
from lga_fast.records import EditRequest
from lga_fast.weight_edit import WeightEdit

__all__ = [
    "Config",
    "LayerEditor",
    "Preset",
    "Solver",
    "check_options",
    "chosen_layers",
    "edit",
    "edit_each",
    "outlook",
    "overridden",
    "read_config",
    "report_changes",
    "resolve",
    "solve_at",
    "validate_requests",
    "verbose_costs",
    "window",
]

_SHOWN = 5  # requests that an error names


def edit(
    model: EditableModel,
    edits: Sequence[EditRequest | dict[str, Any]],
    editor: str = "r_rome",
    *,
    layer: SupportsIndex | None = None,
    preset: Preset = "easyedit",
    config: Config | None = None,
    **options: Any,
) -> WeightEdit:
    """Solve for the change of one layer's weights that makes the model give new answers.

    Args:
        model: see `lga_fast.load`; it is left as it was.
        edits: requests, or dicts in EasyEdit's form; each needs its subject.
        editor: a member of `lga_fast.editors`, also as papers spell it: "R-ROME".
        layer: which layer to edit, e.g. a ranking; default: the one that `config` names.
        preset: whose published options apply where nothing else sets them: "easyedit", or
            "original", the code of the method's authors, which e.g. weighs keys by their second
            moment in ROME. The contexts are EasyEdit's in both.
        config: options from a YAML or JSON file or a mapping, under the names of the fields or
            EasyEdit's; its hparams files work unchanged.
        options: the fields of that member's `Editor`. They override `config`, which overrides what
            the model itself recommends (`model.editing`), the preset, and the fields' defaults.

    Returns:
        The change. Its provenance has the `config` with every field, in `config_source` where each
        came from, in `config_report` which keys of `config` were unknown or not needed, and why,
        and in `notes` what else is worth knowing.

    Raises:
        UnknownName: no such editor or preset, or the editor has no such option.
        DataError: the config cannot be read.
        EditError: an option has the wrong type or is out of its limits, the config asks for
            something unsupported, or a request or the layer cannot be edited.
        NoLayer: neither `layer` nor `config` names one; everything else is valid.

    Warns:
        LgaFastWarning: once for unknown keys of the config, once if requests contradict each other,
            and once per note (the model answers so already, the subject is in the prompt twice,
            ...).

    Example:
        >>> change = edit(model, facts, "rome", layer=3)
        >>> with model.edited(change):
        ...     ...
        >>> edit(model, facts, "rome", config="EasyEdit/hparams/ROME/gpt2-xl.yaml", steps=10)
    """
    check_loaded(model)
    editor = registry.canonical(__name__, editor)
    requests = validate_requests(edits, editor, together=True)
    layer_editor, layer, about = resolve(model, editor, layer, preset, config, options)
    (change,) = report_changes([layer_editor.solve(model, requests, layer)], about)
    return change


def edit_each(
    model: EditableModel,
    edits: Sequence[EditRequest | dict[str, Any]],
    editor: str = "r_rome",
    *,
    layer: SupportsIndex | None = None,
    preset: Preset = "easyedit",
    config: Config | None = None,
    **options: Any,
) -> list[WeightEdit]:
    """One edit for each request, as `edit` gives it for that request alone, but all at once.

    Much faster than one after another, since the requests' optimisations share their forwards. The
    edits are independent of each other, all of the model as it is. Arguments, errors and warnings
    are those of `edit`.
    """
    check_loaded(model)
    editor = registry.canonical(__name__, editor)
    requests = validate_requests(edits, editor)
    layer_editor, layer, about = resolve(model, editor, layer, preset, config, options)
    return report_changes(layer_editor.solve_each(model, requests, layer), about)


def solve_at(
    solvers: Mapping[int, Solver], requests: Sequence[EditRequest]
) -> dict[int, list[WeightEdit]]:
    """One edit for each request at each layer, each as if it were alone.

    Faster than layer after layer: the unedited model runs once for all of them.

    Args:
        solvers: of one editor on one model, by layer.
        requests: each with its subject's span.
    """
    one = next(iter(solvers.values()))
    values = optimise_at(
        one.model, list(solvers), requests, one.contexts, one.optimisation, sites=one.sites
    )
    return {
        layer: solver.solve_independent(requests, values[layer])
        for layer, solver in solvers.items()
    }


def validate_requests(
    edits: Sequence[EditRequest | dict[str, Any]], editor: str, together: bool = False
) -> LoadedEdits:
    """The requests, all of which have what `editor` needs.

    Args:
        edits: see `edit`.
        editor: what needs it.
        together: one edit is to satisfy them all.

    Raises:
        DataError: one has not the form of a request.
        EditError: there is none, or one has no subject in its prompt.

    Warns:
        LgaFastWarning: they are edited together, and some contradict each other.
    """
    requests = easyedit_requests(edits)
    if not requests:
        raise EditError("edit: expected at least one request, got none")
    if together and (against := _contradictions(requests)):
        more = f"; and {len(against) - _SHOWN} more" if len(against) > _SHOWN else ""
        warn(
            f"{len(against)} of {len(requests)} requests contradict an earlier one, and one edit "
            f"cannot satisfy both: {'; '.join(against[:_SHOWN])}{more}. Leave one of each out."
        )
    without = [request for request in requests if request.subject_span is None]
    if without:
        examples = [
            f"request {r.case_id!r}: the subject {r.subject!r} is not in the prompt {r.prompt!r}"
            for r in without[:_SHOWN]
        ]
        more = f"; and {len(without) - _SHOWN} more" if len(without) > _SHOWN else ""
        raise EditError(
            f"{editor} edits at the subject's last token, which {len(without)} of {len(requests)} "
            f"requests do not have: {'; '.join(examples)}{more}. Correct them or leave them out."
        )
    return requests


def _contradictions(requests: Sequence[EditRequest]) -> list[str]:
    """One sentence for each request whose prompt an earlier one wants to answer otherwise.

    Prompts and answers are compared without regard to case and white space. Composite edits add an
    answer to others, so that they do not contradict each other.
    """
    first: dict[str, EditRequest] = {}
    sentences = []
    for request in requests:
        if request.kind == "composite":
            continue
        earlier = first.setdefault(_bare(request.prompt), request)
        if _bare(earlier.target_new) != _bare(request.target_new):
            sentences.append(
                f"{earlier.case_id!r} wants {earlier.target_new!r} and {request.case_id!r} wants "
                f"{request.target_new!r} for {request.prompt!r}"
            )
    return sentences


def _bare(text: str) -> str:
    return " ".join(text.split()).casefold()


def report_changes(changes: Sequence[WeightEdit], about: dict[str, Any]) -> list[WeightEdit]:
    """The changes with the provenance of their options; their notes are raised as warnings."""
    for note in dict.fromkeys(note for c in changes for note in c.provenance["notes"]):
        warn(note)
    return [replace(c, provenance=c.provenance | about) for c in changes]
