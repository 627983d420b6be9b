"""Models: loading, families, taps."""

from lga_fast.models.applying import Applied
from lga_fast.models.editable import EditableModel
from lga_fast.models.load import load
from lga_fast.models.streamed import StreamedModel
from lga_fast.models.taps import Tap, Taps

__all__ = ["Applied", "EditableModel", "StreamedModel", "Tap", "Taps", "load"]
