"""How part of a model runs: by blocks, from a token on, in lockstep, under a change."""
