"""Build the sdist and the wheel, install each in an empty environment, and select with it.

`make dist-check` runs this with the locked build tools. The wheel is built from the sdist, so the
build fails if the sdist lacks a file. No build is isolated: that would download a second torch.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "dist-check"
LOCK = ROOT / "requirements" / "lock-use.txt"
SOURCES = ("lga_fast", "csrc", "CMakeLists.txt", "setup.py", "pyproject.toml", "README.md")
TORCH = {"libtorch_cpu.so", "libtorch_cuda.so"}  # Python has loaded them before us
COMPILERS = ("c++", "g++", "clang++")
READ = """\
import sys
from pathlib import Path
from lga_fast import LayerRanking, ops
print(int(LayerRanking.from_json(Path(sys.argv[1]).read_text(encoding="utf-8"))))
print(ops.kernels()["cpu"])
"""


def main() -> None:
    """Build, compare what is inside with the repository, install three times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", required=True, help="requirement: the torch to install")
    torch = parser.parse_args().torch
    if not any(shutil.which(name) for name in COMPILERS):
        sys.exit(f"dist-check: expected a C++ compiler ({', '.join(COMPILERS)}) on the path")
    shutil.rmtree(WORK, ignore_errors=True)
    dist = WORK / "dist"
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, ROOT)
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    check_contents(sdist, wheel)
    check_platform(wheel)

    environment = WORK / "environment"
    run(sys.executable, "-m", "venv", environment)
    python = environment / "bin" / "python"
    scripts = str(environment / "bin")
    no_nvcc = os.pathsep.join([scripts, *path_without("nvcc")])
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    again = ("--no-deps", "--no-build-isolation", "--force-reinstall")

    run(*pip, torch, wheel, "-c", LOCK, path=scripts)
    check_select(environment, "wheel", "C++")
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    run(*pip, *build, "-c", LOCK)
    run(*pip, *again, sdist, path=scripts)
    check_select(environment, "sdist without a compiler", "torch reference")
    run(*pip, *again, sdist, path=no_nvcc)
    check_select(environment, "sdist with a compiler, without nvcc", "C++")


def run(*command: str | Path, path: str | None = None, cwd: Path = ROOT) -> str:
    """Standard output of a command run with this PATH and without CXX and CUDACXX."""
    env = {key: value for key, value in os.environ.items() if key not in ("CXX", "CUDACXX")}
    env |= {} if path is None else {"PATH": path}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"dist-check: {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def path_without(name: str) -> list[str]:
    """The folders of PATH that do not contain this executable."""
    folders = os.environ["PATH"].split(os.pathsep)
    return [folder for folder in folders if shutil.which(name, path=folder) is None]


def check_contents(sdist: Path, wheel: Path) -> None:
    """The sdist holds every source and nothing built, the wheel only the package and libraries."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", *SOURCES)
    sources = {name for name in listed.splitlines() if (ROOT / name).exists()}
    package = {name for name in sources if name.startswith("lga_fast/")}
    with tarfile.open(sdist) as file:
        packed = {str(PurePosixPath(*PurePosixPath(n).parts[1:])) for n in file.getnames()}
    with zipfile.ZipFile(wheel) as file:
        installed = {name for name in file.namelist() if ".dist-info/" not in name}
    libraries = {name for name in installed if name.endswith(".so")}
    faults = {
        "the sdist lacks": sources - packed,
        "the sdist has built libraries:": {name for name in packed if name.endswith(".so")},
        "the wheel lacks": package - installed,
        "the wheel has files that are not of the package:": installed - package - libraries,
    }
    if texts := [f"{what} {', '.join(sorted(names))}" for what, names in faults.items() if names]:
        sys.exit("dist-check: " + "\n".join(texts))
    print(f"dist-check: {len(packed)} entries in the sdist, {len(installed)} in the wheel")


def check_platform(wheel: Path) -> None:
    """The wheel's libraries ask for no others than torch's and those of any Linux (auditwheel)."""
    if sys.platform != "linux":
        return
    about = json.loads(run(sys.executable, "-m", "auditwheel", "show", "--json", wheel))
    if others := about["external_libs"].keys() - TORCH:
        sys.exit(f"dist-check: the wheel needs libraries that not every Linux has: {others}")
    print(f"dist-check: the wheel runs on {about['sym_tag']} and later, beside torch")


def check_select(environment: Path, case: str, kernels: str) -> None:
    """`lga-fast select` writes a ranking outside the repository, with these kernels on the CPU."""
    scripts, out = environment / "bin", WORK / "select"
    shutil.rmtree(out, ignore_errors=True)  # else an earlier case's ranking would do
    run(scripts / "lga-fast", "select", "--out", out, cwd=WORK)
    read = run(scripts / "python", "-c", READ, out / "ranking.json", cwd=WORK)
    layer, served = read.splitlines()
    if not served.startswith(kernels):
        sys.exit(f"dist-check: {case}: expected the CPU served by {kernels}, got {served}")
    print(f"dist-check: {case}: selects layer {layer}, the CPU is served by {served}", flush=True)


if __name__ == "__main__":
    main()
