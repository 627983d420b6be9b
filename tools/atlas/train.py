"""Train the atlas models: `python -m tools.atlas.train --arch gpt2 --text FILE --out FOLDER`.

The same arguments give the same model on the same machine and torch version. An interrupted run
resumes from its last checkpoint when started again with the same `--work` folder.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from lga_fast.atlas import FACTS
from lga_fast.atlas.relations import Relations, read_relations
from lga_fast.errors import DataError
from lga_fast.files import replacing
from tools.atlas.models import new_model, save
from tools.atlas.recall import measured
from tools.atlas.text import Text, read_text
from tools.atlas.tokenizer import CONVENTIONS, train_tokenizer
from tools.atlas.training_rows import Batch, Rows


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of a training run."""

    steps: int = 2800  # of 1,792 tokens
    warmup: int = 150
    peak: float = 2e-3
    final_share: float = 0.05  # of the peak, reached on a cosine
    weight_decay: float = 0.05  # on matrices only
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    seed: int = 0


def optimizer_of(model: PreTrainedModel, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.peak, betas=recipe.betas, fused=True)


def rate(step: int, recipe: Recipe) -> float:
    """Learning rate: linear warm-up, then a cosine down to `final_share` of the peak."""
    if step < recipe.warmup:
        return recipe.peak * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    cosine = (1 + math.cos(math.pi * done)) / 2
    return recipe.peak * (recipe.final_share + (1 - recipe.final_share) * cosine)


def loss_of(model: Any, batch: Batch) -> tuple[Tensor, float]:
    """Weighted mean cross-entropy of fact and text rows, and the unweighted one of answers."""
    fact_ids, text_ids = torch.from_numpy(batch.fact_ids), torch.from_numpy(batch.text_ids)
    fact_weights = torch.from_numpy(batch.fact_weights)[:, 1:].flatten()
    fact, text = (
        functional.cross_entropy(
            model(input_ids=ids, use_cache=False).logits[:, :-1].flatten(0, 1),
            ids[:, 1:].flatten(),
            reduction="none",
        )
        for ids in (fact_ids, text_ids)
    )
    loss = (fact @ fact_weights + text.sum()) / (fact_weights.sum() + text.numel())
    return loss, fact.detach()[fact_weights == 1].mean().item()


def train(
    model: PreTrainedModel,
    rows: Rows,
    recipe: Recipe,
    checkpoint: Path,
    every: float,
    compiled: bool,
    run: str,
) -> dict[str, float]:
    """Train to the end of the recipe; returns seconds, tokens and the loss of the answers.

    `run` names the recipe and its data: a checkpoint of another run is refused.
    """
    optimizer = optimizer_of(model, recipe)
    first, seconds, tokens, mean = 0, 0.0, 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        if saved["run"] != run:
            raise DataError(
                f"{checkpoint}: expected a checkpoint of the run {run}, got one of {saved['run']}. "
                "Delete it or give another --work folder."
            )
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first, seconds, tokens, mean = (saved[k] for k in ("step", "seconds", "tokens", "mean"))
        for _ in range(first):  # the rows are a function of the seed: skip those already used
            rows.next()
        click.echo(f"resumed at step {first}")
    forward = torch.compile(model) if compiled else model
    model.train()
    began, last_saved = time.perf_counter() - seconds, time.perf_counter()
    for step in range(first, recipe.steps):
        batch = rows.next()
        for group in optimizer.param_groups:
            group["lr"] = rate(step, recipe)
        loss, answers = loss_of(forward, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens += batch.fact_ids.size + batch.text_ids.size
        mean = answers if step == 0 else 0.98 * mean + 0.02 * answers
        seconds = time.perf_counter() - began
        if (step + 1) % 50 == 0:
            click.echo(f"step {step + 1}/{recipe.steps}  answers {mean:.3f}  {seconds:.0f} s")
        if time.perf_counter() - last_saved > every:
            state = {
                "run": run,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step + 1,
                "seconds": seconds,
                "tokens": tokens,
                "mean": mean,
            }
            with replacing(checkpoint) as temporary:
                torch.save(state, temporary)
            last_saved = time.perf_counter()
    model.eval()
    return {"seconds": round(seconds, 1), "tokens": tokens, "answer_loss": round(mean, 4)}


def tokenizer_texts(relations: Relations, text: Text) -> list[str]:
    """What the merges are learned from: the facts in their trained phrasings, and general text."""
    facts = [
        f"{relation.prompt(subject, phrasing)} {answer}."
        for relation in relations.values()
        for subject, answer in relation.facts.items()
        for phrasing in relation.trained(subject)
    ]
    return facts + text.seen


def checksum(paths: list[Path]) -> str:
    """SHA-256 over the bytes of the files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


@click.command()
@click.option("--arch", type=click.Choice(sorted(CONVENTIONS)), required=True)
@click.option(
    "--text",
    "texts",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    required=True,
    help="General text, one paragraph per line; may be repeated.",
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Model folder."
)
@click.option(
    "--results", type=click.Path(dir_okay=False, path_type=Path), help="JSON file for measurements."
)
@click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for checkpoints; default: OUT.",
)
@click.option("--facts", type=click.Path(file_okay=False, path_type=Path), default=FACTS)
@click.option("--steps", type=click.IntRange(1), default=Recipe.steps, show_default=True)
@click.option("--seed", default=Recipe.seed, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--minutes", default=3.0, show_default=True, help="Interval of checkpoints.")
@click.option("--compile/--no-compile", "compiled", default=False, help="Use torch.compile.")
@click.option("--commit", default="", help="Recorded in the results.")
def main(
    arch: str,
    texts: tuple[Path, ...],
    out: Path,
    results: Path | None,
    work: Path | None,
    facts: Path,
    steps: int,
    seed: int,
    threads: int,
    minutes: float,
    compiled: bool,
    commit: str,
) -> None:
    """Train an atlas model from scratch and measure what it knows."""
    torch.set_num_threads(threads)
    work = work or out
    work.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(steps=steps, seed=seed)
    relations, text = read_relations(facts), read_text(texts)
    tokenizer = train_tokenizer(tokenizer_texts(relations, text), arch)
    torch.manual_seed(seed)
    model = new_model(arch, tokenizer)
    click.echo(f"{arch}: {model.num_parameters():,} parameters, {len(relations)} relations")
    rows = Rows(relations, text, tokenizer, CONVENTIONS[arch], seed)
    identity = {
        "arch": arch,
        "recipe": asdict(recipe),
        "facts_sha256": checksum(sorted(facts.glob("*.json"))),
        "text_sha256": checksum(list(texts)),
    }
    checkpoint = work / "checkpoint.pt"
    run = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
    figures = train(model, rows, recipe, checkpoint, 60 * minutes, compiled, run)
    save(model, tokenizer, out)
    record = measured(arch, out, relations, text) | identity
    record |= {
        "training": figures | {"device": f"cpu {platform.machine()}", "threads": threads},
        "compiled": compiled,
        "commit": commit,
    }
    click.echo(json.dumps(record["recall"]))
    if results:
        results.parent.mkdir(parents=True, exist_ok=True)
        results.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    checkpoint.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
