"""Tables of seconds, memory and bytes read, from the results of the benchmark scripts."""

from __future__ import annotations

from typing import Any

try:
    from benchmarks._markdown import results, source, spread, table
except ImportError:
    from _markdown import results, source, spread, table

OPS = ("grad_dot", "grad_abs_sum", "low_rank_update_")


def summary() -> str:
    """README's table: what is fast, and compared with what."""
    names = ("selection_cpu", "editing_cpu", "study_cpu", "ranks_cpu")
    selection, editing, sweep, ranks = (results(name)["rows"][0] for name in names)
    model = "GPT-2 124M's shape"
    scored = f"scoring pass, {model}, {selection['facts']} facts"
    rows = [
        [scored, "two backward passes per fact", spread(selection["times_faster_than_paper"])],
        [scored, "`autograd.grad` on MLPs", spread(selection["times_faster_than_mlp_only"])],
        [
            f"R-ROME, {model}, {editing['requests']} requests",
            "whole model in every step",
            spread(editing["batch_times_faster_than_usual"]),
        ],
        [
            f"edits at every layer of {sweep['model']}, {sweep['facts']} facts",
            "the same, one at a time",
            f"{sweep['sweep_times_faster_than_usual']:.1f}",
        ],
        [
            f"scoring pass with torchrun, {ranks['ranks']} processes",
            "one process",
            spread(ranks["times_faster"]["scoring"], 2),
        ],
    ]
    return (
        f"{table(['on CPU', 'compared with', 'times faster (min to max)'], rows)}\n"
        f"A scoring pass peaks at {selection['peak_share_of_gradients']:.0%} of the memory that "
        "its MLP gradients would take.\n"
    )


def selection() -> str:
    """A scoring pass against other ways to get the same scores."""
    head = ["scoring pass", "facts", "dtype", "times faster than the paper's way (min to max)"]
    head += ["than `autograd.grad` on the MLPs", "peak memory / its gradients"]
    text = table(head, map(_selection, results("selection_cpu")["rows"]))
    return text + source("selection_cpu", "python benchmarks/selection.py")


def _selection(row: dict[str, Any]) -> list[str]:
    return [
        row["model"],
        f"{row['facts']} of {row['tokens'][0]} + {row['tokens'][1]} tokens",
        row["dtype"],
        spread(row["times_faster_than_paper"]),
        spread(row["times_faster_than_mlp_only"]),
        f"{row['peak_share_of_gradients']:.1%}",
    ]


def peers() -> str:
    """A scoring pass beside others', on CPUs of two kinds."""
    kinds = {"peers_avx512": "AVX-512", "peers_avx2": "AVX2 only"}
    return "\n".join(f"A CPU with {kind}:\n\n{_peers(name)}" for name, kind in kinds.items())


def _peers(name: str) -> str:
    """A scoring pass beside others' and beside what no way can do without."""
    rows = results(name)["rows"]
    head = ["scoring pass", "facts", "CPU seconds, median", "of dattri-llm 0.1.0"]
    head += ["of the paper's way", "of two forwards", "in bfloat16"]
    head += ["times faster than dattri-llm (min to max)"]
    cells = []
    for row in rows:
        seconds = {name: f"{value:.2f}" for name, value in row["median_cpu_seconds"].items()}
        ways = [
            seconds.get(way, "-") for way in ("ours", "dattri", "paper", "two_forwards", "bfloat16")
        ]
        facts = f"{row['facts']} of {row['tokens'][0]} + {row['tokens'][1]} tokens"
        cells.append([row["model"], facts, *ways, spread(row["times_faster_than_dattri"], 2)])
    differ = [(way, x) for row in rows for way, x in row["differ_in_layer_rms"].items()]
    apart = max(x for way, x in differ if way != "bfloat16")
    low = max(x for way, x in differ if way == "bfloat16")
    return (
        f"{table(head, cells)}\nScores differ by {apart:.0e} of each layer's mean square root at "
        f"most, in bfloat16 by {low:.0e}.\n{source(name, 'python benchmarks/peers.py')}"
    )


def ops() -> str:
    """Speed of each op relative to plain torch on one CPU thread, one row per shape."""
    shapes: dict[tuple[str, str], dict[str, str]] = {}
    for op in OPS:
        for row in results(op)["rows"]:
            if row["device"] == "cpu":
                cell = f"{row['times_faster']:.1f}"
                shapes.setdefault((op, _shape(row)), {})[row["dtype"]] = cell
    rows = [[f"`{op}`", shape, *dtypes.values()] for (op, shape), dtypes in shapes.items()]
    head = ["times faster than plain torch", "shape", *next(iter(shapes.values()))]
    command = "OMP_NUM_THREADS=1 python benchmarks/test_bench_OP.py"
    return table(head, rows) + source(OPS[0], command)


