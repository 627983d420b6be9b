"""What every selector chooses on a trial's proxy facts."""

from __future__ import annotations

from collections.abc import Sequence

from lga_fast.scoring import score_layers
from lga_fast.scoring.options import ScoringOptions
from lga_fast.selectors import Choice, LayerSelector, shared_pass
from lga_fast.studies._measured_facts import ProxyFacts, selector_for
from lga_fast.studies._trials import Trial
from lga_fast.sweep.result import Sweep


def choices(trial: Trial, proxy: Sweep, names: Sequence[str], resamples: int) -> list[Choice]:
    """Those of selectors, and of the variants that they offer for comparison.

    Args:
        trial: whose model and proxy facts are used.
        proxy: its sweep of the proxy facts.
        names: of the selectors.
        resamples: of the proxy facts, to see how firm a choice is.
    """
    selectors = [selector_for(trial, name, resamples) for name in names]
    facts = _measured(trial, proxy, selectors, resamples)
    return [choice for selector in selectors for choice in selector.variants(facts)]


def chosen_layers(trial: Trial, proxy: Sweep, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Layers by selector, of those whose choice rests on the facts or on chance.

    Args:
        trial: whose model and proxy facts are used.
        proxy: its sweep of the proxy facts.
        names: of the selectors.
    """
    every = [selector_for(trial, name, 0) for name in names]
    selectors = [selector for selector in every if selector.rests_on != "user"]
    facts = _measured(trial, proxy, selectors, 0)
    chosen = [selector.choose(facts) for selector in selectors]
    return {choice.name: choice.layers for choice in chosen}


def _measured(
    trial: Trial, proxy: Sweep, selectors: Sequence[LayerSelector], resamples: int
) -> ProxyFacts:
    """The proxy facts, scored in one pass for all selectors."""
    options = shared_pass(selectors) or ScoringOptions()
    scores = score_layers(trial.model, trial.split.proxy, **vars(options))
    return ProxyFacts(trial, proxy, scores, resamples)
