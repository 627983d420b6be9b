"""Groups of the atlas's facts, which may stand for several data sets."""

from __future__ import annotations

from dataclasses import replace

from lga_fast.atlas.relations import read_relations
from lga_fast.datasets import LoadedEdits
from lga_fast.errors import DataError
from lga_fast.records import EditRequest
from lga_fast.studies._trials import Setting

_LARGEST, _OTHERS = 3, "others"  # kinds of answers that are groups of their own, and the rest


def data_sets(setting: Setting) -> Setting:
    """The setting itself if it has several data sets, else with groups of its only one.

    Groups are of the kinds of answers that the atlas's relations have, such as country. The largest
    kinds are groups of their own, all others are one together; a group of too few facts is left
    out.

    Raises:
        DataError: there are no two groups of enough facts.
    """
    if len(setting.data) > 1:
        return setting
    ((name, edits),) = setting.data.items()
    least, relations = setting.proxy + setting.test, read_relations()
    kinds: dict[str, list[EditRequest]] = {}
    for request in edits:
        if request.subject_span is not None:
            relation = relations.get(request.case_id.partition(":")[0])
            kinds.setdefault(relation.answer_type if relation else _OTHERS, []).append(request)
    sizes = {kind: len(few) for kind, few in kinds.items() if kind != _OTHERS}
    largest = sorted(sizes, key=lambda kind: (-sizes[kind], kind))[:_LARGEST]
    own = sorted(kind for kind in largest if sizes[kind] >= least)
    groups = {kind: kinds[kind] for kind in own}
    groups[_OTHERS] = [r for kind, few in kinds.items() if kind not in own for r in few]
    usable = {kind: few for kind, few in groups.items() if len(few) >= least}
    if len(usable) < 2:
        found = ", ".join(f"{kind} {sizes[kind]}" for kind in largest)
        raise DataError(
            "transfer: expected several data sets (--data given more than once), or facts of the "
            f"atlas with two kinds of answers of {setting.proxy} proxy and {setting.test} test "
            f"facts each; the largest of {name} are: {found or 'none'}"
        )
    return replace(
        setting,
        data={
            kind: LoadedEdits(few, edits.report, edits.provenance) for kind, few in usable.items()
        },
    )
