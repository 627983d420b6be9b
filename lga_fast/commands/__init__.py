"""Commands: each member's `command()` builds its options, and `_run_NAME.py` does its work.

A member imports neither torch nor its `_run_NAME` until the command runs, so that help and shell
completion are instant. The first line of its docstring is its one-line help.
"""
