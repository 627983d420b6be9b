"""EasyEdit's hparams: the keys of a YAML file as attributes, under EasyEdit's class names."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, TypeVar

import yaml

from lga_fast.editors import read_config
from lga_fast.errors import DataError
from lga_fast.files import write_atomic

H = TypeVar("H", bound="HyperParams")


class HyperParams(SimpleNamespace):
    """A config of one method; `lga_fast.edit(..., config=hparams)` takes it too.

    Attributes may be changed and added; what lga_fast does with each is in docs/easyedit.md. Text
    that is a number becomes one, since YAML reads `5e-1` as text. `layers` may be "auto".

    Raises:
        DataError: `alg_name` is another method's.
    """

    alg_name: ClassVar[str]
    max_length = 40
    model_parallel = False
    fp16 = False
    device: Any = None

    def __init__(self, **config: Any) -> None:
        """Keep the values under their keys."""
        if (given := config.get("alg_name", self.alg_name)) != self.alg_name:
            raise DataError(
                f"{type(self).__name__}: alg_name: expected {self.alg_name!r}, got {given!r}; use "
                "the class of that method"
            )
        super().__init__(**{key: _number(value) for key, value in config.items()})

    @classmethod
    def from_hparams(cls: type[H], hparams_name_or_path: str | os.PathLike[str]) -> H:
        """The config in a YAML or JSON file, whose suffix .yaml may be left out.

        Raises:
            DataError: the file cannot be read, or is of another method.
        """
        return cls(**read_config(hparams_name_or_path))

    from_json = from_hparams

    def to_dict(self) -> dict[str, Any]:
        """Keys and values."""
        return dict(vars(self))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a YAML file that `from_hparams` reads."""
        write_atomic(Path(path), yaml.safe_dump(self.to_dict(), sort_keys=False))


class BatchHyperParams(HyperParams):
    """A config of a method that edits many facts at once."""

    batch_size = 1


class ROMEHyperParams(HyperParams):
    """ROME."""

    alg_name = "ROME"


class R_ROMEHyperParams(HyperParams):
    """R-ROME."""

    alg_name = "R-ROME"


class MEMITHyperParams(BatchHyperParams):
    """MEMIT."""

    alg_name = "MEMIT"


class EMMETHyperParams(BatchHyperParams):
    """EMMET."""

    alg_name = "EMMET"


class PMETHyperParams(BatchHyperParams):
    """PMET."""

    alg_name = "PMET"


class AlphaEditHyperParams(BatchHyperParams):
    """AlphaEdit."""

    alg_name = "AlphaEdit"


def _number(value: Any) -> Any:
    if isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    return value


_CLASSES = {
    one.alg_name: one
    for one in (
        ROMEHyperParams,
        R_ROMEHyperParams,
        MEMITHyperParams,
        EMMETHyperParams,
        PMETHyperParams,
        AlphaEditHyperParams,
    )
}


def resolve(hparams: Any) -> HyperParams:
    """Hparams as they are, or those of EasyEdit's own object, or those in a file.

    Raises:
        DataError: the file cannot be read, or they are of a method that lga_fast does not have.
    """
    if isinstance(hparams, HyperParams):
        return hparams
    config = read_config(hparams)
    if (name := config.get("alg_name")) not in _CLASSES:
        raise DataError(f"hparams: alg_name: expected one of {', '.join(_CLASSES)}, got {name!r}")
    return _CLASSES[name](**config)
