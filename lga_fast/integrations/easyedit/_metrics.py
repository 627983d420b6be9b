"""What an edit did, measured as EasyEdit does and in the shape of its metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from lga_fast import metrics
from lga_fast.metrics import Question, ScoredAnswer
from lga_fast.models import EditableModel
from lga_fast.records import EditRequest
from lga_fast.weight_edit import WeightEdit

_FORCED = ("decoder_only_teacher_forcing", "token_accuracy", "lm.decoder_only_teacher_forcing")
_SAME = ("pre_post_argmax_token_match", "token_match", "locality.lm.pre_post_argmax_token_match")


def measure(
    model: EditableModel,
    requests: Sequence[EditRequest],
    changes: Sequence[WeightEdit] | None,
    fluency: bool,
) -> list[dict[str, Any]]:
    """EasyEdit's `pre` or `post` of each request, but for the accuracy of `post`'s locality.

    Args:
        model: left as it was.
        requests: with their probes.
        changes: one for each request, under which it is measured; None: the model as it stands.
        fluency: sample a text after each prompt too; needs nltk.
    """
    asked = [
        [Question(r.prompt, r.target_new), *(Question(p.prompt, p.answer) for p in r.probes)]
        for r in requests
    ]
    own = None
    if changes is not None:
        own = [change for change, of in zip(changes, asked, strict=True) for _ in of]
    answers = iter(metrics.score(model, [question for of in asked for question in of], own))
    results = [_quality(request, answers) for request in requests]
    if fluency:
        metric: Any = metrics.choose(["fluency"], {"fluency": {"sampler": "top5"}})["fluency"]
        asked_to_write = [ask for request in requests for ask in metric.questions(request)]
        texts = metrics.generate(model, asked_to_write, changes)
        for result, request, text in zip(results, requests, texts, strict=True):
            values = metric.measure(request, [text], [text])
            result["fluency"] = {"ngram_entropy": values["fluency_raw"]}
    return results


def _quality(request: EditRequest, answers: Iterator[ScoredAnswer]) -> dict[str, Any]:
    result: dict[str, Any] = {"rewrite_acc": [next(answers).accuracy], "locality": {}}
    result |= {"portability": {}, "metric_meta": {"rewrite": _meta("rewrite_acc", *_FORCED)}}
    for probe, answer in zip(request.probes, answers, strict=False):
        if probe.kind == "locality":
            tokens = result["locality"].setdefault(f"{probe.group}_output", [])
            tokens.append(list(answer.predicted))
        elif probe.kind == "portability":
            result["portability"].setdefault(f"{probe.group}_acc", []).append(answer.accuracy)
        else:
            result.setdefault("rephrase_acc", []).append(answer.accuracy)
            result["metric_meta"]["rephrase"] = _meta("rephrase_acc", *_FORCED)
    return result


def compare_locality(pre: Mapping[str, Any], post: dict[str, Any]) -> None:
    """Put into `post` which share of each locality prompt's tokens is predicted as in `pre`."""
    for name, before in pre["locality"].items():
        group = name.removesuffix("_output")
        pairs = zip(before, post["locality"][name], strict=True)
        same = [fmean(a == b for a, b in zip(old, new, strict=True)) for old, new in pairs]
        post["locality"][f"{group}_acc"] = same
        post["metric_meta"][f"locality.{group}"] = _meta(f"locality.{group}_acc", *_SAME)


def _meta(key: str, protocol: str, scorer: str, comparable: str) -> dict[str, str]:
    """What EasyEdit says of a metric, so that only comparable ones are compared."""
    group = comparable if comparable.endswith(scorer) else f"{comparable}.{scorer}"
    return {"result_key": key, "protocol": protocol, "scorer": scorer, "comparable_group": group}


def summary_metrics(all_metrics: Any) -> dict[str, Any]:
    """Means over requests, printed and returned; unlike EasyEdit's, no file is written.

    Args:
        all_metrics: what `BaseEditor.edit` returns first, or one of its items.
    """
    cases = [all_metrics] if isinstance(all_metrics, Mapping) else all_metrics
    means: dict[str, Any] = {"pre": {}, "post": {}}
    for when, mean in means.items():
        measured = [case[when] for case in cases]
        for key in ("rewrite_acc", "rephrase_acc"):
            if values := [fmean(one[key]) for one in measured if key in one]:
                mean[key] = fmean(values)
        for section in ("locality", "portability"):
            columns: dict[str, list[float]] = {}
            for key, values in (item for one in measured for item in one[section].items()):
                if key.endswith("_acc"):
                    columns.setdefault(key, []).append(fmean(values))
            if columns:
                mean[section] = {key: fmean(values) for key, values in columns.items()}
    print("Metrics Summary: ", means)
    return means
