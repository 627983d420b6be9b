"""EasyEdit's BaseEditor: edits and measures facts by one method of lga_fast."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from lga_fast import editors, registry
from lga_fast.datasets import LoadedEdits, easyedit_requests
from lga_fast.errors import DataError, EditError
from lga_fast.files import check_writable, write_atomic
from lga_fast.integrations.easyedit import _hparams, _metrics, _requests
from lga_fast.integrations.easyedit._loading import load_model, select_layers
from lga_fast.weight_edit import WeightEdit

_EDITORS = "lga_fast.editors"
_LOG = logging.getLogger(__name__)
_GENERATED = ("evaluation_type", "use_chat_template")  # keys of hparams: other ways to measure
_CHUNK = 32  # requests whose edits are solved and measured together
_NO_EFFECT = ("keep_original_weight",)  # in EasyEdit neither
_METRICS = ("exact match", "token_em")  # of `eval_metric`; EasyEdit takes both for token accuracy


class BaseEditor:
    """One method on one model.

    Args:
        hparams: an object of `lga_fast.integrations.easyedit` or of EasyEdit, or a path.

    Attributes:
        model: the transformers model; tok: its tokenizer.
        editable: both as lga_fast has loaded them.
        edits: a `WeightEdit` for each edit of the last call, to be applied, saved or exported.

    Raises:
        DataError: the hparams are of a method that lga_fast does not have.
        EditError: a key asks for something unsupported.
        LgaFastError: the model cannot be loaded.
    """

    def __init__(self, hparams: Any) -> None:
        self.hparams = _hparams.resolve(hparams)
        self.alg_name, self.model_name = self.hparams.alg_name, self.hparams.model_name
        for key in _GENERATED:
            if value := getattr(self.hparams, key, None):
                raise EditError(
                    f"hparams: {key}: {value!r}: metrics are teacher-forced on plain prompts here; "
                    "leave it out"
                )
        editors.check_options(registry.canonical(_EDITORS, self.alg_name), None, self.hparams, {})
        self.editable = load_model(self.hparams)
        self.model, self.tok = self.editable.hf, self.editable.tokenizer
        self.edits: list[WeightEdit] = []
        self._solvers: dict[str, editors.Solver] = {}

    @classmethod
    def from_hparams(cls, hparams: Any) -> BaseEditor:
        """The editor of these hparams."""
        return cls(hparams)

    def edit(
        self,
        prompts: str | list[str],
        target_new: str | list[str],
        ground_truth: str | list[str] | None = None,
        target_neg: str | list[str] | None = None,
        rephrase_prompts: Any = None,
        locality_inputs: dict[str, Any] | None = None,
        portability_inputs: dict[str, Any] | None = None,
        sequential_edit: bool = False,
        verbose: bool = True,
        *,
        subject: str | list[str] | None = None,
        loc_prompts: str | list[str] | None = None,
        requests: list[dict[str, Any]] | None = None,
        **others: Any,
    ) -> tuple[list[dict[str, Any]], Any, dict[str, Tensor]]:
        """Edit facts one at a time and measure each before and after.

        Args:
            prompts: each with its subject.
            target_new: the new answers.
            ground_truth: the old ones; not used by these methods.
            target_neg: kept in `requested_rewrite`; not used by these methods.
            rephrase_prompts: other words for the prompts.
            locality_inputs: by group, `prompt` and `ground_truth`, each with an item per request: a
                text or a list of texts. portability_inputs: the same.
            portability_inputs: see there.
            sequential_edit: each edit is solved on the model that carries those before, and all
                stay in effect. Otherwise, as in EasyEdit, the model is put back after each one.
            verbose: log each request's metrics, and print their means.
            subject: of each prompt.
            loc_prompts: kept in `requested_rewrite`; not used by these methods.
            requests: EasyEdit's request dicts instead of all these.
            others: `test_generation`: measure fluency too. `pre_edit`: metrics of the unedited
                model from an earlier run; `pre_file`: where to write them. `eval_metric`: "exact
                match" or "token_em", which mean the same here. Others are refused.

        Returns:
            EasyEdit's metrics, the model (the same object, edited only if sequential), and the
            weights that the last edit changed as they were before it, by name.

        Raises:
            EditError: an argument is not supported, or as of `lga_fast.edit`.
            DataError: an argument has not one value for each prompt.
        """
        if getattr(self.hparams, "batch_size", 1) != 1:
            raise EditError(
                f"hparams.batch_size is {self.hparams.batch_size}: edit() takes one fact at a time;"
                " set it to 1, or call batch_edit()"
            )
        if requests is None:
            requests = _requests.prepare(
                prompts,
                target_new,
                ground_truth,
                locality_inputs,
                portability_inputs,
                subject=subject,
                rephrase_prompt=rephrase_prompts,
                target_neg=target_neg,
                loc_prompt=loc_prompts,
            )
        return self.edit_requests(requests, sequential_edit, verbose, **others)

    def batch_edit(
        self, *columns: Any, sequential_edit: bool = False, verbose: bool = True, **named: Any
    ) -> tuple[list[dict[str, Any]], Any, dict[str, Tensor]]:
        """Edit `hparams.batch_size` facts at once; arguments and results are those of `edit`.

        As in EasyEdit `case_id` counts anew in every batch.

        Raises:
            EditError: the method edits one fact at a time, or as of `edit`.
        """
        if not isinstance(self.hparams, _hparams.BatchHyperParams):
            raise EditError(f"batch_edit: {self.alg_name} edits one fact at a time; call edit()")
        names = ("prompts", "target_new", "ground_truth", "target_neg", "rephrase_prompts")
        named |= dict(zip((*names, "locality_inputs", "portability_inputs"), columns, strict=False))
        size, self.hparams.batch_size = int(self.hparams.batch_size), 1
        try:
            return self.edit(
                sequential_edit=sequential_edit, verbose=verbose, together=size, **named
            )
        finally:
            self.hparams.batch_size = size

    def edit_requests(
        self,
        requests: list[dict[str, Any]],
        sequential_edit: bool = False,
        verbose: bool = True,
        *,
        test_generation: bool = False,
        pre_edit: Sequence[dict[str, Any]] | None = None,
        pre_file: str | None = None,
        eval_metric: str = _METRICS[0],
        together: int = 1,
        **others: Any,
    ) -> tuple[list[dict[str, Any]], Any, dict[str, Tensor]]:
        """`edit` for EasyEdit's request dicts, `together` of them in one edit."""
        _refuse(eval_metric=None if eval_metric in _METRICS else eval_metric, **others)
        facts = easyedit_requests(requests)
        editors.validate_requests(facts, self.alg_name)
        if pre_edit is not None and len(pre_edit) != len(facts):
            raise DataError(
                f"pre_edit: expected metrics of {len(facts)} requests, got {len(pre_edit)}"
            )
        if pre_file is not None:
            check_writable(pre_file)
        if getattr(self.hparams, "layers", "auto") == "auto":
            self.hparams.layers = select_layers(self.hparams, facts, model=self.editable)
            _LOG.info("layers: %s", self.hparams.layers)
        measured = pre_edit or [
            {"pre": pre} for pre in _metrics.measure(self.editable, facts, None, test_generation)
        ]
        if pre_file is not None:
            write_atomic(Path(pre_file), json.dumps(measured, ensure_ascii=False, indent=4))
        results: list[dict[str, Any]] = []
        copies: dict[str, Tensor] = {}
        self.edits = []
        for start, changes, seconds in self._changes(facts, together, sequential_edit):
            group, change = facts[start : start + len(changes)], changes[-1]
            copies = {n: self.model.get_parameter(n).detach().clone() for n in change.deltas}
            if sequential_edit:
                self.editable.apply(change)
            own = None if sequential_edit else changes
            posts = _metrics.measure(self.editable, group, own, test_generation)
            for i, post in enumerate(posts, start):
                pre = measured[i]["pre"]
                _metrics.compare_locality(pre, post)
                case = i if together == 1 else i % together
                about = {"pre": pre, "case_id": case, "requested_rewrite": requests[i]}
                results.append(about | {"time": seconds, "post": post})
                if verbose:
                    _LOG.info("%d editing: %s", i, results[-1])
        if verbose:
            _metrics.summary_metrics(results)
        return results, self.model, copies

    def _changes(
        self, facts: LoadedEdits, together: int, sequential: bool
    ) -> Iterator[tuple[int, list[WeightEdit], float]]:
        """First place, the edit of each request from there on, and seconds for one edit."""
        config, editor = self.hparams.to_dict(), registry.canonical(_EDITORS, self.alg_name)
        method, layer, about = editors.resolve(self.editable, editor, None, "easyedit", config, {})
        size = together if sequential or together > 1 else _CHUNK
        for start in range(0, len(facts), size):
            group, started = facts[start : start + size], time.perf_counter()
            if sequential:  # with what it remembers of edits before, also of earlier calls
                key = json.dumps(about["config"])
                if key not in self._solvers:
                    self._solvers[key] = method.prepare(self.editable, layer)
                solved = [self._solvers[key].solve_joint(group)]
            elif together > 1:
                solved = [method.solve(self.editable, group, layer)]
            else:
                solved = method.solve_each(self.editable, group, layer)
            seconds = (time.perf_counter() - started) / len(solved)
            solved = editors.report_changes(solved, about)
            self.edits += solved
            yield start, solved * (len(group) // len(solved)), seconds


def _refuse(**arguments: Any) -> None:
    for name, value in arguments.items():
        if value is not None and name not in _NO_EFFECT:
            raise EditError(
                f"edit: {name}={value!r}: lga_fast has no such argument, or not this value; see "
                "docs/easyedit.md. Leave it out."
            )
