"""GPT-OSS: experts with biases, stored d_in × d_out, gate and up interleaved."""

from lga_fast.models.families.mixtral import FAMILY as FAMILY
