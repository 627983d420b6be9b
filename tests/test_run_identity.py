"""Runs are the same if nothing differs that decides their results; what differs is named."""

from __future__ import annotations

import pytest
import tiny

from lga_fast import provenance, run_identity

CONFIGURATION = {"editor": {"steps": 4, "layers": (1, 2)}, "chunk": 2}


def identity(**changes):
    about = {"tokenizer": "t", "requests_sha256": "r", **CONFIGURATION} | changes
    return run_identity.of(provenance.of(tiny.model("gpt2")) | {"commit": "any"}, **about)


def test_the_same_run_has_the_same_identity():
    assert identity() == run_identity.plain(identity())
    assert run_identity.differences(identity(), identity()) == ""
    assert "commit" not in identity() and identity()["threads"] >= 1


def test_another_instruction_set_goes_on_but_other_code_does_not():
    def with_kernel(kernel):
        about = {**provenance.of(tiny.model("gpt2")), "kernel": kernel}
        return run_identity.of(about, tokenizer="t", requests_sha256="r")

    here, there = with_kernel("C++ (avx512)"), with_kernel("C++ (avx2)")
    assert run_identity.differences(here, there) == ""
    differ = run_identity.differences(here, with_kernel("torch reference (LGA_FAST_NO_EXT=1)"))
    assert differ == "implementation was 'C++', is now 'torch reference'"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer": "u"}, "tokenizer was 't', is now 'u'"),
        ({"editor": {"steps": 5, "layers": (1, 2)}}, "editor.steps was 4, is now 5"),
        ({"editor": {"layers": [1]}}, "editor.steps was 4, is now None; editor.layers was [1, 2]"),
        ({"chunk": 1, "mode": "batch"}, "chunk was 2, is now 1; mode was None, is now 'batch'"),
    ],
)
def test_what_differs_is_reported_by_field(changes, message):
    assert run_identity.differences(identity(), identity(**changes)).startswith(message)
