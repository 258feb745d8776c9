"""What we remember of Navidrome's plugin, which tells its version and settings with every call."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from navembed_site.access.models import Token
from navembed_site.access.tokens import revoke
from tests.access.conftest import Program

pytestmark = [pytest.mark.django_db, pytest.mark.database]

URL = "/api/v1/plugin/status"
AGENT = "navembed-plugin/0.1.0 (models=muq; diversity=0)"
MakeProgram = Callable[..., Program]


def call(caller: Program, agent: str) -> None:
    assert caller.get("/api/v1/batches", headers={"User-Agent": agent}).status_code == 200


def test_other_programs_are_no_plugin(program: MakeProgram) -> None:
    caller = program()
    call(caller, "curl/8.0")
    assert caller.get(URL).json() == {"connections": []}


def test_any_call_of_the_plugin_is_noted_and_no_other_takes_it_away(program: MakeProgram) -> None:
    caller = program(name="navidrome")
    call(caller, AGENT)
    call(caller, "curl/8.0")
    (connection,) = caller.get(URL).json()["connections"]
    assert connection.pop("last_call_at")
    assert connection == {"token": "navidrome", "version": "0.1.0", "settings": "models=muq; diversity=0"}


def test_new_settings_show_at_once(program: MakeProgram) -> None:
    caller = program()
    for agent in (AGENT, AGENT.replace("0)", "1)")):
        call(caller, agent)
    assert caller.get(URL).json()["connections"][0]["settings"] == "models=muq; diversity=1"


@pytest.mark.parametrize("agent", ["navembed-plugin/", "navembed-plugin/\0", f"navembed-plugin/{'9' * 999} (a)"])
def test_odd_names_do_no_harm(program: MakeProgram, agent: str) -> None:
    caller = program()
    call(caller, agent)
    assert len(caller.get(URL).json()["connections"]) == 1


def test_revoked_tokens_plugin_is_gone(program: MakeProgram) -> None:
    call(program(name="old"), AGENT)
    revoke(Token.objects.get(name="old"))
    assert program(name="new").get(URL).json() == {"connections": []}
