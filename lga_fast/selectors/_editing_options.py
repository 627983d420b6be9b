"""Options of selectors that edit facts to see which layer serves best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lga_fast.editors import Preset, check_options
from lga_fast.options import Options, option


@dataclass(frozen=True)
class EditingOptions(Options):
    """Which editor is tried, and where its options come from."""

    editor: str = option("r_rome", "Editor to try.", member="lga_fast.editors")
    preset: Preset = option(
        "easyedit", "Source of the editor's options where nothing else sets them."
    )
    config: str | Mapping | None = option(
        None, "YAML or JSON file of the editor's options.", path=True
    )

    def __post_init__(self) -> None:
        """Refuse a config that the editor cannot follow as well; its layers are not asked for."""
        super().__post_init__()
        check_options(self.editor, 0, self.config, {})
