"""Turns CUDA C++ into C++ that runs on the emulator: launches and `__shared__` variables.

All else that CUDA adds to the language are macros and functions of `emulator/`.
"""

from __future__ import annotations

import re

_SHARED = re.compile(
    r"__shared__\s+(?P<type>[\w:]+(?:<[^;]*>)?)\s+(?P<name>\w+)(?P<extents>(?:\[[^;\]]+\])*);"
)
_OPENING = {">": "<", ")": "("}


def rewrite(source: str, name: str) -> str:
    """The file as C++, line for line. `name` is what messages call it."""
    code = source.replace("(lga_fast, CUDA, m)", "(lga_fast, CPU, m)")
    code = _SHARED.sub(_shared_variable, code)
    while "<<<" in code:
        code = _rewrite_launch(code, name)
    if "__shared__" in code:
        raise ValueError(f"{name}: expected `__shared__ type name[extents];` and no other form")
    return f'#line 1 "{name}"\n{code}'


def _shared_variable(match: re.Match[str]) -> str:
    variable, type_ = match["name"], match["type"] + match["extents"]
    return (
        f"static const char {variable}_key = 0; "
        f"auto& {variable} = emu::shared<{type_}>(&{variable}_key);"
    )


def _rewrite_launch(code: str, name: str) -> str:
    """Turns the first `kernel<<<grid, block, shared, stream>>>(arguments)` into a call."""
    at = code.index("<<<")
    where = f"{name}:{code.count(chr(10), 0, at) + 1}"
    end = len(code[:at].rstrip())
    start = _opening(code, end - 1) if code[end - 1] == ">" else end
    start = re.search(r"[\w:]+$", code[:start]).start()
    kernel = code[start:at]
    close = code.index(">>>", at)
    configuration = code[at + 3 : close]
    if _top_level_commas(configuration) != 3:
        raise ValueError(f"{where}: expected <<<grid, block, shared bytes, stream>>>")
    opening = code.index("(", close)
    closing = _closing(code, opening)
    arguments = code[opening + 1 : closing]
    separator = "," if arguments.strip() else ""
    called = re.match(r"[\w:]+", kernel)[0]
    call = f'emu::launch("{called}", {kernel}, {configuration}{separator}{arguments})'
    return code[:start] + call + code[closing + 1 :]


def _opening(code: str, close: int) -> int:
    """Where the bracket opens that closes at `close`."""
    depth, opening = 0, _OPENING[code[close]]
    for i in range(close, -1, -1):
        depth += (code[i] == code[close]) - (code[i] == opening)
        if depth == 0:
            return i
    raise ValueError("unbalanced brackets")


def _closing(code: str, opening: int) -> int:
    depth = 0
    for i in range(opening, len(code)):
        depth += (code[i] == "(") - (code[i] == ")")
        if depth == 0:
            return i
    raise ValueError("unbalanced brackets")


def _top_level_commas(code: str) -> int:
    depth = count = 0
    for character in code:
        depth += (character in "(<[{") - (character in ")>]}")
        count += character == "," and depth == 0
    return count
