"""What metrics that ask a request's probes share."""

from __future__ import annotations

from collections.abc import Sequence

from lga_fast.records import EditRequest, Probe, ProbeKind


def of_kind(request: EditRequest, kind: ProbeKind) -> list[Probe]:
    """The request's probes of one kind, in their order."""
    return [probe for probe in request.probes if probe.kind == kind]


def group_names(request: EditRequest, kind: ProbeKind) -> list[str]:
    """Names of what `by_group` gives for each group of the request's probes of this kind."""
    return [f"{kind}/{group}" for group in dict.fromkeys(p.group for p in of_kind(request, kind))]


def mean(values: Sequence[float]) -> float | None:
    """The arithmetic mean; None of nothing."""
    return sum(values) / len(values) if values else None


def by_group(
    name: str, probes: Sequence[Probe], shares: Sequence[float]
) -> dict[str, float | None]:
    """Each group's mean over its prompts as `name/group`, and the mean over groups as `name`."""
    groups: dict[str, list[float]] = {}
    for probe, share in zip(probes, shares, strict=True):
        groups.setdefault(probe.group, []).append(share)
    means = {f"{name}/{group}": sum(own) / len(own) for group, own in groups.items()}
    return {name: mean(list(means.values())), **means}
