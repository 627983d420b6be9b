"""Fill README's tables from the committed results: `python benchmarks/tables.py [--check]`."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from lga_fast.records import LayerRanking
from lga_fast.reports import ranking_table

try:
    from benchmarks._markdown import HERE, made_by, panel, results, rows_of
    from benchmarks.example import example
    from benchmarks.study_tables import studies
except ImportError:
    from _markdown import HERE, made_by, panel, results, rows_of
    from example import example
    from study_tables import studies

README = HERE.parent / "README.md"
OPS = ("grad_dot", "grad_abs_sum", "low_rank_update_")


def main() -> None:
    """Write README anew, or with --check only tell whether it is up to date."""
    old = README.read_text(encoding="utf-8")
    new = filled(old)
    if "--check" not in sys.argv:
        README.write_text(new, encoding="utf-8")
    elif old != new:
        sys.exit("README.md is not what the results say: run python benchmarks/tables.py")


def filled(text: str) -> str:
    """`text` with every part between `<!-- name -->` and `<!-- /name -->` made anew."""
    for part in (demo, example, streamed, ranks, speed, editing, atlas, studies):
        name = part.__name__
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        text, found = re.subn(pattern, lambda m, p=part: m[1] + p() + m[2], text, flags=re.S)
        assert found == 1, f"README lacks its part {name}"
    return text


def rankings() -> list[LayerRanking]:
    """The rankings of atlas_profile."""
    return [LayerRanking.from_json(json.dumps(row)) for row in results("atlas_profile")["rows"]]


def demo() -> str:
    """The chart of the first ranking, as a terminal shows it."""
    found = rankings()
    return panel(ranking_table.show, found[0]) if found else ""


def streamed() -> str:
    """A checkpoint scored by reading it twice."""
    found = results("streamed")["rows"]
    if not found:
        return ""
    (row,) = found
    return (
        f"A bfloat16 checkpoint of {row['checkpoint_bytes'] / 1e9:.1f} GB with {row['facts']} "
        f"facts under a budget of {row['memory_budget']}: at most "
        f"{row['peak_anonymous_bytes'] / 2**20:.0f} MiB of anonymous memory, "
        f"{row['read_to_twice_the_checkpoint']:.3f} times twice the checkpoint read, "
        f"{row['seconds']:.0f} s, which is {row['wall_to_bound']:.2f} times the sum over blocks of "
        "the longer of reading and computing.\n"
        + made_by("streamed", "python benchmarks/streamed.py")
    )


def ranks() -> str:
    """A selection by several processes against one."""
    found = results("ranks_cpu")["rows"]
    if not found:
        return ""
    (row,) = found
    scoring, answering, command = (
        _spread(row["times_faster"][part], 2)
        for part in ("scoring", "answering_and_scoring", "command")
    )
    difference = row["largest_relative_difference"]
    apart = f"differ by at most {difference:.0e} of theirs" if difference else "are the same bits"
    return (
        f"{row['model']}, {row['facts']} facts, {row['dtype']}: {row['ranks']} processes of one "
        f"thread on {row['cores']} cores score {scoring} times faster than one, {answering} with "
        f"the old answers, and the whole command is {command} times faster; as many processes that "
        f"do nothing but matrix products make {_spread(row['products_times_more'], 2)} times as "
        f"many as one. Scores {apart}; the layer is "
        f"{'the same' if row['same_layer'] else 'another'}.\n"
        + made_by("ranks_cpu", "python benchmarks/ranks.py")
    )


def speed() -> str:
    """Whole selections and ops, each against what stands beside it in the same run."""
    parts = []
    cpu = results("selection_cpu")["rows"]
    head = ["scoring pass", "facts", "dtype", "times faster than the paper's way (min to max)"]
    head += ["than `autograd.grad` on the MLP", "peak memory / its gradients"]
    if cpu:
        parts.append(rows_of(head, map(_selection, cpu)))
        parts.append(made_by("selection_cpu", "python benchmarks/selection.py"))
    for path in sorted((HERE / "results").glob("gpu_*.json")):
        gpu = results(path.stem)["rows"]
        passes = [row for row in gpu if row["part"] == "time_selection"]
        parts.append("\n" + rows_of(head, map(_selection, passes)))
        parts.append(made_by(path.stem, "python benchmarks/gpu.py"))
    parts.append("\n" + _ops())
    return "".join(parts)


def _ops() -> str:
    """How much faster than torch each op is on one CPU thread, a row per shape."""
    shapes: dict[tuple[str, str], dict[str, str]] = {}
    for op in OPS:
        for row in results(op)["rows"]:
            if row["device"] == "cpu":
                cell = f"{row['times_faster']:.1f}"
                shapes.setdefault((op, _shape(row)), {})[row["dtype"]] = cell
    if not shapes:
        return ""
    rows = [[f"`{op}`", shape, *dtypes.values()] for (op, shape), dtypes in shapes.items()]
    dtypes = next(iter(shapes.values()))
    head = ["times faster than plain torch", "shape", *dtypes]
    command = "OMP_NUM_THREADS=1 python benchmarks/test_bench_OP.py"
    return rows_of(head, rows) + made_by(OPS[0], command)


def editing() -> str:
    """An edit against the usual way, and the pass over the text that second moments take."""
    cpu = results("editing_cpu")["rows"]
    if not cpu:
        return ""
    head = ["R-ROME", "requests at once", "dtype", "seconds per edit"]
    head += ["times faster than the usual way (min to max)", "than our plain form"]
    names = {"single": 1, "batch": cpu[0]["requests"]}
    rows = [
        [
            f"{row['model']}, layer {row['layer']}",
            count,
            row["dtype"],
            f"{row['median_seconds_per_edit'][name]:.1f}",
            *(_spread(row[f"{name}_times_faster_than_{other}"]) for other in ("usual", "plain")),
        ]
        for row in cpu
        for name, count in names.items()
    ]
    full, half = cpu[0], cpu[-1]
    text = rows_of(head, rows) + made_by("editing_cpu", "python benchmarks/editing.py")
    text += (
        f"\nIn the mean {full['mean_tokens_of_a_row']:.1f} tokens a row, of which "
        f"{full['mean_tokens_that_change']:.1f} run in a step; {full['contexts']} contexts, "
        f"{full['steps']} steps. ‖ΔW - ΔW of the usual way‖ / ‖ΔW‖ is "
        f"{full['difference_of_change_to_usual']['batch']:.0e}; in bfloat16 ΔW differs from "
        f"float32's by {half['difference_of_change_to_float32']:.0%}.\n"
    )
    if moments := results("moments_cpu")["rows"]:
        share, error = moments[0]["pass_over_forward_and_grams"], moments[1]["largest_error"]
        text += (
            f"\nSecond moments of all {cpu[0]['model'].split(',')[1].strip()} take "
            f"{_spread(share, 2)} times one forward and the Gram updates; mean(kᵀ C⁻¹ k) / d_in "
            f"is 1 to {error:.0e}.\n"
        )
        text += made_by("moments_cpu", "python benchmarks/moments.py")
    return text


def _spread(values: dict[str, float], digits: int = 1) -> str:
    low, high = (f"{values[end]:.{digits}f}" for end in ("min", "max"))
    return f"{values['median']:.{digits}f} ({low} to {high})"


def _selection(row: dict[str, Any]) -> list[str]:
    return [
        row["model"],
        f"{row['facts']} of {row['tokens'][0]} + {row['tokens'][1]} tokens",
        row["dtype"],
        _spread(row["times_faster_than_paper"]),
        _spread(row["times_faster_than_mlp_only"]),
        f"{row['peak_share_of_gradients']:.1%}",
    ]


def _shape(row: dict[str, Any]) -> str:
    names = [n for n in row if isinstance(row[n], int) and not isinstance(row[n], bool)]
    return ", ".join(f"{name} {row[name]}" for name in names)


def atlas() -> str:
    """The golden layer of both models under each seed."""
    found = rankings()
    if not found:
        return ""
    head = [
        "model",
        "seed",
        "layer",
        "order of the kept layers",
        "excluded",
        "resamples that agree",
    ]
    rows = [
        [
            ranking.provenance["model"],
            ranking.provenance["options"]["seed"],
            ranking.layer,
            " ".join(map(str, ranking.order)),
            " ".join(map(str, ranking.excluded)),
            f"{ranking.stability[ranking.layer]:.0%}",
        ]
        for ranking in found
    ]
    intro = f"LGA on {found[0].requests} proxy facts, three draws:\n\n"
    made = made_by("atlas_profile", "python benchmarks/atlas_profile.py")
    return intro + rows_of(head, rows) + made


if __name__ == "__main__":
    main()
