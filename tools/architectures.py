"""Which causal architectures of transformers work, written as the table docs/architectures.md.

    python tools/architectures.py               # all of them; some minutes
    python tools/architectures.py llama lfm2    # these, to the terminal

Of each a small random model is loaded, scored, edited and decoded; see tests/architectures. Ends
with an error if one neither works nor is refused with a reason.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import transformers

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tests.architectures import outcomes  # noqa: E402
from tests.architectures.configs import NAMES  # noqa: E402

TABLE = ROOT / "docs" / "architectures.md"
_HEAD = """# Architectures

What becomes of each causal architecture in transformers {version}: of {count}, {works} work and \
{refused} are refused with a reason when they are loaded; {none} more cannot be tried. Written by \
`python tools/architectures.py`, of small random models in float64.

"Works" means: scores equal autograd's over all weights of a block that neither mix tokens nor \
route them; an edit at the first, the middle and the last layer of each kind gives what whole \
forwards give, and comes off bit by bit; a batch is decoded as its rows are one by one; and, where \
nothing else is said, scores, an edit and decoded answers are the same bits with weights that are \
read from their files while they are used. Experts are scored and selected, not edited. "Guessed" \
means that there is no family file, so that the model is run and checked against autograd when it \
is loaded.

| architecture | outcome | about |
| --- | --- | --- |
"""


def main(names: list[str]) -> int:
    """Try these architectures; the table is written if all are."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    rows, wrong = [], []
    for name in names or NAMES:
        try:
            outcome = outcomes.try_out(name)
            row = (name, "works" if outcome.works else "refused", outcome.about)
        except outcomes.NoModel as why:
            row = (name, "not tried", f"transformers makes no small model: {why}")
        except Exception as error:
            wrong.append(name)
            row = (name, "WRONG", f"{type(error).__name__}: {error}".replace("\n", " "))
        rows.append(row)
        print(*row, sep=" | ", flush=True)
    if not names and not wrong:
        TABLE.write_text(table(rows), "utf-8")
    return 1 if wrong else 0


def table(rows: list[tuple[str, str, str]]) -> str:
    """The file's text."""
    kinds = [kind for _, kind, _ in rows]
    head = _HEAD.format(
        version=transformers.__version__,
        count=len(rows) - kinds.count("not tried"),
        works=kinds.count("works"),
        refused=kinds.count("refused"),
        none=kinds.count("not tried"),
    )
    return head + "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
