"""A ranking as a figure: scores with fences, and how stable the choice is."""

from __future__ import annotations

from pathlib import Path

from lga_fast import extras
from lga_fast.files import replacing
from lga_fast.records import LayerRanking

# Okabe and Ito's palette, for colour-blind readers; hatching repeats what colour says.
_CHOSEN, _KEPT, _FENCE = "#009E73", "#56B4E9", "#D55E00"


def write(ranking: LayerRanking, *paths: Path) -> None:
    """Draw the ranking once and save it to each path, in the format its suffix names.

    Raises:
        LgaFastError: matplotlib is not installed.
    """
    extras.need("a figure of a ranking", ["matplotlib"], "plot")
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "lga_fast"  # the same figure gives the same bytes
    import matplotlib.pyplot as plt

    layers = range(len(ranking.scores))
    figure, (top, low) = plt.subplots(
        2, 1, sharex=True, figsize=(max(6.0, 0.22 * len(layers)), 5), height_ratios=[3, 1]
    )
    colours = [_CHOSEN if layer == ranking.layer else _KEPT for layer in layers]
    bars = top.bar(layers, ranking.scores, color=colours, edgecolor="black", linewidth=0.5)
    limits = _limits(ranking)
    for layer in ranking.excluded:
        bars[layer].set(hatch="///", facecolor="white")
        score = ranking.scores[layer]
        if not limits[0] <= score <= limits[1]:
            at = limits[1] if score > 0 else limits[0]
            side = "top" if score > 0 else "bottom"
            top.text(
                layer, at, f"{score:.3g}", ha="center", va=side, fontsize=8, backgroundcolor="w"
            )
    bars[ranking.layer].set_label(f"golden layer {ranking.layer}")
    if ranking.excluded:
        bars[ranking.excluded[0]].set_label("excluded")
    if ranking.fences:
        for i, fence in enumerate(ranking.fences):
            label = "Tukey's fences" if i == 0 else None
            top.axhline(fence, color=_FENCE, linestyle="--", linewidth=1, label=label)
    top.axhline(0, color="black", linewidth=0.8)
    top.set_ylim(limits)
    top.set_ylabel(ranking.score_label)
    top.set_title(
        f"{ranking.selector} on {ranking.provenance['model']}, {ranking.requests} proxy facts"
    )
    top.legend(fontsize=8, loc="best")
    low.bar(layers, [100 * s for s in ranking.stability or [0.0] * len(layers)], color=colours)
    low.set_ylabel("resamples [%]")
    low.set_ylim(0, 100)
    low.set_xlabel("layer")
    low.set_xticks([layer for layer in layers if len(layers) <= 24 or layer % 4 == 0])
    figure.tight_layout()
    for path in paths:
        plain = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=150, metadata=plain)
    plt.close(figure)


def _limits(ranking: LayerRanking) -> tuple[float, float]:
    """Range that shows the kept layers well; layers far outside it are cut and labelled."""
    shown = [0.0, *(ranking.scores[layer] for layer in ranking.order), *(ranking.fences or ())]
    margin = 0.12 * (max(shown) - min(shown) or 1.0)
    return min(shown) - margin, max(shown) + margin
