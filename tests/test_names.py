"""One name stands for one thing: no two modules export different things under the same name."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import blemish

SOURCE = Path(blemish.__file__).parent

# A name that stands for the same idea in each of these modules, and why that is not confusing.
ALLOWED = {
    "fits": "each layout has it",
    "read": "each layout has it, and images",
    "FORMAT": "each export format has it",
    "router": "each module of routes has it",
    "learn": "the command and the function behind it",
    "export_model": "the command and the function behind it",
    "auroc": "of scores, and of the table behind them; and likewise the next four",
    "average_precision": "",
    "f1_max": "",
    "aupro": "",
    "aupimo": "",
    "load_backbone": "of a folder, and of a model's name",
    "phrases": "each paper's own",
}


def exported_definitions(path: Path) -> set[str]:
    """The names in a module's `__all__` that it defines itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    exported: set[str] = set()
    defined: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            defined |= set(names)
            if names == ["__all__"] and node.value is not None:
                exported = set(ast.literal_eval(node.value))
    return exported & defined


def test_no_two_modules_export_the_same_name() -> None:
    modules: dict[str, list[str]] = defaultdict(list)
    for path in sorted(SOURCE.rglob("*.py")):
        where = path.relative_to(SOURCE)
        if where.parts[0] == "cli":
            continue  # a command has the name of the function that does its work
        for name in exported_definitions(path):
            modules[name].append(where.as_posix())
    twice = {name: where for name, where in sorted(modules.items()) if len(where) > 1 and name not in ALLOWED}
    assert not twice, twice
