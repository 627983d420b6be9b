"""A config in EasyEdit's manner, and what an editor makes of one."""

from __future__ import annotations

from lga_fast.editors import _options

FACT = {"prompt": "The capital of France is", "subject": "France", "target_new": "Rome"}
PLAIN = {"contexts": ("", "The book. ")}
# In the shape of EasyEdit's hparams; YAML 1.1 reads 5e-1 and 1e-3 as text.
HPARAMS = """\
alg_name: "ROME"
model_name: "./models/some-model"
stats_dir: "./data/stats"
device: 0
layers: [3]
fact_token: "subject_last"
v_num_grad_steps: 4
v_lr: 5e-1
v_loss_layer: 4
v_weight_decay: 1e-3
clamp_norm_factor: 3
kl_factor: 0.0625
mom2_adjustment: false
context_template_length_params: [[5, 10], [10, 10]]
rewrite_module_tmp: "model.layers.{}.mlp.down_proj"
ln_f_module: "model.norm"
mom2_dataset: "wikipedia"
mom2_n_samples: 100000
fp16: true
"""


def resolved(model, config=None, *, name="rome", layer=None, preset="easyedit", **options):
    """Editor, layer and provenance; layer 1 where nothing says which."""
    layer = 1 if config is None and layer is None else layer
    return _options.resolve(model, name, layer, preset, config, options)
