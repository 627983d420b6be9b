"""Groups of the atlas's facts, which can stand in for several data sets."""

from __future__ import annotations

from dataclasses import replace

from lga_fast.atlas.relations import read_relations
from lga_fast.datasets import LoadedEdits
from lga_fast.errors import DataError
from lga_fast.records import EditRequest
from lga_fast.studies._trials import Setting

_LARGEST, _OTHERS = 3, "others"  # number of kinds with a group of their own; the rest


def data_sets(setting: Setting) -> Setting:
    """The setting itself if it has several data sets, else with groups of its only one.

    Facts are grouped by the kind of answer that the atlas's relations have, such as country. Each
    of the largest kinds is a group of its own, all others form one; groups of too few facts are
    left out.

    Raises:
        DataError: fewer than two groups have enough facts.
    """
    if len(setting.data) > 1:
        return setting
    ((name, edits),) = setting.data.items()
    least, relations = setting.proxy + setting.test, read_relations()
    by_kind: dict[str, list[EditRequest]] = {}
    for request in edits:
        if request.subject_span is not None:
            relation = relations.get(request.case_id.partition(":")[0])
            by_kind.setdefault(relation.answer_type if relation else _OTHERS, []).append(request)
    sizes = {kind: len(requests) for kind, requests in by_kind.items() if kind != _OTHERS}
    largest = sorted(sizes, key=lambda kind: (-sizes[kind], kind))[:_LARGEST]
    large = sorted(kind for kind in largest if sizes[kind] >= least)
    groups = {kind: by_kind[kind] for kind in large}
    groups[_OTHERS] = [
        r for kind, requests in by_kind.items() if kind not in large for r in requests
    ]
    usable = {kind: requests for kind, requests in groups.items() if len(requests) >= least}
    if len(usable) < 2:
        counts = ", ".join(f"{kind} {sizes[kind]}" for kind in largest)
        raise DataError(
            "transfer: expected several data sets (--data given more than once), or facts of the "
            f"atlas with two kinds of answers of {setting.proxy} proxy and {setting.test} test "
            f"facts each; the largest of {name} are: {counts or 'none'}"
        )
    return replace(
        setting,
        data={
            kind: LoadedEdits(requests, edits.report, edits.provenance)
            for kind, requests in usable.items()
        },
    )
