"""A browser for tests: one that is installed, or Playwright's own, which is fetched where there is none."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Browser, Playwright

INSTALLED = ("chromium", "chromium-browser", "google-chrome")
FETCH = [sys.executable, "-m", "playwright", "install", "chromium"]
ADVICE = "The console's tests need a Chromium: `apt install chromium`, or `.venv/bin/playwright install chromium`."


def launch(playwright: Playwright) -> Browser:
    """Start a headless Chromium. Raises RuntimeError, with what to install, where none can be had."""
    own = Path(playwright.chromium.executable_path)
    found = next(filter(None, map(shutil.which, INSTALLED)), None)
    if found is None and not own.exists() and subprocess.run(FETCH, check=False).returncode:
        raise RuntimeError(ADVICE)
    return playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
