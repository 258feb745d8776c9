"""A browser for tests. ``python -m tests.console.browser`` gets one where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Browser, Playwright, sync_playwright

INSTALLED = ("chromium", "chromium-browser", "google-chrome")
FROM_DEBIAN = ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"]
FROM_PLAYWRIGHT = [sys.executable, "-m", "playwright", "install", "chromium"]
ADVICE = "The console's tests need a Chromium: `apt install chromium`, or `.venv/bin/playwright install chromium`."


def launch(playwright: Playwright) -> Browser:
    """Start a headless Chromium. Raises RuntimeError, with what to install, where there is none."""
    return playwright.chromium.launch(executable_path=_found(playwright), args=["--no-sandbox"])


def _found(playwright: Playwright) -> str:
    own = Path(playwright.chromium.executable_path)
    found = next(filter(None, map(shutil.which, INSTALLED)), None)
    if found or own.exists():
        return found or str(own)
    raise RuntimeError(ADVICE)


def get() -> None:
    """Install a Chromium where there is none: Debian's, as root on Debian, else Playwright's. Raises RuntimeError."""
    with sync_playwright() as playwright:
        try:
            _found(playwright)
        except RuntimeError:
            if os.geteuid() == 0 and shutil.which("apt-get"):
                subprocess.run(["apt-get", "update"], check=False)
                subprocess.run(FROM_DEBIAN, check=False, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
            else:
                subprocess.run(FROM_PLAYWRIGHT, check=False)
            _found(playwright)


if __name__ == "__main__":
    try:
        get()
    except RuntimeError as error:
        sys.exit(str(error))
