"""Modules of lga_fast read from their source, so that a help text need not import torch.

`lga-fast select --help` shows the fields of every selector. Importing the selectors takes seconds;
reading what their files say of fields, base classes and type aliases takes milliseconds.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from typing import Any

from lga_fast import registry


@cache
def module(name: str) -> StaticModule:
    """Module `name`, each file read once."""
    return StaticModule(name)


class StaticModule(Mapping[str, Any]):
    """Names of a module, as attributes and as items, evaluated when they are asked for.

    Modules and classes of lga_fast are read in the same way. Functions, and whatever belongs to
    another library, are imported.
    """

    def __init__(self, name: str) -> None:
        """Read what each name is bound by; nothing is evaluated."""
        self._name = name
        self._bound: dict[str, tuple[ast.stmt, str]] = {}  # the statement, the name in it
        file = registry.source(name)
        for statement in ast.parse(file.read_text(encoding="utf-8"), file).body:
            for bound, inner in _names_bound_by(statement):
                self._bound[bound] = statement, inner

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(f"{self._name} binds no {name!r} at its top level") from error

    def __getitem__(self, name: str) -> Any:
        statement, inner = self._bound[name]
        match statement:
            case ast.ImportFrom(module=str(home)):
                return _imported(home, inner)
            case ast.Import():
                return importlib.import_module(inner)
            case ast.ClassDef():
                return StaticClass(statement, self)
            case ast.Assign(value=ast.expr() as value) | ast.AnnAssign(value=ast.expr() as value):
                return self.evaluate(value)
        package, _, member = self._name.rpartition(".")
        home = registry.registered(package).get(member, self._name)
        return getattr(importlib.import_module(home), name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._bound)

    def __len__(self) -> int:
        return len(self._bound)

    def evaluate(self, expression: ast.expr) -> Any:
        """The value of an expression of this module."""
        code = compile(ast.Expression(expression), self._name, "eval")
        return eval(code, {}, self)  # our own source, which an import would run as well


class StaticClass:
    """A class of a `StaticModule`: its dataclass fields, those of its bases included."""

    def __init__(self, node: ast.ClassDef, scope: StaticModule) -> None:
        """`node` in the module that defines it."""
        self._node, self._scope = node, scope

    @cached_property
    def fields(self) -> dict[str, StaticField]:
        """Fields by name, in the order that `dataclasses.fields` has."""
        fields: dict[str, StaticField] = {}
        for base in reversed([self._scope.evaluate(base) for base in self._node.bases]):
            fields |= base.fields if isinstance(base, StaticClass) else {}
        if any("dataclass" in ast.unparse(each) for each in self._node.decorator_list):
            for statement in self._node.body:
                match statement:
                    case ast.AnnAssign(target=ast.Name(id=name), annotation=hint, value=value):
                        if not ast.unparse(hint).startswith("ClassVar"):
                            fields[name] = StaticField(self._scope, hint, value)
        return fields


@dataclasses.dataclass(frozen=True)
class StaticField:
    """A dataclass field as its class declares it."""

    scope: StaticModule
    annotation: ast.expr
    value: ast.expr | None

    @cached_property
    def _declared(self) -> Any:
        return dataclasses.MISSING if self.value is None else self.scope.evaluate(self.value)

    @property
    def default(self) -> Any:
        """As of `dataclasses.Field`."""
        declared = self._declared
        return declared.default if isinstance(declared, dataclasses.Field) else declared

    @property
    def metadata(self) -> Mapping[str, Any]:
        """As of `dataclasses.Field`."""
        declared = self._declared
        return declared.metadata if isinstance(declared, dataclasses.Field) else {}

    @property
    def hint(self) -> Any:
        """The type, as `typing.get_type_hints` has it."""
        return self.scope.evaluate(self.annotation)


def _names_bound_by(statement: ast.stmt) -> Iterator[tuple[str, str]]:
    """Names that a statement binds, with what it calls them itself."""
    match statement:
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from ((alias.asname or alias.name, alias.name) for alias in names)
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
            yield name, name
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            yield name, name


def _imported(home: str, name: str) -> Any:
    """What `from home import name` gives."""
    if home.partition(".")[0] != __name__.partition(".")[0]:
        return getattr(importlib.import_module(home), name)
    submodule = f"{home}.{name}"
    return module(submodule) if registry.source(submodule).exists() else module(home)[name]
