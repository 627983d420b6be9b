"""Bugs to plant in the CUDA sources, one at a time: `tests/ops` must find each.

A bug is a piece of a file, which must be there exactly once, and what takes its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tests.cuda_on_cpu.build import ROOT, Sources, replace_once


class Bug(NamedTuple):
    """`op` names the kernels that have it and the tests that find it."""

    file: str
    op: str
    old: str
    new: str

    def plant(self, sources: Mapping[str, Sources]) -> dict[str, Sources]:
        """The sources with the bug in them."""
        unit = f"{self.op.removesuffix('_')}_cuda.cu"
        text = replace_once(sources[unit][self.file], self.old, self.new)
        return {**sources, unit: {**sources[unit], self.file: text}}

    @property
    def tests(self) -> list[str]:
        """Arguments of pytest: the first failure is enough."""
        of_op = sorted((ROOT / "tests" / "ops").glob(f"test_{self.op}*.py"))
        return ["-x", *map(str, of_op), "tests/ops/test_cpu_levels.py"]


def _bugs(file: str, *bugs: tuple[str, str, str]) -> list[Bug]:
    return [Bug(file, *bug) for bug in bugs]


BUGS = [
    *_bugs(
        "cuda_common.cuh",
        # alignment and bounds of loads
        ("grad_dot", "reinterpret_cast<uintptr_t>(m.data) % 16 == 0", "true"),
        ("grad_dot", "m.row_stride * int64_t(sizeof(T)) % 16 == 0", "true"),
        ("grad_dot", "m.col_stride == 1 &&", ""),
        ("grad_abs_sum", "x.aligned && col + kRun <= end", "x.aligned && col < end"),
        ("grad_abs_sum", "col + i < end ?", "col + i <= end ?"),
        ("grad_abs_sum", "i < slots.count[blockIdx.x]", "i <= slots.count[blockIdx.x]"),
        # dtypes
        ("grad_abs_sum", "operator()<__nv_bfloat16, float>", "operator()<__half, float>"),
        ("grad_dot", "operator()<double, double>", "operator()<double, float>"),
        # sums
        ("grad_dot", "slice[i][j] += y[i] * x[j]", "slice[i][j] += y[j] * x[i]"),
        ("grad_dot", "acc[i][j] += slice[i][j]", "acc[i][j] = slice[i][j]"),
        ("grad_abs_sum", "0xffffffffu", "0x0000ffffu"),
        ("grad_abs_sum", "int offset = 16;", "int offset = 8;"),
        ("grad_abs_sum", "if (lane == 0) warps", "if (lane == 1) warps"),
        ("grad_abs_sum", "  __syncthreads();\n  if (threadIdx.x == 0)", "  if (threadIdx.x == 0)"),
    ),
    *_bugs(
        "cuda_gram.cuh",
        # barriers: before a slice is overwritten, and before it is read
        (
            "grad_dot",
            "col += kDepth) {\n      __syncthreads();\n      *reinter",
            "col += kDepth) {\n      *reinter",
        ),
        ("grad_dot", "col += kDepth) {\n      __syncthreads();\n#", "col += kDepth) {\n#"),
        (
            "grad_dot",
            "      __syncthreads();\n      if (col + kDepth < end) load(col + kDepth);\n      if",
            "      if (col + kDepth < end) load(col + kDepth);\n      if",
        ),
        (
            "grad_dot",
            "      __syncthreads();\n      if (col + kDepth < end) load(col + kDepth);\n      mul",
            "      if (col + kDepth < end) load(col + kDepth);\n      mul",
        ),
        # bounds
        ("grad_dot", "if (token >= tokens) col = end = 0;", ""),
        ("grad_dot", "min(begin + columns, old_x.cols)", "begin + columns"),
        ("grad_dot", "i > j || j >= tokens", "j >= tokens"),
        # which part, which token, which sum
        ("grad_dot", "local * parts + part)", "local * parts)"),
        ("grad_dot", "int64_t p = 0; p < plan.parts_a", "int64_t p = 1; p < plan.parts_a"),
        ("grad_dot", "times = i == j ? 1 : 2;", "times = 2;"),
        ("grad_dot", "sum[3 + n] += times * d", "sum[3 + n] += d"),
        ("grad_dot", "if (i >= n_old)", "if (i > n_old)"),
        ("grad_dot", "token - n_old : 0", "token : 0"),
        ("grad_dot", "*i = index - col * (col + 1) / 2;", "*i = 0;"),
        # which warps have nothing to do, and which tiles one side alone
        (
            "grad_dot",
            "tile_i * kTile + piece.y0 >= tokens",
            "tile_i * kTile + piece.y0 + 16 > tokens",
        ),
        (
            "grad_dot",
            "tile_j * kTile + piece.x0 >= tokens",
            "tile_j * kTile + piece.x0 + 32 > tokens",
        ),
        ("grad_dot", "piece.y0 >= piece.x0 + 32", "piece.y0 >= piece.x0 + 16"),
        ("grad_dot", "diagonal = tile_i == tile_j", "diagonal = true"),
    ),
    *_bugs(
        "cuda_mma.cuh",
        ("grad_dot", "y[y0 + g + 8][k],", "y[y0 + g][k],"),
        ("grad_dot", "y[y0 + g][k + 4],", "y[y0 + g + 8][k],"),
        ("grad_dot", "x[x0 + 8 * n + g][k + 4]}", "x[x0 + 8 * n + g][k]}"),
        ("grad_dot", "k < kDepth / 2; k += 8", "k < kDepth / 2; k += 16"),
        ("grad_dot", "acc[n][i] += slice[n][i]", "acc[n][i] = slice[n][i]"),
        ("grad_dot", "g + i / 2 * 8", "g + i % 2 * 8"),
        ("grad_dot", "threadIdx.x / 128 * 32", "threadIdx.x / 128 * 16"),
        ("grad_dot", "float slice[4][4] = {};", "float slice[4][4];"),
    ),
    *_bugs(
        "cuda_tile.cuh",
        ("grad_abs_sum", "at += kDepth) {\n    __syncthreads();", "at += kDepth) {"),
        ("grad_abs_sum", "    __syncthreads();\n    if (at + kDepth", "    if (at + kDepth"),
        ("grad_abs_sum", "acc[i][j] = S(0)", "(void)acc[i][j]"),
        ("grad_abs_sum", "inside = at + t < tokens", "inside = at + t <= tokens"),
        ("grad_abs_sum", "if (col >= side.x.cols) return;", ""),
        ("grad_abs_sum", "if (r < side.y.cols)", "if (r < kThin)"),
        ("grad_abs_sum", "(side.x.cols + kTile - 1) / kTile", "side.x.cols / kTile + 1"),
        (
            "grad_abs_sum",
            "int64_t first = start; first < end",
            "int64_t first = start; first < length",
        ),
        ("grad_abs_sum", "g[r] += slice[r]", "g[r] = slice[r]"),
    ),
    *_bugs(
        "grad_dot_cuda.cu",
        (
            "grad_dot",
            "<<<part_grid, kThreads, 0, call.stream>>>",
            "<<<part_grid, kThreads, 0, nullptr>>>",
        ),
        ("grad_dot", 'check_launch("grad_dot: combine_kernel");', ""),
        ("grad_dot", "group.size == kSlots", "group.size == kSlots + 1"),
        ("grad_dot", "parts * pair + 1", "parts * pair"),
        ("grad_dot", "if (tokens == 0) continue;", ""),
        ("grad_dot", "if (d_out == 0 || (d_in == 0 && !bias)) return out;", ""),
        ("grad_dot", "{tiles_at_once * entries}", "{tiles_at_once * entries / 2}"),
        ("grad_dot", "int64_t(blockIdx.y) * gridDim.x + blockIdx.x) * 3", "blockIdx.x) * 3"),
        (
            "grad_dot",
            "group.pairs.new_rows.start[slot] = new_row.start",
            "group.pairs.new_rows.start[slot] = old_row.start",
        ),
    ),
    *_bugs(
        "grad_abs_sum_cuda.cu",
        ("grad_abs_sum", "g < 0 ? -g : g", "g"),
        ("grad_abs_sum", "g < 0 ? -g : g", "g < 0 ? -g : g > 0 ? g : S(0)"),
        ("grad_abs_sum", "out_index[i] = first + i", "out_index[i] = i"),
    ),
    *_bugs(
        "low_rank_update_cuda.cu",
        ("low_rank_update_", "row < rows && col < cols", "col < cols"),
        ("low_rank_update_", "row < rows && col < cols", "row < rows"),
        ("low_rank_update_", "blockIdx.x % tiles_x", "blockIdx.x / tiles_x"),
        ("low_rank_update_", "__float2bfloat16_rn(x)", "__float2bfloat16_rn(float(__half(x)))"),
        ("low_rank_update_", "args.left.dtype == Dtype::kDouble", "false"),
        ("low_rank_update_", "row * row_stride + col * col_stride", "row * cols + col"),
    ),
]
