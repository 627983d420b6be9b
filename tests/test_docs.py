"""The code of README and of every page of docs runs as it stands, in its order."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from running import run

import lga_fast.atlas
from lga_fast import registry
from tools.doc_blocks import Block, blocks

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    if blocks(path)
}
README = "README.md"
# What is not run: the beginnings of commands, and first lines of other blocks, with the reason.
NOT_RUN = {
    README: {
        "pip install": "installs",
        "make demo": "sets up an environment",
        "torchrun": "needs GPUs",
        "lga-fast study": "run in docs/start/paper.md",
        "import lga_fast": "run in tests/test_readme.py",
    },
    "docs/install.md": {
        "pip install": "installs",
        "cibuildwheel": "builds wheels in containers",
        "TORCH_CUDA_ARCH_LIST": "builds a wheel, as make dist-check does",
    },
    "docs/evaluate.md": {
        "from lga_fast.evaluation import lm_harness": "downloads a data set",
        "lga-fast study": "run in docs/start/paper.md",
    },
    "docs/machines.md": {
        "torchrun": "needs GPUs or machines",
        "import lga_fast": "needs torchrun; tests/test_distributed.py runs the same",
        "head=": "needs Slurm",
        "srun": "needs Slurm",
    },
    "docs/serving.md": {
        "python -m vllm": "run in tools/servers.py",
        "text-generation-launcher": "needs a GPU",
        "python convert_hf_to_gguf.py": "run in tools/servers.py",
        "llama-completion": "run in tools/servers.py",
        "transformers serve": "run in tools/servers.py",
        "curl": "run in tools/servers.py",
    },
}
# What takes as long as the user's data, made short.
SHORTER = {
    r"--layer 17": "--layer 1",
    r"--(limit|proxy|test|steps) \d+": r"--\1 2",
}
EXTRA = ["--steps", 15, "--layer", 0]  # of `lga-fast edit`
VERIFIED = ("docs/serving.md", "docs/start/serving.md")  # where edits have to succeed


def not_run(page: str, line: str) -> bool:
    return any(line.startswith(start) for start in NOT_RUN.get(page, {}))


def lines(block: Block) -> list[str]:
    return block.commands if block.language in ("sh", "bash") else [block.first_line]


def shortened(text: str) -> str:
    for pattern, shorter in SHORTER.items():
        text = re.sub(pattern, shorter, text)
    return text


@pytest.fixture
def user(tmp_path, monkeypatch, request):
    """A user's folder: models and data under the names that the pages use; edits are quick."""
    monkeypatch.chdir(tmp_path)
    page = request.node.callspec.params["page"] if hasattr(request.node, "callspec") else ""
    quick = shutil.copytree(lga_fast.atlas.folder(), tmp_path / "gpt2-xl")
    options = json.loads((quick / "editing.json").read_text(encoding="utf-8"))
    for own in options.values():
        own["contexts"] = []
        if page not in VERIFIED:
            own["steps"] = 3
            own.pop("mom2_adjustment", None)
    (quick / "editing.json").write_text(json.dumps(options), encoding="utf-8")
    monkeypatch.setitem(lga_fast.atlas.MODELS, "gpt2", quick)
    shutil.copytree(quick, "FOLDER")
    facts = lga_fast.load_edits("atlas", limit=4)
    records = [
        {
            "subject": fact.subject,
            "prompt": fact.prompt,
            "target_new": fact.target_new,
            "ground_truth": [fact.target_old],
            "rephrase_prompt": fact.probes[0].prompt,
            "locality": {},
        }
        for fact in facts
    ]
    for name in ("FILE", "ZsRE-test-all.json"):
        Path(name).write_text(json.dumps(records), encoding="utf-8")
    hparams = "alg_name: ROME\nmodel_name: atlas\ndevice: cpu\nlayers: [0]\nv_lr: 5e-1\n"
    Path("hparams/ROME").mkdir(parents=True)
    Path("hparams/ROME/gpt2-xl.yaml").write_text(hparams + "v_num_grad_steps: 3\ncontexts: []\n")
    registry.registered.cache_clear()
    yield tmp_path
    registry.registered.cache_clear()


def run_page(page: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Runs a page's blocks; what the commands printed, by command."""
    outputs, names = {}, {"__name__": "__main__"}
    for number, block in enumerate(blocks(PAGES[page])):
        if block.title:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.text, encoding="utf-8")
        if block.title == "pyproject.toml":
            installed(block.text, monkeypatch)
        elif block.language == "python" and not block.title:
            if not not_run(page, block.first_line):
                exec(compile(shortened(block.text), f"{page}, block {number}", "exec"), names)
        elif block.language in ("sh", "bash"):
            for place, line in enumerate(block.commands):
                if not not_run(page, line):
                    line = re.sub(r"\bDIR\b", f"dir{number}-{place}", shortened(line))
                    outputs[" ".join(shlex.split(line)[:2])] = run_command(line)
    return outputs


