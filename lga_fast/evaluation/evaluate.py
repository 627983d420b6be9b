"""Evaluating an editor on requests: edited, measured before and after, written as it goes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, SupportsIndex, cast

from lga_fast import distributed, editors, files, progress, provenance, registry, run_identity
from lga_fast.datasets import LoadedEdits, jsonl
from lga_fast.errors import DataError, RanksError
from lga_fast.evaluation import shards
from lga_fast.evaluation.loop import Loop
from lga_fast.evaluation.options import METRICS, EvaluationOptions, EvalWhen, Mode
from lga_fast.evaluation.results_file import CaseFile
from lga_fast.evaluation_records import Evaluation
from lga_fast.metrics import choose
from lga_fast.models import EditableModel, check_loaded
from lga_fast.records import EditRequest


def evaluate(
    model: EditableModel,
    edits: Sequence[EditRequest | dict[str, Any]],
    editor: str = "r_rome",
    *,
    layer: SupportsIndex | None = None,
    preset: editors.Preset = "easyedit",
    config: editors.Config | None = None,
    mode: Mode = "single",
    eval_when: EvalWhen = "end",
    metrics: Sequence[str] = METRICS,
    metric_options: Mapping[str, Mapping[str, Any]] | None = None,
    out: str | Path | None = None,
    proxy: Collection[str] = (),
    chunk: int = 32,
    show_progress: bool | None = None,
    **options: Any,
) -> Evaluation:
    """Edit and measure: every metric of every request, before and after its edit.

    The model is left as it was. With `out` every finished chunk is written at once; the same call
    goes on where an earlier one was stopped, even killed, and ends with the same results bit for
    bit (given that memory did not force smaller batches on either). In the modes "sequential" and
    "batch" it first solves the edits again. Inside `distributed.ranks()` the ranks share the chunks
    and write each into a file of its own beside `out`, which the first puts together in the end.

    Args:
        model: see `lga_fast.load`.
        edits: requests, or dicts in EasyEdit's form; each needs its subject.
        editor: a member of `lga_fast.editors`.
        layer: see `lga_fast.edit`.
        preset: see `lga_fast.edit`.
        config: see `lga_fast.edit`.
        mode: "single": every request edited alone, as an edit that only its own rows carry, so that
            no weight is written. "sequential": one after another, each solved on the model that
            carries the ones before. "batch": one edit for all.
        eval_when: of a sequence; "end": measured with all edits in effect; "after_each": with those
            up to the request's own. What a metric compares with is always the model without edits.
        metrics: members of `lga_fast.metrics`.
        metric_options: by metric, its options.
        out: file of the results, in JSON Lines.
        proxy: case ids of the facts that the layer was chosen on; none may be evaluated.
        chunk: requests that are edited and measured together, and results written at once.
        show_progress: None shows a bar on a terminal only.
        options: the fields of the editor's `Editor`.

    Raises:
        UnknownName: no such editor or metric, or one has no such option.
        OptionError: an option has the wrong type or is out of its limits.
        DataError: a request is one of `proxy`; or `out` cannot be written, or holds something else
            or an evaluation of another configuration.
        EditError: as of `lga_fast.edit`.
        RanksError: there are several ranks, and they differ, one has ended, or the mode needs one.
        MetricError: a metric lacks something that it needs.

    Example:
        >>> results = evaluate(model, test, layer=int(ranking), out="results.jsonl")
        >>> results.summary.after["rewrite"].mean
        0.98
    """
    check_loaded(model)
    editor = registry.canonical("lga_fast.editors", editor)
    checked = EvaluationOptions(mode, eval_when, cast(Any, metrics), chunk)
    if out:
        files.check_writable(out)
    ranks = distributed.current()
    if ranks.size > 1 and mode != "single":
        raise RanksError(
            f"mode={mode!r} runs in one process, got {ranks.size}: its requests cannot be shared, "
            "because each one's edit is solved together with others"
        )
    requests = editors.validate_requests(edits, editor, together=mode == "batch")
    _check_apart(requests, proxy)
    named = choose(checked.metrics, metric_options)
    method, layer, about = editors.resolve(model, editor, layer, preset, config, options)
    environment = provenance.of(model)
    configuration = run_identity.of(
        environment,
        tokenizer=provenance.tokenizer_checksum(model.tokenizer),
        requests_sha256=jsonl.checksum(requests),
        requests=len(requests),
        proxy=sorted(proxy),
        editor=editor,
        editor_config=about.pop("config"),
        layer=layer,
        mode=checked.mode,
        eval_when=checked.eval_when,
        metrics={name: asdict(cast(Any, metric)) for name, metric in named.items()},
        chunk=checked.chunk,
    )
    surroundings = {n: v for n, v in environment.items() if n not in configuration} | about
    surroundings |= ranks.provenance() | {"data": asdict(requests.provenance)}
    case_ids = [request.case_id for request in requests]
    solver = cache(lambda: method.prepare(model, layer))

    def measure(cut: slice, into: CaseFile) -> Iterator[int]:
        loop = Loop(model, layer, requests[cut], named, into, checked.chunk)
        return loop.run(solver(), checked.mode, checked.eval_when)

    whole = Path(out) if out else None
    mine = whole if ranks.is_rank_zero else None
    with files.locked(mine):
        file = CaseFile(mine, configuration, surroundings, case_ids)
        parts = shards.ResultShards(whole, configuration, surroundings, case_ids, checked.chunk)
        if ranks.size > 1 or parts.finished():
            shards.run(file, parts, measure, show_progress)
        elif file.left:
            resumed = f" ({len(file.results)} are there)" if file.results else ""
            with progress.bar(f"evaluating{resumed}", file.left, show_progress) as advance:
                for done in measure(slice(None), file):
                    advance(done)
        if ranks.is_rank_zero:
            parts.remove()  # also those that a killed run only began
    dropped = requests.report.count("dropped")
    return cast(
        Evaluation, ranks.gather(file.evaluation(dropped, named) if ranks.is_rank_zero else None)[0]
    )


def _check_apart(requests: LoadedEdits, proxy: Collection[str]) -> None:
    if isinstance(proxy, str):
        raise DataError(f"proxy: expected a list of case ids, got the text {proxy!r}")
    both = [request.case_id for request in requests if request.case_id in set(proxy)]
    if both:
        raise DataError(
            f"{len(both)} of {len(requests)} requests are among the {len(proxy)} proxy facts that "
            f"the layer was chosen on, such as {', '.join(map(repr, both[:3]))}. Evaluate the "
            "others: `proxy, test = lga_fast.datasets.split(edits)`."
        )
