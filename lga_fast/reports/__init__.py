"""Reports: each member shows or writes a `LayerRanking` in one form."""
