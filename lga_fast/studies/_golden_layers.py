"""Golden layers of sweeps: by value, on proxy and test facts, and over several data sets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from lga_fast.metrics import choose
from lga_fast.studies import _t_tests
from lga_fast.sweep import statistics
from lga_fast.sweep.result import Sweep


def headlines(values: Mapping[str, np.ndarray], metrics: Sequence[str]) -> list[str]:
    """Headline values of these metrics that any sample has."""
    names = [name for metric in choose(metrics).values() for name in metric.headline]
    return [name for name in names if name in values and np.isfinite(values[name]).any()]


def best(means: Float[np.ndarray, " layer"], layers: Sequence[int]) -> list[int]:
    """All layers of the largest mean; the first of them is the golden one."""
    return [layers[i] for i in np.flatnonzero(means == np.nanmax(means)).tolist()]


def moments(values: Float[np.ndarray, "sample layer"]) -> dict[str, Any]:
    """Mean, standard deviation (n - 1) and standard error of each layer."""
    count = np.isfinite(values).sum(0)
    mean = statistics.mean(values)
    square = np.where(np.isfinite(values), (values - mean) ** 2, 0).sum(0)
    sd = np.sqrt(square / np.maximum(count - 1, 1))
    return {"mean": mean, "sd": sd, "sem": sd / np.sqrt(np.maximum(count, 1)), "count": count[0]}


def by_value(proxy: Sweep, test: Sweep, names: Sequence[str]) -> dict[str, Any]:
    """For each value: means by layer on both parts, and what either part's golden layer does."""
    results = {}
    for name in names:
        parts = {"proxy": moments(value(proxy, name)), "test": moments(value(test, name))}
        chosen = {part: best(m["mean"], test.layers) for part, m in parts.items()}
        at = {part: test.layers.index(layers[0]) for part, layers in chosen.items()}
        results[name] = {
            **parts,
            "golden": chosen,
            "on_test": {part: parts["test"]["mean"][place] for part, place in at.items()},
        }
    return results


def value(sweep: Sweep, name: str) -> Float[np.ndarray, "sample layer"]:
    """A value of a sweep, or the combined score."""
    return statistics.combined(sweep.acc) if name == "combined" else sweep.values(name)


def existence(
    values: Float[np.ndarray, "sample layer"], layers: Sequence[int], golden: Mapping[str, int]
) -> dict[str, Any]:
    """The best layer of every sample against one layer for all, with t-tests.

    Args:
        values: on test facts.
        layers: of the second axis.
        golden: layers by the part that chose them.
    """
    best_of_each = np.nanmax(values, axis=1)
    results: dict[str, Any] = {"best_of_each": of_samples(best_of_each)}
    for source, layer in golden.items():
        at_layer = values[:, layers.index(layer)]
        tests = {
            test.__name__: test(best_of_each, at_layer).to_json()
            for test in (_t_tests.independent, _t_tests.paired)
        }
        results[source] = of_samples(at_layer) | {"layer": layer, "tests": tests}
    return results


def of_samples(values: Float[np.ndarray, " sample"]) -> dict[str, float]:
    """Mean, standard deviation (n - 1) and standard error over the samples that have a value."""
    finite = values[np.isfinite(values)]
    sd = float(finite.std(ddof=1)) if len(finite) > 1 else 0.0
    sem = sd / math.sqrt(len(finite))
    return {"mean": float(finite.mean()), "sd": sd, "sem": sem, "count": len(finite)}


def union(parts: Mapping[str, tuple[Sweep, Sweep]], name: str) -> dict[str, Any]:
    """Golden layers over the proxy facts of several data sets of one model.

    Args:
        parts: by data set, the sweeps of proxy and test facts, over the same layers.
        name: of the value.

    Returns:
        Golden layers of the union of the proxy facts, where large data sets count more, and of the
        mean over data sets; each data set's own; and how far each layer's mean is below the best
        of its row.
    """
    layers = next(iter(parts.values()))[0].layers
    proxies = {data: value(proxy, name) for data, (proxy, _) in parts.items()}
    rows: dict[str, np.ndarray] = {}
    for data, (_, test) in parts.items():
        rows |= {f"{data}, proxy": statistics.mean(proxies[data])}
        rows |= {f"{data}, test": statistics.mean(value(test, name))}
    together = statistics.mean(np.concatenate(list(proxies.values())))
    macro = np.round(np.mean([statistics.mean(values) for values in proxies.values()], axis=0), 12)
    if len(parts) > 1:
        rows |= {"union of proxies": together}
    return {
        "layers": list(layers),
        "golden_union": best(together, layers),
        "golden_macro": best(macro, layers),
        "golden": {row: best(mean, layers) for row, mean in rows.items()},
        "distance": {row: np.nanmax(mean) - mean for row, mean in rows.items()},
    }
