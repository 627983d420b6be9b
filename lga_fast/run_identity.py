"""What makes two runs the same: only then may one go on with the other's results."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from typing import Any

# Of a result's provenance, what decides its values. The commit does not, and the CPU's instruction
# set rounds otherwise only, so that another machine may go on; both are noted instead.
_DECIDING = (
    *("model_fingerprint", "family", "dtype", "device"),
    *("lga_fast", "torch", "transformers", "threads"),
)


def of(
    provenance: Mapping[str, Any], *, tokenizer: str, requests_sha256: str, **configuration: Any
) -> dict[str, Any]:
    """The identity of a run, in plain JSON values.

    Args:
        provenance: `lga_fast.provenance.of(model)`.
        tokenizer: `lga_fast.provenance.tokenizer_checksum(model.tokenizer)`.
        requests_sha256: `lga_fast.datasets.jsonl.checksum(requests)`.
        configuration: what else decides the results of this kind of run.
    """
    environment = {name: provenance[name] for name in _DECIDING}
    environment["implementation"] = provenance["kernel"].partition(" (")[0]
    if "attention" in provenance:  # only where one was asked for
        environment["attention"] = provenance["attention"]
    requests = {"tokenizer": tokenizer, "requests_sha256": requests_sha256}
    return plain(environment | requests | configuration)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Every field that is not the same, with both values; empty if the runs are the same."""
    return "; ".join(_differences(before, now, ""))


def plain(x: Any) -> Any:
    """`x` as a JSON file would give it back."""
    return json.loads(json.dumps(x, default=str))


def _differences(before: Any, now: Any, name: str) -> list[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        return [
            difference
            for key in dict.fromkeys([*before, *now])
            for difference in _differences(
                before.get(key), now.get(key), f"{name}.{key}" if name else key
            )
        ]
    if before == now:
        return []
    return [f"{name} was {reprlib.repr(before)}, is now {reprlib.repr(now)}"]
