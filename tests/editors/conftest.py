"""Models and a file that the tests of configs share."""

from __future__ import annotations

import pytest
import tiny
import torch

from tests.editors.configs import HPARAMS


@pytest.fixture(scope="module")
def models():
    return {name: tiny.model(name, torch.float32) for name in ("gpt2", "qwen3")}


@pytest.fixture
def model(models):
    return models["gpt2"]


@pytest.fixture
def hparams(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(HPARAMS, encoding="utf-8")
    return path
