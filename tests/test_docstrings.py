"""Every public name says what it is, and of what shape its tensors are; the API reference is made of that."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
MODULES = ("hitrs_fast", "hitrs_fast.compat", "hitrs_fast.online", "hitrs_fast.scoring", "hitrs_fast.kernels")
TENSORS = re.compile(r"Tensor|ndarray")


def public() -> dict[str, Any]:
    """The names of each module's `__all__` that are not modules."""
    modules = {name: importlib.import_module(name) for name in MODULES}
    found = {f"{path}.{name}": getattr(module, name) for path, module in modules.items() for name in module.__all__}
    return {path: value for path, value in found.items() if not isinstance(value, ModuleType)}


def functions() -> Iterator[tuple[str, Any]]:
    """Public functions, and what can be called of public classes where this package defines it."""
    for path, value in public().items():
        if inspect.isfunction(value):
            yield path, value
        elif inspect.isclass(value):
            for base in value.__mro__:
                if base.__module__.startswith("hitrs_fast"):
                    for name, member in vars(base).items():
                        member = inspect.unwrap(getattr(member, "__func__", member))
                        if not name.startswith("_") and (inspect.isfunction(member) or hasattr(member, "__get__")):
                            yield f"{path}.{name}", getattr(member, "fget", getattr(member, "func", member))


CLASSES = {path: value for path, value in public().items() if inspect.isclass(value)}
FUNCTIONS = {path: f for path, f in functions() if inspect.isfunction(f)}


def fields(cls: type) -> list[tuple[str, str, str | None]]:
    """Annotated fields of a class: name, annotation and the text below it."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body  # type: ignore[attr-defined]
    found = []
    for statement, below in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign):
            text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else None
            found.append((ast.unparse(statement.target), ast.unparse(statement.annotation), text))
    return found


def test_what_is_looked_at() -> None:
    assert {"hitrs_fast.HiTRS.embed", "hitrs_fast.HiTRS.forward", "hitrs_fast.HiTRSConfig.paper"} <= FUNCTIONS.keys()
    assert {"hitrs_fast.SkeletonLayout.mirror", "hitrs_fast.kernels.gelu_mlp"} <= FUNCTIONS.keys()
    assert {"hitrs_fast.HiTRSOutput", "hitrs_fast.compat.Sizes", "hitrs_fast.online.Detector"} <= CLASSES.keys()


@pytest.mark.parametrize("path", CLASSES)
def test_class(path: str) -> None:
    """Dataclasses and named tuples without a docstring get their signature for one."""
    cls = CLASSES[path]
    assert cls.__doc__ and not cls.__doc__.startswith(f"{cls.__name__}(")
    for name, annotation, text in fields(cls):
        assert text, f"{path}.{name} has no docstring below it"
        assert not TENSORS.search(annotation) or "`[" in text, f"{path}.{name}: the docstring has no shape"


@pytest.mark.parametrize("path", FUNCTIONS)
def test_function(path: str) -> None:
    function = FUNCTIONS[path]
    text = function.__doc__
    assert text, f"{path} has no docstring"
    signature = inspect.signature(function)
    annotations = [p.annotation for p in signature.parameters.values()] + [signature.return_annotation]
    if any(TENSORS.search(str(annotation)) for annotation in annotations):
        assert "`[" in text, f"{path} takes or gives tensors, and its docstring has no shape such as `[F, J, C]`"


@pytest.mark.parametrize("path", [*CLASSES, *FUNCTIONS])
def test_lists_of_parameters_stand_under_args(path: str) -> None:
    """As paragraphs, one would run into the other on the page."""
    value = CLASSES.get(path) or FUNCTIONS[path]
    listed = [name for name in inspect.signature(value).parameters if re.search(rf"^ +{name}: ", value.__doc__, re.M)]
    assert len(listed) < 2 or "Args:\n" in value.__doc__, f"{path}: put {', '.join(listed)} under a line 'Args:'"


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name)
def test_lists_of_pages_stand_after_an_empty_line(page: Path) -> None:
    """GitHub makes a list of lines that follow a paragraph; Python's Markdown goes on with the paragraph."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    item = r"(?:[-*]|\d+\.) "
    broken = re.search(rf"^(?!\s*{item}|\s|#).+\n{item}.*$", text, re.MULTILINE)
    assert broken is None, f"an empty line is missing before the list: {broken.group()}"
