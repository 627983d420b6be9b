"""Editors: each member solves requests at a layer into a `WeightEdit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from lga_fast.editors._options import Config, Preset, resolve
from lga_fast.editors._value_solver import Optimisation, Value, optimise_at
from lga_fast.errors import EditError, warn
from lga_fast.forward.clean_run import Site
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest
from lga_fast.weight_edit import WeightEdit

if TYPE_CHECKING:
    from lga_fast.datasets import LoadedEdits

_SHOWN = 5  # requests that an error names


@runtime_checkable
class Solver(Protocol):
    """An editor made ready at one layer of one model.

    What its edits share (contexts, second moments, the fingerprint in their provenance) is of the
    model as it was then; the values that are solved for are of the model as it is at the call.
    """

    model: EditableModel
    contexts: tuple[str, ...]
    how: Optimisation
    sites: tuple[Site, ...]

    def solve_joint(self, requests: Sequence[EditRequest]) -> WeightEdit:
        """One edit for all requests; they follow those of earlier calls, if there were any."""
        ...

    def solve_independent(
        self, requests: Sequence[EditRequest], values: Sequence[Value] | None = None
    ) -> list[WeightEdit]:
        """One edit for each request, independent of all others; values: if they are there."""
        ...


class LayerEditor(Protocol):
    """What every member's `Editor` does; its dataclass fields are its options."""

    def prepare(self, model: EditableModel, layer: int) -> Solver:
        """What can be done before any request is known, once for many edits."""
        ...

    def solve(
        self, model: EditableModel, requests: Sequence[EditRequest], layer: int
    ) -> WeightEdit:
        """The change of weights that makes the model answer the requests; it stays as it was."""
        ...

    def solve_each(
        self, model: EditableModel, requests: Sequence[EditRequest], layer: int
    ) -> list[WeightEdit]:
        """What `solve` gives for each request alone, found for all together."""
        ...


def edit(
    model: EditableModel,
    edits: Sequence[EditRequest | dict[str, Any]],
    editor: str = "r_rome",
    *,
    layer: int | None = None,
    preset: Preset = "easyedit",
    config: Config | None = None,
    **options: Any,
) -> WeightEdit:
    """Solve for the change of one layer's weights that makes the model give new answers.

    Args:
        model: see `lga_fast.load`; it is left as it was.
        edits: requests, or dicts in EasyEdit's form; each needs its subject.
        editor: a member of `lga_fast.editors`.
        layer: which layer to edit, e.g. `int(ranking)`; default: the one that `config` names.
        preset: whose numbers hold where nothing else says any: "easyedit", or "original", the code
            of the method's authors, which e.g. weighs keys by their second moment in ROME. The
            contexts are EasyEdit's in both.
        config: options from a YAML or JSON file or a mapping, under the names of the fields or
            EasyEdit's; its hparams files are taken as they are.
        options: the fields of that member's `Editor`. They win over `config`, and that over what
            the model itself recommends (`model.editing`), the preset, and the fields' defaults.

    Returns:
        The change. Its provenance has the `config` with every field, in `config_source` where each
        came from, and in `config_report` what of `config` was unknown or not needed, and why.

    Raises:
        UnknownName: no such editor or preset, or the editor has no such option.
        DataError: the config cannot be read.
        EditError: an option has the wrong type or is out of its limits, the config asks for what
            is not built, or a request or the layer cannot be edited.
        NoLayer: neither `layer` nor `config` says one; all else was found to be right.

    Warns:
        LgaFastWarning: the config has keys that nothing knows, or there is something to know of a
            request (the model answers so already, its subject is in the prompt twice, ...).

    Example:
        >>> change = edit(model, facts, "rome", layer=3)
        >>> with model.edited(change):
        ...     ...
        >>> edit(model, facts, "rome", config="EasyEdit/hparams/ROME/gpt2-xl.yaml", steps=10)
    """
    requests = checked(edits, editor)
    chosen, layer, about = resolve(model, editor, layer, preset, config, options)
    return _finished(chosen.solve(model, requests, layer), about)


def edit_each(
    model: EditableModel,
    edits: Sequence[EditRequest | dict[str, Any]],
    editor: str = "r_rome",
    *,
    layer: int | None = None,
    preset: Preset = "easyedit",
    config: Config | None = None,
    **options: Any,
) -> list[WeightEdit]:
    """One edit for each request, as `edit` gives it for that request alone, but all at once.

    Much faster than one after another, since the requests' optimisations share their forwards; the
    edits are independent of each other, all of the model as it is. Arguments and errors are those
    of `edit`.
    """
    requests = checked(edits, editor)
    chosen, layer, about = resolve(model, editor, layer, preset, config, options)
    return [_finished(change, about) for change in chosen.solve_each(model, requests, layer)]


def solve_at(
    solvers: Mapping[int, Solver], requests: Sequence[EditRequest]
) -> dict[int, list[WeightEdit]]:
    """One edit for each request at each layer, each as if it were alone.

    The unedited model runs once for all layers, if memory allows, so that this is faster than
    layer after layer.

    Args:
        solvers: of one editor on one model, by layer.
        requests: the facts, each with its subject's place.
    """
    one = next(iter(solvers.values()))
    values = optimise_at(one.model, list(solvers), requests, one.contexts, one.how, sites=one.sites)
    return {
        layer: solver.solve_independent(requests, values[layer])
        for layer, solver in solvers.items()
    }


def checked(edits: Sequence[EditRequest | dict[str, Any]], editor: str) -> LoadedEdits:
    """The requests, if `editor` can take them all; errors as of `edit`."""
    from lga_fast.datasets import easyedit_requests

    requests = easyedit_requests(edits)
    if not requests:
        raise EditError("edit: expected at least one request, got none")
    without = [request for request in requests if request.subject_span is None]
    if without:
        shown = [
            f"request {r.case_id!r}: the subject {r.subject!r} is not in the prompt {r.prompt!r}"
            for r in without[:_SHOWN]
        ]
        more = f"; and {len(without) - _SHOWN} more" if len(without) > _SHOWN else ""
        raise EditError(
            f"{editor} edits at the subject's last token, which {len(without)} of {len(requests)} "
            f"requests do not have: {'; '.join(shown)}{more}. Correct them or leave them out."
        )
    return requests


def _finished(change: WeightEdit, about: dict[str, Any]) -> WeightEdit:
    for note in change.provenance["notes"]:
        warn(note)
    return replace(change, provenance=change.provenance | about)
