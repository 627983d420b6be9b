"""Going back through a graph more than once."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def backward(
    output: Tensor, gradients: Sequence[Tensor], leaf: Tensor | None = None
) -> list[Tensor]:
    """Send these gradients back from `output`, each on its own; the graph is gone afterwards.

    Returns:
        The gradients that arrive at `leaf`, where there is one.
    """
    found = []
    for i, gradient in enumerate(gradients):
        output.backward(gradient, retain_graph=i + 1 < len(gradients))
        if leaf is not None:
            assert leaf.grad is not None
            found.append(leaf.grad)
            leaf.grad = None
    return found
