"""R-ROME against the usual way, on random weights: `python benchmarks/editing.py`.

The usual way is that of other libraries: one request at a time, every step runs the whole model on
every token and takes log-probabilities at all of them, and keys and outputs are read one context at
a time. Our own plain form is timed as well (`FullForward`: the whole model, but logits only where a
loss reads them). All optimise the same δ; the changes are compared before anything is timed.
Without arguments: GPT-2 124M's shape, layer 5, 20 steps, 21 contexts, one thread, CPU seconds;
float32, then bfloat16; writes results/editing_cpu.json. With `--easyedit CHECKOUT` EasyEdit's own
modules take part, in float32, and results/editing_easyedit.json is written.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config

import lga_fast
from lga_fast import atlas
from lga_fast.editors import _contexts, _moments, _rank_one, _value_solver, r_rome
from lga_fast.editors._value_problem import answer_row
from lga_fast.forward.clean_run import Readout
from lga_fast.forward.patched_forward import FullForward
from lga_fast.forward.suffix_forward import SuffixForward
from lga_fast.models import EditableModel
from lga_fast.models.tensor_utils import padded
from lga_fast.records import EditRequest, find_subject
from lga_fast.tokens import token_at

try:
    from benchmarks import easyedit_way, timing
    from benchmarks.selection import _peak_bytes, _spread
except ImportError:
    import easyedit_way
    import timing
    from selection import _peak_bytes, _spread

SEED = 0
# From the subject's last token on there are as many as in CounterFact's requests: 4 on average.
PROMPTS = [
    ("The mother tongue of {} is", "English"),
    ("{} plays the instrument", "piano"),
    ("The capital city of {} is", "Rome"),
    ("{} was born in the old city of", "Paris"),
]
SUBJECTS = ["France", "Chet Baker", "Oscar Niemeyer", "Albert Camus", "Japan", "Miles Davis"]
SUBJECTS += ["Frida Kahlo", "Thomas Mann", "Kenya", "Nina Simone", "Alvar Aalto", "Toni Morrison"]
SUBJECTS += ["Peru", "Bill Evans", "Zaha Hadid", "Jane Austen"]
LAYER = 5
HOW = _value_solver.Optimisation(steps=20, weight_decay=0.5, stop_loss=0.0)


def model_of(
    dtype: torch.dtype, device: str = "cpu", config: GPT2Config | None = None
) -> EditableModel:
    """GPT-2 124M's shape with random weights and a tokenizer that knows some of its ids."""
    torch.manual_seed(SEED)
    config = config or GPT2Config(attn_implementation="sdpa")
    hf = AutoModelForCausalLM.from_config(config, dtype=dtype)
    tokenizer = AutoTokenizer.from_pretrained(atlas.folder("atlas"))
    return EditableModel(hf.eval().to(device), tokenizer, "random gpt2")


def requests_of(count: int = 16) -> list[EditRequest]:
    """Every prompt with every subject, up to 64."""
    texts = [(p.format(s), s, answer) for s in SUBJECTS for p, answer in PROMPTS]
    return [
        EditRequest(str(i), text, answer, s, find_subject(text, s))
        for i, (text, s, answer) in enumerate(texts[:count])
    ]


Change = tuple[torch.Tensor, torch.Tensor]


def ours(
    runner: type[FullForward],
    layer: int,
    model: EditableModel,
    requests: list[EditRequest],
    contexts: tuple[str, ...],
) -> list[Change]:
    """Left and right factors of each request's change, solved together."""
    values = _value_solver.optimise(
        model, layer, requests, contexts, HOW, runner=runner, show_progress=False
    )
    return [_rank_one.update(v, _rank_one.direction(v.keys), r_rome.mean) for v in values]


def usual(
    layer: int, model: EditableModel, requests: list[EditRequest], contexts: tuple[str, ...]
) -> list[Change]:
    """The same, one request at a time, the whole model on every token in every step."""
    with model.frozen():
        return [usual_edit(model, request, contexts, layer, HOW) for request in requests]


