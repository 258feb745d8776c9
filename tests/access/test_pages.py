"""What browsers are told, with and without HTTPS, and what errors tell."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.conf import settings as site
from django.test import Client

from navembed_site.instance import first_user
from navembed_site.settings import HTTPS_SETTINGS
from tests.instance.conftest import Instance, instance, migrated_database

__all__ = ["instance", "migrated_database"]

pytestmark = pytest.mark.django_db

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
ANSWERS = ["/admin/login/", "/admin/", "/healthz", "/batch/progress", "/nothing", "/admin/nothing", "/setup/x"]
PAGES = ["/admin/", "/admin/jobs/new", "/admin/access/token/", "/admin/access/token/add/", "/api/docs"]


@pytest.mark.parametrize("path", ANSWERS)
def test_every_answer_carries_the_headers(client: Client, path: str) -> None:
    reply = client.get(path)
    policy = reply["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    relaxed = ["unsafe-eval", "unsafe-inline"] if path.startswith("/admin/") else []
    assert sorted(re.findall(r"unsafe-\w+", policy)) == relaxed
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
    assert (reply["X-Content-Type-Options"], reply["X-Frame-Options"]) == ("nosniff", "DENY")
    assert reply["Referrer-Policy"] == reply["Cross-Origin-Opener-Policy"] == "same-origin"
    assert not [name for name in reply.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("path", PAGES)
def test_pages_keep_to_their_own_policy(admin_client: Client, path: str) -> None:
    """No inline script or handler, no style but the theme's colours, and nothing from elsewhere."""
    page = admin_client.get(path).content.decode()
    scripts = [tag for tag in re.findall(r"<script[^>]*>", page) if "src=" not in tag and "application/json" not in tag]
    assert scripts == re.findall(r"<style(?! id=\"unfold-theme-colors\")|\son\w+=|\sstyle=|javascript:", page) == []
    assert not re.search(r"""(?:src|href|action)=["'](?:https?:)?//""", page)


def test_setup_page_keeps_to_its_policy(client: Client) -> None:
    page = client.get(first_user.new_link() or "").content.decode()
    assert "<style" not in page
    assert 'href="/static/access/page.css"' in page


@pytest.mark.parametrize(("path", "status"), [("/setup/x", 404), ("/static/x", 404), ("/admin", 404)])
def test_errors_of_pages_are_for_people(client: Client, path: str, status: int) -> None:
    reply = client.get(path)
    assert (reply.status_code, reply["Content-Type"]) == (status, "text/html; charset=utf-8")


@pytest.mark.parametrize("path", ["/", "/nothing", "/batch/start/", "/batch/", "/api/x", "/favicon.ico"])
def test_errors_elsewhere_are_for_programs(client: Client, path: str) -> None:
    reply = client.get(path)
    assert reply.status_code == 404
    assert isinstance(json.loads(reply.content), dict)


@pytest.mark.parametrize("path", ["/", "/admin"])
def test_browsers_are_led_to_the_console(path: str) -> None:
    reply = Client(headers=BROWSER).get(path)
    assert (reply.status_code, reply["Location"]) == (302, "/admin/")


def test_browsers_get_a_page_where_nothing_is() -> None:
    reply = Client(headers=BROWSER).get("/nothing")
    assert (reply.status_code, reply["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert 'href="/admin/"' in reply.content.decode()


@pytest.mark.parametrize("path", ["/batch/nothing", "/playlist", "/models/", "/healthz/", "/api/nothing", "/metrics/"])
def test_addresses_of_programs_answer_json_whoever_asks(path: str) -> None:
    reply = Client(headers=BROWSER).get(path)
    assert reply.status_code == 404
    assert isinstance(json.loads(reply.content), dict)


@pytest.mark.parametrize("path", ["/batch/progress", "/api/v1/batches", "/admin/login/"])
def test_fault_of_ours_tells_nothing(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("secret")

    client = Client(raise_request_exception=False)
    monkeypatch.setattr("django.contrib.messages.middleware.MessageMiddleware.process_request", fail)
    reply = client.get(path)
    assert reply.status_code == 500
    assert not re.search("secret|Traceback|ZeroDivision|navembed_site", reply.content.decode())


@pytest.mark.parametrize("path", ["/admin/login/", "/batch/progress", "/api/v1/batches"])
def test_wrong_name_names_its_variable(client: Client, path: str) -> None:
    reply = client.get(path, HTTP_HOST="evil.example")
    assert reply.status_code == 400
    assert "NAVEMBED_ALLOWED_HOSTS" in reply.content.decode()


def test_form_of_another_page_is_told_why() -> None:
    reply = Client(enforce_csrf_checks=True).post("/admin/login/", {"username": "x"})
    assert reply.status_code == 403
    assert "NAVEMBED_TRUSTED_ORIGINS" in reply.content.decode()


def test_debugging_is_off() -> None:
    assert site.DEBUG is False


# HTTPS


@pytest.fixture
def https(settings: Any) -> Client:
    """A browser behind a proxy that speaks HTTPS, with NAVEMBED_HTTPS=1."""
    for name, value in HTTPS_SETTINGS.items():
        setattr(settings, name, value)
    return Client(headers={"X-Forwarded-Proto": "https"})


def test_cookies_are_secure_and_https_is_remembered(https: Client) -> None:
    reply = https.get("/admin/login/")
    assert reply.cookies["csrftoken"]["secure"]
    assert reply["Strict-Transport-Security"] == "max-age=31536000"


@pytest.mark.parametrize("path", ["/admin/login/", "/admin/", "/api/docs"])
def test_pages_lead_to_https(https: Client, path: str) -> None:
    reply = Client().get(path)
    assert (reply.status_code, reply["Location"]) == (301, f"https://testserver{path}")


@pytest.mark.parametrize("path", ["/batch/start", "/batch/cancel", "/embed_text", "/playlist/all", "/api/v1/batches"])
def test_programs_are_never_redirected(https: Client, path: str) -> None:
    assert Client().post(path, "[]", content_type="application/json").status_code >= 400
    assert Client().get("/healthz").status_code == Client().get("/batch/progress").status_code == 200


def test_check_for_deployment_is_clean(instance: Instance) -> None:
    (instance.home / "music" / "a.flac").touch()
    checked = instance.run("check", "--deploy", NAVEMBED_HTTPS="1")
    found = set(re.findall(r"\((\w+\.\w\d+)\)", checked.stderr))
    assert (checked.returncode, found) == (0, set()), checked.stderr
