"""Models: loading, families, taps."""

from lga_fast.models.edit_stack import Applied
from lga_fast.models.editable import EditableModel, ForwardJob
from lga_fast.models.taps import Tap, Taps

__all__ = ["Applied", "EditableModel", "ForwardJob", "Tap", "Taps"]