def usual_edit(
    model: EditableModel,
    request: EditRequest,
    contexts: tuple[str, ...],
    layer: int,
    how: _value_solver.Optimisation,
    moment: _moments.Moments | None = None,
) -> Change:
    """Left and right factors of one request's change."""
    answers = [answer_row(model, context, request) for context in contexts]
    about = f"{request.subject} is a"
    about_ids = list(model.tokenizer(about)["input_ids"])
    about_at = token_at(model.tokenizer, about, len(request.subject or "") - 1, about_ids)
    padded_ids = padded([*(row.ids[:-1] for row, _ in answers), about_ids])
    subject = torch.tensor([*(at for _, at in answers), about_at])
    labels = torch.full(padded_ids.shape, -100)
    for i, (row, _) in enumerate(answers):
        labels[i, row.start - 1 : len(row.ids) - 1] = torch.tensor(row.target)
    every, wanted = torch.arange(len(subject)), labels != -100
    module, device = model.matrix(layer, model.family.edited), model.device
    ids, seen = padded_ids.to(device), {}

    def add(m: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        if "initial" not in seen:
            seen["initial"] = output[0, subject[0]].detach().float()
            seen["delta"] = torch.zeros_like(seen["initial"], requires_grad=True)
        output = output.clone()
        output[every, subject] += seen["delta"].to(output.dtype)
        return output

    handle = module.register_forward_hook(add)
    adam, before = None, None
    for step in range(how.steps):
        log_p = model.hf(input_ids=ids, use_cache=False).logits.float().log_softmax(-1)
        picked = log_p.gather(2, labels.clamp(min=0).to(device).unsqueeze(2)).squeeze(2)
        mask = wanted.to(picked)
        nll = -((picked * mask).sum(1)[:-1] / mask.sum(1)[:-1]).mean()
        now = log_p[-1, about_at]
        before = now.detach() if before is None else before
        kl = functional.kl_div(before, now, log_target=True, reduction="sum")
        delta, size = seen["delta"], seen["initial"].norm()
        loss = nll + how.kl_factor * kl + how.weight_decay * delta.norm() / size**2
        if step == how.steps - 1 or loss.item() < how.stop_loss:
            break
        adam = adam or torch.optim.Adam([delta], lr=how.lr)
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            if delta.norm() > how.clamp * size:
                delta.mul_(how.clamp * size / delta.norm())
    handle.remove()
    read = [key_of(model, layer, row.ids[: row.start], at) for row, at in answers]
    keys, outputs = (torch.cat(x) for x in zip(*read, strict=True))
    value = _value_solver.Value(seen["initial"], seen["delta"].detach(), (), False, keys, outputs)
    return _rank_one.update(value, _rank_one.direction(keys, moment), r_rome.mean)


def key_of(model: EditableModel, layer: int, ids: tuple[int, ...], at: int) -> Change:
    """Input and output of the edited matrix at a token, by a forward of its own."""
    subject, first = torch.tensor([at]), torch.zeros(1, dtype=torch.long)
    reads = Readout(torch.tensor([ids]), subject, first, subject)
    run = FullForward.run(model, [layer], reads, ())
    return run.keys[layer].float(), run.outputs[layer].float()


def compare(
    dtype: torch.dtype,
    device: str = "cpu",
    repeats: int = 3,
    config: GPT2Config | None = None,
    count: int = 16,
    layer: int = LAYER,
    more: Mapping[str, Callable[..., list[Change]]] = MappingProxyType({}),
) -> dict[str, Any]:
    """Seconds per edit, ratios, peak memory and agreement, alternating in one process."""
    model, requests = model_of(dtype, device, config), requests_of(count)
    contexts = _contexts.generate(lga_fast.load("atlas", device="cpu"))  # a random model's are odd
    ways: dict[str, tuple[Callable[..., list[Change]], list[EditRequest]]] = {
        "batch": (partial(ours, SuffixForward, layer), requests),
        "single": (partial(ours, SuffixForward, layer), requests[1:2]),  # a tail of the mean length
        "plain": (partial(ours, FullForward, layer), requests[1:2]),
        "usual": (partial(usual, layer), requests[1:2]),
    }
    ways |= {name: (way, requests[1:2]) for name, way in more.items()}
    peaks, changes = {}, {}
    for name, (way, few) in ways.items():  # also the warm-up
        peaks[name], changes[name] = _peak_bytes(device, way, model, few, contexts)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    clock = time.perf_counter if device == "cuda" else time.process_time
    for _ in range(repeats):
        for name, (way, few) in ways.items():
            started = clock()
            way(model, few, contexts)
            if device == "cuda":
                torch.cuda.synchronize()
            seconds[name].append((clock() - started) / len(few))
    rows = [_value_solver._rows(model, request, contexts) for request in requests]
    row = {
        "model": f"gpt2, {model.layers} layers, width {model.config.hidden_size}",
        "device": device,
        "dtype": str(dtype)[6:],
        "layer": layer,
        "steps": HOW.steps,
        "contexts": len(contexts),
        "requests": len(requests),
        "mean_tokens_of_a_row": statistics.mean(len(ids) for r in rows for ids in r.ids[:-1]),
        "mean_tokens_that_change": statistics.mean(r.tail for r in rows),
        "seconds_per_edit": seconds,
        "median_seconds_per_edit": {name: statistics.median(s) for name, s in seconds.items()},
        "peak_bytes_above_model": peaks,
        "difference_of_change_to_usual": {
            name: _difference(changes[name][-1 if name != "batch" else 1], changes["usual"][0])
            for name in ("single", "batch", "plain", *more)
        },
    }
    for mine in ("single", "batch"):
        for theirs in ("usual", "plain", *more):
            pairs = zip(seconds[theirs], seconds[mine], strict=True)
            row[f"{mine}_times_faster_than_{theirs}"] = _spread([t / m for t, m in pairs])
    return row | {"_change": changes["single"][0]}


def _difference(change: Change, wanted: Change) -> float:
    """‖ΔW - ΔW'‖ / ‖ΔW'‖."""
    dense, other = (torch.outer(*(x.double() for x in pair)) for pair in (change, wanted))
    return float((dense - other).norm() / other.norm())


def main() -> None:
    """The figures for one CPU thread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--easyedit", type=Path)
    options = parser.parse_args()
    repeats = options.repeats
    torch.set_num_threads(1)
    if options.easyedit:
        theirs = easyedit_way.of(options.easyedit, LAYER, HOW)
        row = compare(torch.float32, "cpu", repeats, more={"easyedit": theirs})
        del row["_change"]
        timing.write_result("editing_easyedit", [row], SEED)
        return
    full, half = (compare(dtype, "cpu", repeats) for dtype in (torch.float32, torch.bfloat16))
    half["difference_of_change_to_float32"] = _difference(half.pop("_change"), full.pop("_change"))
    timing.write_result("editing_cpu", [full, half], SEED)


if __name__ == "__main__":
    main()
