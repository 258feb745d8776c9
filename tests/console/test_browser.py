"""The console in a browser, over a real instance with tiny models: what an operator does from the first start on."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from navembed_site.demo.encode import write_audio
from tests.audio_files import tone
from tests.console.browser import launch
from tests.instance.conftest import Instance, migrated_database
from tests.instances import shared_checkpoints

__all__ = ["migrated_database"]

AXE = Path(__file__).parent / "axe" / "axe.min.js"
PATIENCE_MS = 120_000  # of a busy machine
TRACKS = 4
RATE = 44_100
HOSTILE = "<img src=x onerror=window.hacked=1> {{ 7 }} ' x-init=window.hacked=1"
NAME, PASSWORD = "anna", "a-long-enough-secret"
SERIOUS = ("serious", "critical")
RULES: dict[Any, dict[str, Any]] = {"light": {}, "dark": {"runOnly": ["color-contrast", "link-in-text-block"]}}
DRESS_AND_LOOK = """async ([isDark, rules]) => {
    document.documentElement.classList.toggle("dark", isDark);
    const fading = document.getAnimations().filter((each) => each instanceof CSSTransition);
    await Promise.allSettled(fading.map((each) => each.finished));
    return (await axe.run(rules)).violations;
}"""
PAGES = (
    "", "find", "find?q=piano", "map", "map?way=pca&by=album", "duplicates",
    "jobs", "jobs/1", "jobs/1/failures", "jobs/new", "problems", "tracks", "uploads", "playlists",
    "versions", "auth/user/", "auth/user/1/change/", "auth/user/1/password/", "password_change/", "auth/user/add/",
    "access/token/", "access/token/add/", "problems?message=", "problems?show=ignored", "duplicates?show=rejected",
    "problems?show=ignored&message=", "nothing",
)  # fmt: skip


def new_token(page: Page) -> None:
    go(page, "access/token/add/")
    page.fill("[name=name]", "script")
    page.press("[name=name]", "Enter")
    expect(page.get_by_text("Copy it now")).to_be_visible()


def delete_user(page: Page) -> None:
    go(page, "auth/user/add/")
    page.fill("[name=username]", "bert")
    for name in ("password1", "password2"):
        page.fill(f"[name={name}]", PASSWORD)
    with page.expect_navigation():
        page.press("[name=password2]", "Enter")
    go(page, "auth/user/2/delete/")
    expect(page.get_by_text("bert").first).to_be_visible()


def open_track(page: Page) -> None:
    go(page, "tracks")
    page.get_by_role("link", name=HOSTILE, exact=True).first.click()
    expect(page.locator("#neighbours .nv-hits li").first).to_be_visible()


def open_dialog(page: Page) -> None:
    go(page, "")
    page.get_by_role("link", name="All anew …").first.click()
    expect(page.get_by_role("dialog").get_by_text("free")).to_be_visible()


REACHED = {"a user to go": delete_user, "a token": new_token, "a track": open_track, "a dialog": open_dialog}
"""Pages at which somebody has to do something."""

OUTSIDE = ("panel", "api/docs", "nothing-here", "setup/gone")
SWAGGER = "api/docs"  # its markup is not ours
WRONG_TRIES = 5  # then a name is locked out

expect.set_options(timeout=PATIENCE_MS)


class Watched:
    """What a page must never do: complain, call other hosts, run what a file is called."""

    def __init__(self, page: Page, base: str) -> None:
        self.complaints: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: said.type == "error" and self._hear(said.text))
        page.on("request", lambda asked: self._see(asked.url, base))

    def _hear(self, text: str) -> None:
        if not any(code in text for code in ("404 (Not Found)", "429 (Too Many")):  # pages that are asked for
            self.complaints.append(text)

    def _see(self, url: str, base: str) -> None:
        if not url.startswith((base, "data:", "blob:")):
            self.complaints.append(f"asked {url}")


@pytest.fixture(scope="module")
def served(migrated_database: Path) -> Iterator[Instance]:
    """An instance with a folder of music that nobody has embedded, and no user yet."""
    home = Path(tempfile.mkdtemp(prefix="nt-", dir="/tmp"))
    music = home / "music"
    music.mkdir()
    shutil.copy(migrated_database, home)
    for number in range(TRACKS):
        write_audio(music / f"Track {number}.flac", tone(5.0, RATE, seed=number), RATE)
    shutil.copy(music / "Track 0.flac", music / "Copy of 0.flac")
    write_audio(music / f"{HOSTILE}.flac", tone(5.0, RATE, seed=TRACKS), RATE)
    (music / f"broken {HOSTILE}.mp3").write_bytes(b"this is no music " * 400)
    environment = {
        "NAVEMBED_HOME": str(home), "NAVEMBED_LIBRARY": "folder", "NAVIDROME_MUSIC_ROOT": str(music),
        "TEXT_EMBEDDING_DEVICE": "cpu", "NAVEMBED_DECODE_PROCESSES": "1", "DATABASE_URL": "",
    }  # fmt: skip
    weights = {f"NAVEMBED_{key.upper()}": str(folder) for key, folder in shared_checkpoints().items()}
    made = Instance(home=home, environment=environment | weights)
    yield made
    made.run("stop")
    made.end()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright, launch(playwright) as started:
        yield started


@pytest.fixture(scope="module")
def signed_in(served: Instance, browser: Browser) -> Iterator[BrowserContext]:
    """Whoever follows the link that `serve` prints makes the first user, and is signed in."""
    link = re.search(r"http://\S+/setup/\S+", served.run("serve", "--detach").stdout)
    assert link
    with browser.new_context(viewport={"width": 1440, "height": 900}) as context:
        page = context.new_page()
        page.goto(link[0])
        page.fill("[name=username]", NAME)
        page.fill("[name=password1]", PASSWORD)
        page.fill("[name=password2]", PASSWORD)
        with page.expect_navigation():  # a page that is closed meanwhile may hang for ever
            page.click("button[type=submit]")
        page.close()
        yield context


@pytest.fixture
def page(signed_in: BrowserContext, served: Instance) -> Iterator[Page]:
    page = signed_in.new_page()
    watched = Watched(page, f"http://127.0.0.1:{served.port}")
    page.goto(f"http://127.0.0.1:{served.port}/admin/")
    yield page
    assert page.evaluate("window.hacked") is None
    page.close()
    assert watched.complaints == []


@pytest.fixture
def embedded(page: Page) -> None:
    """A first job has ended, also where another process runs the test that watches it."""
    home = page.url
    if page.request.get(f"{home}jobs/1").status == 404:
        go(page, "jobs/new")
        press(page, "Start")
        expect(page.locator(".nv-state")).to_have_text(re.compile("Completed with errors"))
        page.goto(home)


def go(page: Page, path: str) -> None:
    page.goto(re.sub(r"/admin/.*", f"/admin/{path}", page.url))


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).first.click()


def test_first_job_from_the_checklist_to_its_end(page: Page, served: Instance) -> None:
    """Start, pause, resume; the worker is killed; the page tells all of it without being loaded again."""
    expect(page.get_by_text("Setting up")).to_be_visible()
    page.get_by_role("link", name="Start a job").click()
    page.get_by_label("MERT", exact=True).check()
    expect(page.get_by_text("vectors to compute")).to_contain_text(f"of {TRACKS + 3} tracks")
    press(page, "Start")
    press(page, "Pause")
    expect(page.locator(".nv-state")).to_have_text(re.compile("Paused"))
    press(page, "Cancel")
    expect(page.locator(".nv-state")).to_have_text(re.compile("Cancelled"))
    press(page, "Resume")
    expect(page.locator(".nv-state")).to_have_text(re.compile("Running"))
    page.evaluate("window.isSamePage = true")
    os.kill(served.processes()["worker"]["pid"], signal.SIGKILL)
    expect(page.locator(".nv-state")).to_have_text(re.compile("Completed with errors"))
    expect(page.get_by_text(f"{TRACKS + 3} of {TRACKS + 3} tracks")).to_be_visible()
    assert page.evaluate("window.isSamePage")
    page.clock.install()
    page.reload(wait_until="networkidle")
    asked: list[str] = []
    page.on("request", lambda each: asked.append(each.url))
    page.clock.run_for(60_000)
    assert asked == []  # of a job that has ended nothing changes any more


@pytest.mark.usefixtures("embedded")
def test_a_failure_is_tried_again_and_then_ignored(page: Page) -> None:
    go(page, "jobs/1")
    press(page, "Retry these")
    expect(page.locator(".nv-state")).to_have_text(re.compile("Completed with errors"))
    press(page, "Ignore these")
    expect(page.get_by_text("1 file is ignored until it changes")).to_be_visible()
    go(page, "problems")
    expect(page.get_by_text("Every file that was tried has its vectors, or is ignored.")).to_be_visible()


@pytest.mark.usefixtures("embedded")
def test_music_is_found_by_words_and_heard(page: Page) -> None:
    page.get_by_label("Find a track, or music by words").fill("slow piano at night")
    press(page, "Find")
    expect(page.locator(".nv-hits li").first).to_be_visible()
    page.locator("[data-play]").first.click()
    page.wait_for_function("document.getElementById('player-audio').currentTime > 0")
    page.locator(".nv-hits a").first.click()
    expect(page.locator("#neighbours .nv-hits li").first).to_be_visible()


@pytest.mark.usefixtures("embedded")
def test_a_track_with_a_hostile_name_is_only_shown(page: Page) -> None:
    go(page, "tracks")
    page.get_by_role("link", name=HOSTILE, exact=True).first.click()
    expect(page.get_by_role("heading", name=HOSTILE)).to_be_visible()
    page.locator("[data-play]").first.click()
    expect(page.locator("#player-title")).to_have_text(HOSTILE)
    assert not page.locator("img[src=x]").count()


@pytest.mark.usefixtures("embedded")
def test_the_map_shows_tracks_and_leads_to_them(page: Page) -> None:
    go(page, "map")
    expect(page.locator(f"[data-drawn='{TRACKS + 2}']")).to_be_visible()
    box = page.locator("[data-map] canvas").bounding_box()
    assert box
    x, y = page.evaluate("document.querySelector('[data-map]').plot.getScreenPosition(0)")
    page.mouse.move(box["x"] + x - 40, box["y"] + y)
    page.mouse.move(box["x"] + x, box["y"] + y, steps=4)
    expect(page.locator(".nv-map-name b")).not_to_be_empty()
    title = str(page.locator(".nv-map-name b").text_content())
    page.mouse.click(box["x"] + x, box["y"] + y)
    expect(page.get_by_role("heading", name=title)).to_be_visible()


@pytest.mark.usefixtures("embedded")
def test_a_copy_is_found_and_said_to_be_none(page: Page) -> None:
    go(page, "tracks")
    page.get_by_role("link", name="Track 0", exact=True).click()
    press(page, "Find duplicates")
    expect(page.locator("#duplicates").get_by_role("link", name="Copy of 0")).to_be_visible()
    go(page, "duplicates")
    press(page, "Look for duplicates")
    expect(page.get_by_text("The whole library has been compared")).to_be_visible()
    go(page, "duplicates")
    page.get_by_role("button", name="Not a duplicate: Copy of 0").first.click()
    expect(page.get_by_text("Copy of 0 is no duplicate.")).to_be_visible()


@pytest.mark.usefixtures("embedded")
def test_a_browser_without_webgl_is_told_so(page: Page) -> None:
    page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    go(page, "map")
    expect(page.get_by_text("it needs WebGL")).to_be_visible()


@pytest.mark.usefixtures("embedded")
def test_a_new_job_appears_in_the_lists_and_all_anew_says_what_it_costs(
    page: Page, served: Instance, signed_in: BrowserContext
) -> None:
    other = signed_in.new_page()
    other.goto(page.url + "jobs")
    page.get_by_role("link", name="All anew …").last.click()
    expect(page.get_by_role("dialog").get_by_text("free")).to_be_visible()
    page.get_by_role("dialog").get_by_role("button", name="Start").click()
    expect(page.locator(".nv-state")).to_have_text(re.compile("Completed"))
    expect(other.locator("#job-row-2")).to_contain_text("Completed")
    go(page, "")
    expect(page.locator("#job-row-2")).to_contain_text("latent")
    other.close()


@pytest.mark.usefixtures("embedded")
def test_new_vectors_are_built_and_the_former_come_back(page: Page) -> None:
    go(page, "jobs/new?models=latent&extent=all")
    press(page, "Start")
    expect(page.locator(".nv-state")).to_have_text(re.compile("Completed"))
    go(page, "versions")
    press(page, "Go back")
    page.get_by_role("dialog").get_by_role("button", name="Go back").click()
    expect(page.get_by_text("Search uses the former latent vectors again.")).to_be_visible()


def test_the_theme_and_the_menu_work(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.get_by_role("link", name="Versions")).not_to_be_visible()
    page.locator("[x-on\\:click*=sidebarMobileOpen]:visible").first.click()
    page.get_by_role("link", name="Versions").click()
    expect(page.get_by_text("What search uses, what is built")).to_be_visible()


@pytest.mark.usefixtures("embedded")
def test_every_page_fits_and_is_accessible(browser: Browser, signed_in: BrowserContext, served: Instance) -> None:
    base, state = f"http://127.0.0.1:{served.port}", signed_in.storage_state()
    found: dict[str, Any] = {}
    narrow: Any = {"width": 390, "height": 900}
    with browser.new_context(viewport=narrow, storage_state=state, reduced_motion="reduce") as context:
        page = context.new_page()
        watched = Watched(page, base)
        for path in (*PAGES, *REACHED, *OUTSIDE):
            if path in REACHED:
                REACHED[path](page)
            else:
                page.goto(f"{base}/{path}" if path in OUTSIDE else f"{base}/admin/{path}")
            page.wait_for_load_state("networkidle")
            for width in (1440, 390):  # it was opened as narrow as the one before was left
                page.set_viewport_size({"width": width, "height": 900})
                if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                    found[f"{path} is too wide"] = width
                if path != SWAGGER:
                    found |= {f"{path}: {rule}": nodes for rule, nodes in violations(page).items()}
        assert page.evaluate("window.hacked") is None
    assert (found, watched.complaints) == ({}, [])


@pytest.mark.parametrize("path", ["admin/", SWAGGER])
@pytest.mark.parametrize("scheme", RULES)
def test_pages_follow_the_system_to_light_and_dark(
    browser: Browser, signed_in: BrowserContext, served: Instance, path: str, scheme: Any
) -> None:
    with browser.new_context(color_scheme=scheme, storage_state=signed_in.storage_state()) as context:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{served.port}/{path}")
        expect(page.locator("html.dark, html.dark-mode")).to_have_count(int(scheme == "dark"))


@pytest.mark.usefixtures("signed_in")  # somebody is; the instance runs
def test_who_is_not_signed_in_finds_pages_in_the_same_dress(browser: Browser, served: Instance) -> None:
    base = f"http://127.0.0.1:{served.port}"
    with browser.new_context(viewport={"width": 390, "height": 844}) as context:
        page = context.new_page()
        watched = Watched(page, base)
        for number in range(WRONG_TRIES):
            page.goto(f"{base}/admin/login/")
            if number == 0:
                assert violations(page) == {}
            page.fill("[name=username]", "nobody")
            page.fill("[name=password]", "wrong")
            with page.expect_navigation():  # else the next one could come before the try has arrived
                page.press("[name=password]", "Enter")
        expect(page.get_by_role("heading", name="Too many attempts")).to_be_visible()
        assert violations(page) == {}
        page.get_by_role("link", name="To the sign-in").click()
        expect(page.get_by_label("Username")).to_be_visible()
    assert watched.complaints == []


def violations(page: Page) -> dict[str, list[str]]:
    """Return what axe finds serious in the light, and in the dark of what that can change; with the elements."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text())
    found = []
    for scheme, rules in RULES.items():
        page.emulate_media(color_scheme=scheme)
        found += page.evaluate(DRESS_AND_LOOK, [scheme == "dark", rules])
    serious = [each for each in found if each["impact"] in SERIOUS]
    return {each["id"]: [node["html"][:200] for node in each["nodes"][:3]] for each in serious}
