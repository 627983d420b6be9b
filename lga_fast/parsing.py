"""What comes from outside, as text or as a path: read, or refused in one sentence."""

from __future__ import annotations

import json
import os
import re
import reprlib
from pathlib import Path
from typing import Any

import yaml

from lga_fast.errors import DataError, shortened

_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")  # may be half of a pair that is one character
_DEEPEST = 100  # lists and mappings inside each other, in YAML
_MAX_NAME = 255  # bytes that file systems take


def parse_json(text: str, **hooks: Any) -> Any:
    """The value of a JSON text; `hooks` as of `json.loads`.

    Raises:
        ValueError: it is none, is nested too deeply, or has half a surrogate pair.
    """
    try:
        data = json.loads(text, **hooks)
        if _HALF_PAIR.search(text):
            json.dumps(data, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError as error:
        raise ValueError(f"{error.object[error.start]!r} is half a surrogate pair") from None
    return data


def of_type(data: Any, kind: type, name: str) -> Any:
    """`data`, which must be of this type.

    Raises:
        TypeError: it is of another one.
    """
    if not isinstance(data, kind):
        raise TypeError(f"{name}: expected a {kind.__name__}, got a {type(data).__name__}")
    return data


def parse_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        ValueError: it is none, is nested too deeply, has half a surrogate pair, or aliases, which
            may stand for more than fits into memory.
    """
    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("it has aliases (*name); write out what they stand for")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:  # here, because what reads it takes quadratic time
                raise ValueError("it is nested too deeply")
        data = yaml.safe_load(text)
        if _HALF_PAIR.search(text):
            json.dumps(data, ensure_ascii=False, skipkeys=True, default=str).encode()
        return data
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError as error:
        raise ValueError(f"{error.object[error.start]!r} is half a surrogate pair") from None
    except yaml.YAMLError as error:
        raise ValueError(shortened(" ".join(str(error).split()))) from None
    except ValueError:
        raise
    except Exception as error:  # whatever the constructor of a tag such as !!timestamp meets
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"a value does not have the form of its tag ({shortened(what)})") from None


def parse_path(source: Any) -> Path:
    """A path, with the home folder for `~`.

    Raises:
        DataError: it cannot be one on any file system.
    """
    shown = reprlib.repr(os.fspath(source) if isinstance(source, Path) else source)
    if not isinstance(source, str | os.PathLike) or not isinstance(os.fspath(source), str):
        raise DataError(f"expected a path, got {shown} ({type(source).__name__})")
    try:
        path = Path(source).expanduser()
        longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
        problem = "a null character in it" if "\0" in str(path) else ""
        if longest > _MAX_NAME:
            problem = f"a name of {longest} bytes in it, where file systems take {_MAX_NAME}"
    except RuntimeError:
        problem = "a user in it whose home folder is not known"
    except UnicodeEncodeError:
        problem = "half a surrogate pair in it"
    if problem:
        raise DataError(f"{shown}: expected a path, got one with {problem}. Give another path.")
    return path
