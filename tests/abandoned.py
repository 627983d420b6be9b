"""What a process that was killed while it wrote a file left beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_CODE = "import sys; from pathlib import Path; from lga_fast import files; {}"


def killed_while_writing(path: Path) -> Path:
    """The unfinished file of a process that has ended; nothing is in it or there yet."""
    code = _CODE.format("print(files.unfinished(Path(sys.argv[1])))")
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Path(done.stdout.rstrip("\n"))
