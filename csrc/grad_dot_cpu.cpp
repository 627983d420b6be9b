// grad_dot on the CPU: pairs are cut into units of work by their shapes alone, and the units'
// partial sums are added in order.

#include "cpu_dispatch.h"
#include "ops.h"

namespace lga_fast {

namespace {

enum class Form { kGram, kSharedGram, kTile };

struct Unit {
  int64_t part, pair, i, j;  // Gram forms: tile (i, j); tiled form: x and y of the tile
  Form form;
};

const void* one_of(Dtype dtype) {
  static constexpr uint16_t kHalf = 0x3c00, kBFloat16 = 0x3f80;
  static constexpr float kFloat = 1;
  static constexpr double kDouble = 1;
  const void* ones[] = {&kHalf, &kBFloat16, &kFloat, &kDouble};
  return ones[static_cast<int>(dtype)];
}

// Whether two rows have the same inputs, as both answers' have that share a packed row.
bool same(const Matrix& x, const Matrix& y) {
  return x.data == y.data && x.rows == y.rows && x.row_stride == y.row_stride &&
         x.col_stride == y.col_stride;
}

// Compares multiply-adds for n tokens, old and new together: n(n+1)/2 Gram entries over d_in +
// d_out columns, a quarter of those over d_in where a is shared, against n outer products of
// d_in x d_out plus three sums over the tiles. Vectorized axes are rounded up to whole AVX-512
// vectors at every level: the choice must not depend on the level.
bool gram_is_cheaper(int64_t n, int64_t d_in, int64_t d_out, bool shared) {
  constexpr int64_t kWidestVector = 16;
  auto whole = [](int64_t d) { return double(ceil_div(d, kWidestVector) * kWidestVector); };
  const double wide = whole(std::max(d_in, d_out)), other = double(std::min(d_in, d_out));
  const double columns = whole(d_out) + (shared ? 0.25 : 1.0) * whole(d_in);
  const double gram = 0.5 * double(n) * double(n + 1) * columns;
  return gram <= double(n + 3) * wide * other;
}

void add_units(int64_t part, int64_t pair, const TokenRow& old_row, const TokenRow& new_row,
               std::vector<Unit>& units) {
  const int64_t n = old_row.a.rows + new_row.a.rows;
  const int64_t d_in = old_row.a.cols, d_out = old_row.d.cols;
  if (n == 0 || d_in == 0 || d_out == 0) return;  // the sums stay 0
  const bool shared = same(old_row.a, new_row.a);
  if (gram_is_cheaper(n, d_in, d_out, shared)) {
    const int64_t tiles = gram_tiles(shared ? old_row.a.rows : n);
    for (int64_t i = 0; i < tiles; ++i)
      for (int64_t j = i; j < tiles; ++j)
        units.push_back({part, pair, i, j, shared ? Form::kSharedGram : Form::kGram});
  } else {
    const TileGrid tiles = TileGrid::of_grad(d_in, d_out);
    for (int64_t tile = 0; tile < tiles.size(); ++tile)
      units.push_back({part, pair, tiles.x(tile), tiles.y(tile), Form::kTile});
  }
}

}  // namespace

Tensor grad_dot_cpu(const Tensor& a_old, const Tensor& d_old, const Tensor& rows_old,
                    const Tensor& a_new, const Tensor& d_new, const Tensor& rows_new, bool bias) {
  std::vector<GradDotArgs> parts = {grad_dot_args(a_old, d_old, rows_old, a_new, d_new, rows_new)};
  if (bias) parts.push_back(bias_of(parts[0], one_of(parts[0].old_rows.a.dtype)));
  const int64_t pairs = parts[0].old_rows.size(), count = static_cast<int64_t>(parts.size());

  std::vector<Unit> units;
  for (int64_t part = 0; part < count; ++part)
    for (int64_t pair = 0; pair < pairs; ++pair)
      add_units(part, pair, parts[part].old_rows[pair], parts[part].new_rows[pair], units);
  std::vector<DotSums> partial(units.size());
  const CpuKernels& kernels = cpu_kernels();
  for_each_unit(static_cast<int64_t>(units.size()), [&](int64_t index, void* scratch) {
    const Unit& unit = units[index];
    const auto share = unit.form == Form::kGram         ? kernels.gram_unit
                       : unit.form == Form::kSharedGram ? kernels.shared_gram_unit
                                                        : kernels.tile_unit;
    const GradDotArgs& part = parts[unit.part];
    partial[index] =
        share(part.old_rows[unit.pair], part.new_rows[unit.pair], unit.i, unit.j, scratch);
  });

  std::vector<double> sums(3 * pairs * count);
  for (size_t u = 0; u < units.size(); ++u) {
    double* pair = &sums[3 * (units[u].pair * count + units[u].part)];
    pair[0] += partial[u].dot;
    pair[1] += partial[u].norm2_old;
    pair[2] += partial[u].norm2_new;
  }
  Tensor out = bias ? torch::stable::new_empty(a_old, {pairs, 2, 3}, sum_dtype(a_old))
                    : torch::stable::new_empty(a_old, {pairs, 3}, sum_dtype(a_old));
  store_sums(sums, out);
  return out;
}

STABLE_TORCH_LIBRARY_IMPL(lga_fast, CPU, m) { m.impl("grad_dot", TORCH_BOX(&grad_dot_cpu)); }

}  // namespace lga_fast