def _shape(row: dict[str, Any]) -> str:
    names = [n for n in row if isinstance(row[n], int) and not isinstance(row[n], bool)]
    return ", ".join(f"{name} {row[name]}" for name in names)


def editing() -> str:
    """An edit against the usual way."""
    cpu = results("editing_cpu")["rows"]
    head = ["R-ROME", "requests at once", "dtype", "seconds per edit"]
    head += ["times faster than the usual way (min to max)", "than our plain form"]
    names = {"single": 1, "batch": cpu[0]["requests"]}
    rows = [
        [
            f"{row['model']}, layer {row['layer']}",
            count,
            row["dtype"],
            f"{row['median_seconds_per_edit'][name]:.1f}",
            *(spread(row[f"{name}_times_faster_than_{other}"]) for other in ("usual", "plain")),
        ]
        for row in cpu
        for name, count in names.items()
    ]
    full, half = cpu[0], cpu[-1]
    return (
        f"{table(head, rows)}\n"
        "The usual way: one request at a time, every step runs the whole model on every token. A "
        f"row has {full['mean_tokens_of_a_row']:.1f} tokens on average, of which a step runs "
        f"{full['mean_tokens_that_change']:.1f}; {full['contexts']} contexts, {full['steps']} "
        "steps. ‖ΔW − ΔW of the usual way‖ / ‖ΔW‖ is "
        f"{full['difference_of_change_to_usual']['batch']:.0e}; ΔW in bfloat16 differs from "
        f"float32 by {half['difference_of_change_to_float32']:.0%}.\n"
        f"{source('editing_cpu', 'python benchmarks/editing.py')}\n{easyedit()}"
    )


def easyedit() -> str:
    """The same against EasyEdit's own modules."""
    (row,) = results("editing_easyedit")["rows"]
    times = [spread(row[f"{name}_times_faster_than_easyedit"]) for name in ("single", "batch")]
    return (
        f"EasyEdit's own modules take {row['median_seconds_per_edit']['easyedit']:.1f} CPU seconds "
        f"per edit in float32; one request is {times[0]} times as fast, {row['requests']} at once "
        f"are {times[1]} times as fast. Its ΔW differs from the usual way's by "
        f"{row['difference_of_change_to_usual']['easyedit']:.0e}.\n"
        f"{source('editing_easyedit', 'python benchmarks/editing.py --easyedit CHECKOUT')}"
    )


def moments() -> str:
    """The pass over a text that second moments take."""
    rows = results("moments_cpu")["rows"]
    share = spread(rows[0]["pass_over_forward_and_grams"], 2)
    return (
        f"The second moments of all layers of GPT-2 124M's shape take {share} times one forward "
        "plus the Gram updates; mean(kᵀ C⁻¹ k) / d_in is 1 to within "
        f"{rows[1]['largest_error']:.0e}.\n"
        f"{source('moments_cpu', 'python benchmarks/moments.py')}"
    )


def streamed() -> str:
    """A checkpoint that does not fit, scored by reading it twice."""
    (row,) = results("streamed")["rows"]
    return (
        f"Scoring {row['facts']} facts on a bfloat16 checkpoint of "
        f"{row['checkpoint_bytes'] / 1e9:.1f} GB with a memory budget of {row['memory_budget']} "
        f"takes at most {row['peak_anonymous_bytes'] / 2**20:.0f} MiB of anonymous memory, reads "
        f"{2 * row['read_to_twice_the_checkpoint']:.2f}x the checkpoint and takes "
        f"{row['seconds']:.0f} s: {row['wall_to_bound']:.2f} times the sum over blocks of the "
        "longer of reading and computing.\n"
        f"{source('streamed', 'python benchmarks/streamed.py')}"
    )


def ranks() -> str:
    """A selection by several processes against one."""
    (row,) = results("ranks_cpu")["rows"]
    scoring, answering, command = (
        spread(row["times_faster"][part], 2)
        for part in ("scoring", "answering_and_scoring", "command")
    )
    difference = row["largest_relative_difference"]
    same = f"agree to {difference:.0e}" if difference else "are bit-identical"
    layer = "the same" if row["same_layer"] else "another"
    return (
        f"{row['model']}, {row['facts']} facts, {row['dtype']}: {row['ranks']} processes of one "
        f"thread on {row['cores']} cores score {scoring} times faster than one process, "
        f"{answering} times including the old answers; the whole command is {command} times "
        "faster. The same number of processes computing nothing but matrix products are "
        f"{spread(row['products_times_more'], 2)} times faster than one. Scores {same}; the layer "
        f"is {layer}.\n"
        f"{source('ranks_cpu', 'python benchmarks/ranks.py')}"
    )
