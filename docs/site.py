"""Which pages the site has, and in which order: a hook of mkdocs, and an extension of its reader of docstrings.

Pages lie in the site as in the repository, so that the links among README.md, docs/ and bench/ hold in both.
"""

from __future__ import annotations

import tempfile
from itertools import chain
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
# Pages of docs/. What is not named comes last.
SECTIONS = {
    "Use": ["examples", "drop_in", "online"],
    "Train": ["data", "training", "recognition", "detection", "prediction"],
    "Inside": ["design", "kernels", "performance", "data_speed", "scaling"],
    "Measured": ["evidence", "report"],
}
# Modules with a page of their public names.
MODULES = ["hitrs_fast", "hitrs_fast.compat", "hitrs_fast.online", "hitrs_fast.scoring", "hitrs_fast.kernels"]

_package = tempfile.TemporaryDirectory()


@event_priority(100)  # before mkdocstrings makes its reader
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lays the package out as an installed one: a checkout has kernels/ beside it, where the reader would not look."""
    package = Path(_package.name) / "hitrs_fast"
    if not package.exists():
        package.mkdir()
        for path in [*(ROOT / "hitrs_fast").glob("*.py"), ROOT / "kernels"]:
            (package / path.name).symlink_to(path)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [_package.name]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The files of docs/ one folder further down, README.md, bench/README.md and the reference; and the navigation."""
    named = [file.src_uri for file in files if file.src_dir == config.docs_dir and not file.src_uri.endswith(".py")]
    moved = ["README.md", "bench/README.md", *(f"docs/{name}" for name in named)]
    reference = {f"reference/{module}.md": f"::: {module}\n" for module in MODULES}
    config.nav = _navigation([name for name in named if name.endswith(".md")], list(reference))
    return Files(
        [
            *(file for file in files if file.src_dir != config.docs_dir),
            *(File(path, str(ROOT), config.site_dir, config.use_directory_urls) for path in moved),
            *(File.generated(config, path, content=text) for path, text in reference.items()),
        ]
    )


def _navigation(pages: list[str], reference: list[str]) -> list:
    sections = {title: [f"{name}.md" for name in names if f"{name}.md" in pages] for title, names in SECTIONS.items()}
    rest = [page for page in pages if page not in chain(*sections.values())]
    return [
        {"Overview": "README.md"},
        *({title: [f"docs/{page}" for page in section]} for title, section in sections.items()),
        *(f"docs/{page}" for page in rest),
        "bench/README.md",
        {"Reference": [{Path(page).stem: page} for page in reference]},
    ]


class FunctionsBeforeModules(griffe.Extension):
    """A name that a package exports and that is also one of its modules means what the module defines by that name."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        for package in (pkg, *pkg.modules.values()):
            for name in package.exports or ():
                member = package.members[str(name)]
                if member.is_module and name in member.members:
                    package.set_member(str(name), griffe.Alias(str(name), member.members[str(name)], parent=package))
