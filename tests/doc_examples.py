"""Running the Python code of a Markdown text as it is printed."""

from __future__ import annotations

import re
from typing import Any


def run_examples(text: str) -> dict[str, Any]:
    """Runs the ```python blocks of `text` one after another; what they have defined, by name."""
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        exec(compile(block, "example", "exec"), names)
    return names
