"""The rules of the package's structure."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from lga_fast import registry
from tests.house.imports import PACKAGE, Import, imports, modules

# From the lowest to the highest: a module imports from its own floor or a lower one.
FLOORS = [
    "errors undo parsing records layer_scores evaluation_records options registry run_identity "
    "files progress distributed extras chat",
    "tokens memory provenance weight_edit ops atlas datasets named_models",
    "models",
    "forward streaming",
    "loading load_arguments model_source gguf_file export scoring",
    "editors metrics",
    "sweep",
    "selectors evaluation",
    "studies reports integrations",
    "commands cli lm_harness __main__",
]
# Convenience methods of a record, which import what they call when they are called.
UPWARD = {
    ("lga_fast.weight_edit", "lga_fast.export.lora_adapter"),
    ("lga_fast.weight_edit", "lga_fast.export.merged_checkpoint"),
    ("lga_fast.weight_edit", "lga_fast.reports.notebook"),
    ("lga_fast.records", "lga_fast.reports.notebook"),
    ("lga_fast.layer_scores", "lga_fast.reports.notebook"),
    ("lga_fast.evaluation_records", "lga_fast.reports.notebook"),
    ("lga_fast.evaluation_records", "lga_fast.reports.evaluation"),
}
# Names of the public facade, which imports them when they are asked for.
FACADE = "lga_fast"
REGISTRIES = [
    "commands",
    "datasets",
    "editors",
    "metrics",
    "models.families",
    "selectors",
    "studies",
]
MAX_LINES = 250


def floor(module: str) -> int:
    top = module.split(".")[1]
    return next(i for i, names in enumerate(FLOORS) if top in names.split())


def inner() -> list[Import]:
    edges = [e for e in imports() if FACADE not in (e.module, e.imported)]
    return [e for e in edges if (e.module, e.imported) not in UPWARD]


def shown(edges: list[Import]) -> str:
    return "\n".join(f"{e.module}:{e.line} imports {e.imported}" for e in edges)


def test_imports_go_down():
    wrong = [e for e in inner() if floor(e.imported) > floor(e.module)]
    assert not wrong, shown(wrong)


def test_no_circle():
    graph: dict[str, set[str]] = {}
    for edge in inner():
        graph.setdefault(edge.module, set()).add(edge.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports in a circle: {' <- '.join(error.args[1])}")


def test_an_underscore_means_this_folder_only():
    def private(edge: Import) -> bool:
        folder, _, name = edge.imported.rpartition(".")
        return name.startswith("_") and folder not in (
            edge.module,  # the folder's own __init__
            edge.module.rpartition(".")[0],
        )

    wrong = [edge for edge in inner() if private(edge)]
    assert not wrong, shown(wrong)


def test_no_member_is_named_in_other_code():
    """A default of an option may name one; nothing may branch on names."""
    members = {
        name
        for package in ("selectors", "editors")
        for name in registry.names(f"lga_fast.{package}")
    }
    wrong = []
    for module, file in modules().items():
        if floor_name(module) not in ("selectors", "editors", "sweep", "studies", "evaluation"):
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        defaults = set(map(id, default_values(tree)))
        for node in ast.walk(tree):
            named = isinstance(node, ast.Constant) and node.value in members
            if named and id(node) not in defaults and node.value != file.stem:
                wrong.append(f"{module}:{node.lineno} names {node.value!r}")
    assert not wrong, "\n".join(wrong)


def floor_name(module: str) -> str:
    return module.partition(".")[2].partition(".")[0]


def default_values(tree: ast.AST) -> list[ast.AST]:
    """What stands where a field or an argument gets its default."""
    values: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.arguments):
            values += [one for default in node.defaults for one in ast.walk(default)]
            values += [one for default in node.kw_defaults if default for one in ast.walk(default)]
        elif isinstance(node, ast.AnnAssign) and node.value:
            values += ast.walk(node.value)
    return values


def test_models_answer_for_themselves():
    """What depends on where weights are is asked of the model, not of its class."""
    asked = [
        f"{module}: {line.strip()}"
        for module, file in modules().items()
        for line in file.read_text(encoding="utf-8").splitlines()
        if "isinstance(" in line and "StreamedModel" in line
    ]
    assert len(asked) <= 3, "\n".join(asked)


@pytest.mark.parametrize("package", REGISTRIES)
def test_every_registry_has_contract_tests_of_all_its_members(package):
    file = Path(__file__).parents[1] / "contracts" / f"test_{package.rpartition('.')[2]}.py"
    assert f'registry.names("lga_fast.{package}")' in file.read_text(encoding="utf-8")


def test_the_registries_are_all_there_are():
    found = {
        name.removeprefix("lga_fast.")
        for name, file in modules().items()
        if file.stem == "__init__" and "registry" in file.read_text(encoding="utf-8")
    }
    assert found <= {*REGISTRIES, "lga_fast"}, "a registry without contract tests"


def test_files_stay_short():
    folders = [PACKAGE, PACKAGE.parent / "tools", PACKAGE.parent / "tests"]
    lines = {
        str(file.relative_to(PACKAGE.parent)): len(file.read_text(encoding="utf-8").splitlines())
        for folder in folders
        for file in folder.rglob("*.py")
    }
    assert not {name: count for name, count in lines.items() if count > MAX_LINES}


def test_the_rules_see_what_they_forbid(monkeypatch, tmp_path):
    """The tests above can fail: a package that breaks each of the rules about imports."""
    package = tmp_path / "lga_fast"
    sources = {
        "errors.py": "def late():\n    from lga_fast.editors import rome\n",
        "editors/__init__.py": "",
        "editors/rome.py": "from lga_fast.metrics import _cases\n",
        "metrics/__init__.py": "",
        "metrics/_cases.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
        "    from lga_fast.editors import rome\n",
    }
    for name, text in sources.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    monkeypatch.setattr("tests.house.imports.PACKAGE", package)
    with pytest.raises(AssertionError, match=r"errors:2 imports lga_fast\.editors\.rome"):
        test_imports_go_down()
    with pytest.raises(pytest.fail.Exception, match="circle"):
        test_no_circle()
    with pytest.raises(AssertionError, match=r"rome:1 imports lga_fast\.metrics\._cases"):
        test_an_underscore_means_this_folder_only()
