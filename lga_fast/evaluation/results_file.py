"""The file of an evaluation: a header, then one line per case; one line appended at a time."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lga_fast import run_identity
from lga_fast.errors import DataError
from lga_fast.evaluation_records import CaseResult, Evaluation, Summary
from lga_fast.files import append, clear_abandoned, write_atomic, writing
from lga_fast.metrics import CaseMetric, SummaryMetric, averages
from lga_fast.parsing import of_type, parse_json

KIND = "lga_fast.Evaluation"
VERSION = 1


class CaseFile:
    """The results of an evaluation so far, in memory and in a file that another run goes on with.

    JSON Lines. The header has the `configuration`, which decides the results, and `made`: in what
    surroundings they were made, one entry for each that differed from the one before, with the
    number of cases that were there already. Results are appended; the file is replaced as a whole
    where its header changes. A last line without its end, as a killed run may leave it, is dropped
    and its case done again.

    Args:
        path: of the file; None keeps results in memory only.
        configuration: of this run.
        surroundings: of this run; what does not decide the results, as plain JSON values.
        case_ids: of all requests, in the order of the results.

    Raises:
        DataError: the file is there and is none of these, or of another configuration.
    """

    def __init__(
        self,
        path: Path | None,
        configuration: Mapping[str, Any],
        surroundings: Mapping[str, Any],
        case_ids: Sequence[str],
    ) -> None:
        self._path, self._case_ids = path, case_ids
        now = {"kind": KIND, "version": VERSION, "configuration": configuration, "made": []}
        self.header: dict[str, Any] = run_identity.plain(now)
        self.results: list[CaseResult] = []
        self._in_file = False  # it holds these results and nothing else
        if path is not None:
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            clear_abandoned(path)
            self._read(path)
        if self.left:
            self._note(run_identity.plain(surroundings))

    @property
    def left(self) -> int:
        """How many cases have no result yet; they are the last ones."""
        return len(self._case_ids) - len(self.results)

    def add(self, results: Sequence[CaseResult]) -> None:
        """Add the results that follow, and write them."""
        if self._path is not None and self._in_file:
            append(self._path, "".join(map(_line, results)))
        self.results += results
        if not self._in_file:
            self._write()

    def take(self, part: CaseFile, start: int) -> None:
        """Add what is not here yet of a part that begins with case `start`."""
        if new := part.results[max(0, len(self.results) - start) :]:
            surroundings = dict(part.header["made"][-1])
            del surroundings["cases_before"]
            self._note(surroundings)
            self.add(new)

    def evaluation(
        self, dropped: int, metrics: Mapping[str, CaseMetric | SummaryMetric] | None = None
    ) -> Evaluation:
        """All results and what they come to; `dropped` records were left out of the data."""
        known = [result.known for result in self.results if result.known is not None]
        summary = Summary(
            cases=len(self.results),
            before=averages([result.before for result in self.results], metrics),
            after=averages([result.after for result in self.results], metrics),
            known=sum(known) if known else None,
            noted=sum(bool(result.notes) for result in self.results),
            dropped=dropped,
            seconds_edit=sum(result.seconds_edit for result in self.results),
            seconds_measure=sum(result.seconds_measure for result in self.results),
            peak_bytes=max(result.peak_bytes for result in self.results),
        )
        return Evaluation(self.results, summary, self.header)

    def _note(self, surroundings: dict[str, Any]) -> None:
        """Write the header, with these surroundings if they are new."""
        entries = self.header["made"]
        last = entries[-1] if entries else {}
        if {name: value for name, value in last.items() if name != "cases_before"} != surroundings:
            entries.append({"cases_before": len(self.results)} | surroundings)
            self._write()

    def _write(self) -> None:
        if self._path is not None:
            header = json.dumps(self.header, ensure_ascii=False)
            write_atomic(self._path, "".join([f"{header}\n", *map(_line, self.results)]))
            self._in_file = True

    def _read(self, path: Path) -> None:
        """Take over what the file holds of this evaluation."""
        try:
            text = path.read_text(encoding="utf-8") if path.exists() else ""
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: expected a file to go on with, got: {error}") from None
        if not text:
            return
        first, _, rest = text.partition("\n")
        header = _header(path, first)
        differ = run_identity.differences(header["configuration"], self.header["configuration"])
        if differ:
            raise DataError(
                f"{path}: holds an evaluation of another configuration: {differ}. Give another "
                "file, or remove this one."
            )
        self.header["made"] = header["made"]
        *lines, torn = rest.split("\n")
        for number, line in enumerate(lines, 2):
            self.results.append(self._result(f"{path}:{number}", line))
        self._in_file = not torn

    def _result(self, place: str, line: str) -> CaseResult:
        at = len(self.results)
        try:
            data = parse_json(line)
            result = CaseResult(**data | {"notes": tuple(of_type(data["notes"], list, "notes"))})
            _check_values(result)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise DataError(
                f"{place}: expected the result of a case, got {reprlib.repr(line)} ({error}). "
                "Remove this line and all below it to have them done again."
            ) from None
        expected = self._case_ids[at] if at < len(self._case_ids) else "no further case"
        if result.case_id != expected:
            raise DataError(
                f"{place}: expected {expected!r}, got {result.case_id!r}: results stand in the "
                "order of the requests. Remove this line and all below it to have them done again."
            )
        return result


def _line(result: CaseResult) -> str:
    return json.dumps(asdict(result), ensure_ascii=False) + "\n"


def _check_values(result: CaseResult) -> None:
    """Refuse what is no text or number where a result has one.

    Raises:
        TypeError, ValueError, OverflowError: so it is.
    """
    sides = [of_type(getattr(result, name), dict, name) for name in ("before", "after")]
    values = [value for side in sides for value in side.values()]
    numbers = [result.seconds_edit, result.seconds_measure, result.peak_bytes, result.layer]
    for value in [*numbers, *(v for v in values if v is not None)]:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"a {type(value).__name__} where a number is expected")
        float(value)  # of an int that has too many digits
    if not all(isinstance(text, str) for text in (result.case_id, *result.notes)):
        raise TypeError("case_id or a note is no text")


def _header(path: Path, line: str) -> dict[str, Any]:
    try:
        header = parse_json(line)
        if (header["kind"], header["version"]) != (KIND, VERSION):
            raise ValueError(f"{header['kind']} of version {header['version']}")
        made = of_type(header["made"], list, "made")
        return {
            "configuration": of_type(header["configuration"], dict, "configuration"),
            "made": [{"cases_before": entry["cases_before"], **entry} for entry in made],
        }
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: expected a file of {KIND}, version {VERSION}, got "
            f"{reprlib.repr(line)} ({error}). Nothing was written; give another file."
        ) from None
