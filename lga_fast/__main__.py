"""`python -m lga_fast` is the `lga-fast` command."""

from lga_fast.cli import main

main()