def run_command(line: str) -> str:
    program, *arguments = shlex.split(line, comments=True)
    if program == "lga-fast":
        return run(*arguments, *(EXTRA if arguments[0] == "edit" else []))
    if program == "python":
        code = compile(Path(arguments[0]).read_text(encoding="utf-8"), arguments[0], "exec")
        exec(code, {"__name__": "__main__"})
        return ""
    beside = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment = os.environ | beside | {"PYTHONPATH": str(ROOT)}
    subprocess.run(["bash", "-e", "-c", line], check=True, env=environment)
    return ""


def installed(pyproject: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `pip install` would leave of a package's entry points."""
    folder = Path("mine-0.dist-info")
    folder.mkdir()
    group, line = re.findall(r'"(.*)"\]\n(.*)', pyproject)[0]
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 0\n")
    (folder / "entry_points.txt").write_text(f"[{group}]\n{line.replace(chr(34), '')}\n")
    monkeypatch.syspath_prepend(Path.cwd())
    registry.registered.cache_clear()


@pytest.mark.filterwarnings("ignore::lga_fast.errors.LgaFastWarning")
@pytest.mark.parametrize("page", PAGES)
def test_code_runs(page, user, monkeypatch):
    outputs = run_page(page, monkeypatch)
    if page == "docs/serving.md":
        assert outputs["lga-fast verify"].startswith("weights: as they should be, 2 checked")
        assert "1 of 100 tensors differ" in outputs["lga-fast diff"]
        assert "tensors put back: 1" in outputs["lga-fast undo"]
        assert (user / "served-too" / "config.json").exists()
    if page == "docs/start/serving.md":
        assert "new answers: as they should be, 1 checked" in outputs["lga-fast verify"]
    if page == "docs/easyedit.md":
        assert {"edit.safetensors", "gpt2-xl-golden.yaml"} <= {p.name for p in user.iterdir()}


def test_what_does_not_run_is_listed_by_name():
    """Every entry of the list is there for a line, and no page holds its code in other fences."""
    for page, starts in NOT_RUN.items():
        every = [line for block in blocks(PAGES[page]) for line in lines(block)]
        for start in starts:
            assert any(line.startswith(start) for line in every), f"{page}: nothing is {start!r}"
    for page, path in PAGES.items():
        fences = re.findall(r"^```(\S*)", path.read_text(encoding="utf-8"), re.M)
        opened = {fence for fence in fences[::2]}
        assert opened <= {"python", "sh", "json", "yaml", "toml", "text", "bibtex"}, page


def test_what_is_said_of_servers_was_run():
    report = json.loads((ROOT / "benchmarks/results/servers.json").read_text(encoding="utf-8"))
    text = PAGES["docs/serving.md"].read_text(encoding="utf-8")
    for row in report["rows"]:
        assert row["version"].partition(" ")[0] in text and row["edited"].strip() in text
        assert all(command in text for command in row["commands"])
        assert report["new_answer"] in row["edited"] and report["new_answer"] not in row["base"]


def test_tests_that_guarantees_name_are_there():
    text = (ROOT / "docs/guarantees.md").read_text(encoding="utf-8")
    files = {ROOT / name for name in re.findall(r"`(tests/[\w/]+\.py)`", text)}
    assert len(files) > 10
    code = "".join(file.read_text(encoding="utf-8") for file in files)
    named = set(re.findall(r"`(test_\w+)`", text))
    assert len(named) > 8 and {name for name in named if f"def {name}(" not in code} == set()


@pytest.mark.filterwarnings("ignore::lga_fast.errors.LgaFastWarning")
def test_the_drop_in_runs_another_method_with_the_class_of_one(user, monkeypatch):
    """As EasyEdit itself allows."""
    hparams = Path("hparams/ROME/gpt2-xl.yaml")
    text = hparams.read_text().replace("ROME", "AlphaEdit").replace("[0]", "[0, 1]")
    hparams.write_text(text + "mom2_tokens: 1000\n")
    code = "".join(b.text for b in blocks(PAGES["docs/easyedit.md"]) if b.language == "python")
    names: dict = {}
    exec(compile(code.replace("ROMEHyper", "AlphaEditHyper"), "docs/easyedit.md", "exec"), names)
    assert names["metrics"][0]["post"].keys() > {"rewrite_acc", "rephrase_acc", "locality"}
    assert len(names["hparams"].layers) in (1, 2)  # the window ends at the chosen layer
