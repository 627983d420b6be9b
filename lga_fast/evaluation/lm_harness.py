"""Tasks of EleutherAI's lm-evaluation-harness on a model as it is, or under an edit.

An edit may take and still cost the model something else that it could do:

    before = run_tasks(model, ["hellaswag"], limit=200)
    after = run_tasks(model, ["hellaswag"], edit, limit=200)
    before["results"]["hellaswag"]["acc,none"], after["results"]["hellaswag"]["acc,none"]
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch

from lga_fast import provenance
from lga_fast.errors import MetricError
from lga_fast.models import EditableModel, check_loaded
from lga_fast.undo import undone
from lga_fast.weight_edit import WeightEdit


def run_tasks(
    model: EditableModel,
    tasks: Sequence[str | dict[str, Any]],
    edit: WeightEdit | None = None,
    *,
    batch_size: int | str = 1,
    **options: Any,
) -> dict[str, Any]:
    """Run tasks of the harness; model, tokenizer and all random states stay as they were.

    Args:
        model: see `lga_fast.load`.
        tasks: names that the harness knows, YAML files of tasks, or what such a file would hold.
        edit: carried while the tasks run; None: the model as it stands.
        batch_size: rows at a time; "auto" for as many as memory takes.
        options: more arguments of `lm_eval.simple_evaluate`, such as limit, num_fewshot, or a
            task_manager for several runs (to make one takes seconds).

    Returns:
        What the harness returns: `results` has the scores by task, `samples` every answer. Its key
        `lga_fast` has the model, the versions, and the edit's checksum and provenance.

    Raises:
        MetricError: the harness is not installed, or `use_cache` is asked for.
        EditError: the edit is not of this model.
    """
    check_loaded(model)
    try:
        from lm_eval import simple_evaluate  # type: ignore[import-not-found]
        from lm_eval.models.huggingface import HFLM  # type: ignore[import-not-found]
    except ImportError as error:
        raise MetricError(
            f"run_tasks needs EleutherAI's lm-evaluation-harness, which could not be imported "
            f"({error}): pip install 'lga-fast[harness]'"
        ) from error
    if options.get("use_cache"):
        raise MetricError(
            "run_tasks: expected no use_cache, got one. Such a cache finds answers by question "
            "alone, so an edited model would give those of the unedited one."
        )
    about: dict[str, Any] = provenance.of(model) | {"edit": None}
    if edit is not None:
        about["edit"] = {"checksum": edit.checksum, **edit.provenance}
    plain = getattr(model.tokenizer, "plain", model.tokenizer)  # of a chat
    tokenizer = copy.deepcopy(plain)  # the harness gives it a padding token
    with _left_alone(model), model.edited(edit) if edit is not None else nullcontext():
        with _not_tied_anew(model.hf):
            lm = HFLM(pretrained=model.hf, tokenizer=tokenizer, batch_size=batch_size)
        results: Any = simple_evaluate(
            model=lm, tasks=list(tasks), batch_size=batch_size, **options
        )
    return {**results, "lga_fast": about}


@contextmanager
def _left_alone(model: EditableModel) -> Iterator[None]:
    """Evaluation mode; the random states that the harness seeds are put back."""
    plain, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    gpus = torch.cuda.get_rng_state_all()

    def undo() -> None:
        random.setstate(plain)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        torch.cuda.set_rng_state_all(gpus)

    with model.frozen(), undone((), undo):
        yield


@contextmanager
def _not_tied_anew(hf: Any) -> Iterator[None]:
    """HFLM ties weights as the config says, which would replace a head that has its own."""
    with undone((hf,), partial(vars(hf).pop, "tie_weights", None)):
        hf.tie_weights = lambda: None
        yield
