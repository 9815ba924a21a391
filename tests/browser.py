"""A page in a browser without a screen."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

needs_browser = pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")


def shown(page: Path, folder: Path) -> str:
    """The page's elements once it is shown. Asserts that there was no message of the console, and takes a picture
    `page.png` in the folder."""
    base = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    shot = ["--window-size=900,1200", f"--screenshot={folder / 'page.png'}", "--enable-logging=stderr", page.as_uri()]
    done = subprocess.run([*base, *shot], capture_output=True, text=True, timeout=60, check=True)
    assert "CONSOLE" not in done.stderr and (folder / "page.png").stat().st_size > 10_000
    dom = [*base, "--dump-dom", page.as_uri()]
    return subprocess.run(dom, capture_output=True, text=True, timeout=60, check=True).stdout
