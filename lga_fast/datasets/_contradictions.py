"""Requests that no single edit can satisfy together."""

from __future__ import annotations

from collections.abc import Sequence

from lga_fast.records import EditRequest


def contradictions(requests: Sequence[EditRequest]) -> list[str]:
    """One sentence for each request whose prompt an earlier one wants to answer otherwise.

    Prompts and answers are compared without regard to case and white space. Composite edits add an
    answer to others, so that they do not contradict each other.

    Example:
        >>> peru, chad = EditRequest("a", "In", "Peru"), EditRequest("b", "In", "Chad")
        >>> contradictions([peru, chad])
        ["'a' wants 'Peru' and 'b' wants 'Chad' for 'In'"]
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
