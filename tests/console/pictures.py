"""Makes the pictures of docs/console.md from a running demo: ``python -m tests.console.pictures ADDRESS PASSWORD``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from playwright.sync_api import Page, sync_playwright

from tests.console.browser import launch

FOLDER = Path(__file__).parents[2] / "docs" / "images"
WIDE, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
PAGES = {
    "home": "",
    "find": "find?q=slow+piano+at+night&limit=6",
    "jobs": "jobs",
    "job": "jobs/1",
    "start": "jobs/new?extent=all",
    "problems": "problems",
    "tracks": "tracks",
    "track": "tracks?q=Gamelan",
    "versions": "versions",
    "tokens": "access/token/",
    "map": "map",
    "duplicates": "duplicates",
    "uploads": "uploads",
    "panel": "/panel",
}
PHONE_PAGES = ("home", "job", "problems")
TAKES: tuple[tuple[Any, dict[str, Any]], ...] = (
    (PAGES, {"viewport": WIDE}),
    (PHONE_PAGES, {"viewport": PHONE, "color_scheme": "dark"}),
)


def main(address: str, password: str) -> None:
    """Sign in as the demo's user, and take one picture of each page."""
    with sync_playwright() as playwright, launch(playwright) as browser:
        for names, options in TAKES:
            with browser.new_context(**options) as context:
                page = context.new_page()
                _sign_in(page, address, password)
                for name in names:
                    page.goto(urljoin(f"{address}/admin/", PAGES[name]))
                    if name == "track":
                        page.locator("td a").first.click()
                    if name == "duplicates":
                        _look_for_duplicates(page)
                    page.wait_for_load_state("networkidle")
                    suffix = "-phone" if names is PHONE_PAGES else ""
                    page.screenshot(path=FOLDER / f"{name}{suffix}.png", full_page=bool(suffix))


def _look_for_duplicates(page: Page) -> None:
    page.get_by_role("button", name="Look for duplicates").click()
    while not page.locator("article").count():
        page.wait_for_timeout(1000)
        page.reload()


def _sign_in(page: Page, address: str, password: str) -> None:
    page.goto(f"{address}/admin/login/?next=/admin/")
    page.fill("[name=username]", "demo")
    page.fill("[name=password]", password)
    page.press("[name=password]", "Enter")
    page.wait_for_url(f"{address}/admin/")


if __name__ == "__main__":
    main(*sys.argv[1:3])
