"""Editing and measuring many requests: the loop, its results file, other harnesses."""
