"""The OpenAPI document, and the page that shows it."""

from __future__ import annotations

import json
import re
import tomllib
from contextlib import closing
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.test import Client

from navembed_site import VERSION

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("schema") / "openapi.json"
    call_command("spectacular", validate=True, fail_on_warn=True, format="openapi-json", file=str(path))
    parsed: dict[str, Any] = json.loads(path.read_text())
    return parsed


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def contents(operation: dict[str, Any]) -> list[dict[str, Any]]:
    """The bodies of what succeeds."""
    return [
        body
        for code, reply in operation["responses"].items()
        if code.startswith("2")
        for body in reply.get("content", {}).values()
    ]


def test_document_is_valid_and_names_the_contract_too(document: dict[str, Any]) -> None:
    contract = {name for name, operation in operations(document) if operation["tags"] == ["contract"]}
    assert {"POST /batch/start", "GET /batch/progress", "POST /batch/cancel", "POST /embed_text"} <= contract
    assert document["openapi"].startswith("3.1")


def test_every_operation_is_described_with_an_example(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert len(operation["description"]) > 20, name
        assert any("examples" in body for body in contents(operation)), name


def test_every_operation_names_its_problems(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        if name != "GET /healthz":
            assert {"400", "401", "403"} <= operation["responses"].keys(), name


def test_version_is_the_packages() -> None:
    assert tomllib.loads((settings.BASE_DIR / "pyproject.toml").read_text())["project"]["version"] == VERSION


def test_page_needs_nothing_from_elsewhere_and_no_inline_script(client: Client) -> None:
    page = client.get("/api/docs").content.decode()
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(source.startswith("/") for source in sources)
    assert not re.search(r"<script>|<style|style=|\bon\w+=", page)
    assert client.get("/api/docs?script=")["Content-Type"] == "application/javascript"


def test_pages_scripts_are_ours(client: Client) -> None:
    with closing(client.get("/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js")) as reply:
        assert reply.status_code == 200


def test_strangers_do_not_see_it() -> None:
    assert Client().get("/api/schema").status_code == 401
    assert Client().get("/api/docs")["Location"] == "/admin/login/?next=/api/docs"
