"""Who may import whom: kernels <- hitrs_fast <- training; bench and tests may import all three."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Modules of the project that each folder's files may name.
ALLOWED = {
    "kernels": {"kernels"},
    "hitrs_fast": {"kernels", "hitrs_fast"},
    "training": {"kernels", "hitrs_fast", "training"},
    "bench": {"kernels", "hitrs_fast", "training", "bench"},
}


def room(module: str) -> str | None:
    """The folder that a module of the project lies in."""
    for prefix, folder in (("hitrs_fast.kernels", "kernels"), ("hitrs_fast.training", "training")):
        if module == prefix or module.startswith(prefix + "."):
            return folder
    first = module.split(".")[0]
    return first if first in {*ALLOWED, "tests"} else None


def imports(path: Path, folder: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {folder} if node.level else {f"{node.module}.{alias.name}" for alias in node.names}
    return {room(name) for name in found} - {None}


@pytest.mark.parametrize("folder", ALLOWED)
def test_arrows(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        assert imports(path, folder) <= ALLOWED[folder], path


def test_training_imports_its_own_modules_relatively() -> None:
    for path in (ROOT / "training").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                assert room(node.module) != "training", f"{path}: {node.module}"


def test_only_launching_code_needs_triton() -> None:
    for folder in ("hitrs_fast", "training"):
        for path in (ROOT / folder).rglob("*.py"):
            assert "import triton" not in path.read_text(), path
