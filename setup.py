"""Runs CMake (generator: ninja) and places what it built; all else is in pyproject.toml.

`LGA_FAST_NO_EXT=1` builds nothing, and so does a machine without cmake, ninja or a C++ compiler:
the package then serves its ops by their plain-torch reference and says so in
`lga_fast.ops.kernels()`.
CMakeLists.txt names the other switches.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


def _tool(name: str) -> str | None:
    """A tool beside this Python (the pip packages cmake and ninja) or on the path."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)


def _missing_for_build() -> str | None:
    if os.environ.get("LGA_FAST_NO_EXT") == "1":
        return "LGA_FAST_NO_EXT=1"
    for tool in ("cmake", "ninja"):
        if _tool(tool) is None:
            return f"{tool} is not installed"
    if not any(shutil.which(c) for c in (os.environ.get("CXX"), "c++", "g++", "clang++") if c):
        return "no C++ compiler is installed"
    return None


class CMakeBuild(build_ext):
    """One CMake build gives all libraries; `_C` stands for them."""

    def run(self) -> None:
        """Build and place the libraries, or say in one line why not."""
        missing = _missing_for_build()
        if missing:
            print(f"lga_fast: native kernels are not built: {missing}", file=sys.stderr)
            return
        build = Path(self.build_temp).resolve() / "cmake"
        in_tree = self.inplace or self.editable_mode
        prefix = ROOT if in_tree else Path(self.build_lib).resolve()
        cmake = str(_tool("cmake"))
        configure = [cmake, "-G", "Ninja", "-S", str(ROOT), "-B", str(build)]
        configure += [
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DCMAKE_MAKE_PROGRAM={_tool('ninja')}",
            f"-DCMAKE_INSTALL_PREFIX={prefix}",
        ]
        subprocess.check_call(configure)
        jobs = [f"-j{self.parallel}"] if self.parallel else []
        # Without make's job server, whose pipes no process of ours has.
        environment = {key: value for key, value in os.environ.items() if key != "MAKEFLAGS"}
        subprocess.check_call([cmake, "--build", str(build), *jobs], env=environment)
        subprocess.check_call([cmake, "--install", str(build)])

    def get_outputs(self) -> list[str]:
        """What a wheel's record lists."""
        package = Path(self.build_lib) / "lga_fast"
        return [str(path) for path in package.rglob("*.so")]

    def get_output_mapping(self) -> dict[str, str]:
        """Empty: an editable install finds the libraries in the source tree."""
        return {}


setup(ext_modules=[Extension("lga_fast._C", sources=[])], cmdclass={"build_ext": CMakeBuild})
