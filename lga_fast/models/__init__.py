"""What a model is: its blocks and MLP matrices, the gradients at them, and the edits it carries.

- `structure`, `editable` the model object; `edit_stack`, `edit_target` edits and what they change
- `loaded_check` refuses what is no such object yet
- `taps`, `moe` the two factors of each weight gradient, of linear modules and of fused experts
- `families/`, `family_lookup` where an architecture keeps its modules; of one without a file
  `family_guess` and `block_calls` find it out, and `family_check` proves it
- `block_runner`, `kv_cache` one block at a time, and the cache argument's name
- `module_lookup`, `module_patching` finding modules, and replacing their forward for a while
- `fingerprint`, `non_finite` a checksum of the weights, and which of them are NaN or infinite
- `half_products`, `pieced_linear` products in half precision on a CPU without instructions for it
- `tensor_utils` padding, precision and masks; weights of linear modules
"""

from lga_fast.models.edit_stack import Applied
from lga_fast.models.editable import EditableModel, ForwardJob
from lga_fast.models.loaded_check import check_loaded
from lga_fast.models.taps import Tap, Taps

__all__ = ["Applied", "EditableModel", "ForwardJob", "Tap", "Taps", "check_loaded"]
