"""The documentation as a site: it builds without a warning, and every public name is in it."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from test_docstrings import MODULES

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow
for package in ("mkdocs", "material", "mkdocstrings_handlers.python"):
    pytest.importorskip(package, reason="the site needs pip install -e '.[docs]'")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "WARNING -" not in done.stderr, done.stderr
    return folder


@pytest.mark.parametrize("path", MODULES)
def test_every_public_name_is_there(site: Path, path: str) -> None:
    page = (site / "reference" / f"{path}.html").read_text()
    module = importlib.import_module(path)
    names = [name for name in module.__all__ if not isinstance(getattr(module, name), ModuleType)]
    assert [name for name in names if f'id="{path}.{name}"' not in page] == []


def test_methods_and_fields_are_there(site: Path) -> None:
    page = (site / "reference" / "hitrs_fast.html").read_text()
    for name in ("HiTRS.embed", "HiTRSConfig.widths", "PretextBatch.pair", "SkeletonLayout.mirror"):
        assert f'id="hitrs_fast.{name}"' in page
    assert "__post_init__" not in page


def test_every_document_is_a_page(site: Path) -> None:
    overview = (site / "index.html").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / "docs" / f"{page.stem}.html").exists()
        assert f'href="docs/{page.stem}.html"' in overview, f"{page.name} is not in the navigation"
    assert 'href="bench/index.html"' in overview and (site / "docs" / "img" / "demo.png").exists()
