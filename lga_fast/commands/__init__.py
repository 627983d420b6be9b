"""Commands: each member has `command()`, and its docstring's first line is its one-line help."""
