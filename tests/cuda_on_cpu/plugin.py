"""A pytest plugin: the kernels of `torch.ops.lga_fast` are others than those of the package.

LGA_FAST_EMULATED names a library of emulated CUDA kernels. It takes the place of `lga_fast._C`: the
tests see kernels for the CPU, for an instruction set called "cuda". LGA_FAST_CPU_KERNELS names a
folder that holds another `_C`.
"""

import ctypes
import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import torch

import lga_fast

LEVEL = "cuda"


def _build_info() -> dict[str, object]:
    ctypes.CDLL(os.environ["LGA_FAST_EMULATED"])
    return {"cpu_levels": [LEVEL], "cpu_level": LEVEL}


def _use_cpu_level(name: str) -> None:
    if name != LEVEL:
        raise ValueError(f"use_cpu_level: expected one of build_info()['cpu_levels'], got {name}")


if os.environ["LGA_FAST_EMULATED"]:
    module = ModuleType("lga_fast._C")
    module.__spec__ = ModuleSpec("lga_fast._C", None)
    module.build_info = _build_info
    module.use_cpu_level = _use_cpu_level
    sys.modules["lga_fast._C"] = module
else:
    lga_fast.__path__.insert(0, os.environ["LGA_FAST_CPU_KERNELS"])

# Then torch fills memory that it has not written with NaN, workspaces of kernels too.
torch.use_deterministic_algorithms(True, warn_only=True)
