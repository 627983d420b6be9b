"""Models whose weights do not fit in memory: read block by block from their checkpoint."""
