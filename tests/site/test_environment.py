"""Typed reading of variables."""

from __future__ import annotations

from datetime import time
from pathlib import Path

import pytest

from navembed_site import environment
from navembed_site.environment import Environment, read_env_file


def test_file_holds_names_and_values(tmp_path: Path) -> None:
    path = tmp_path / "navembed.env"
    path.write_text("# comment\n\nA=1\nexport B = 'two words'\nnonsense\n")
    assert read_env_file(path) == {"A": "1", "B": "two words"}


def test_absent_file_holds_nothing(tmp_path: Path) -> None:
    assert read_env_file(tmp_path / "none") == {}


@pytest.mark.parametrize(("text", "value"), [("1", True), ("Yes", True), ("off", False), ("", False)])
def test_boolean(text: str, value: bool) -> None:
    assert Environment({"X": text}).boolean("X") is value


@pytest.mark.parametrize("text", ["x", "0", "70000", "1.5", "nan"])
def test_wrong_number_yields_the_default_and_a_sentence(text: str) -> None:
    env = Environment({"X": text})
    assert env.integer("X", 9002, low=1, high=65535) == 9002
    assert env.problems == [f"X is {text!r}; it must be a number from 1 to 65535."]


def test_several_choices_are_separated_by_commas() -> None:
    env = Environment({"X": "b, a", "Y": "a,c"})
    assert env.choices("X", ("a", "b"), ("a",)) == ("b", "a")
    assert env.choices("Y", ("a", "b"), ("a",)) == ("a",)
    assert env.problems == ["Y is 'a,c'; it must be one or several of a, b."]


def test_a_socket_has_a_short_absolute_path_or_is_off() -> None:
    assert environment.unix_socket("/run/x.sock") == Path("/run/x.sock")
    assert environment.unix_socket("off") is None
    for wrong in ("x.sock", "/" + "x" * 100):
        with pytest.raises(ValueError, match="x"):
            environment.unix_socket(wrong)


def test_wrong_choice_names_the_choices() -> None:
    env = Environment({"X": "c"})
    assert env.choice("X", ("a", "b"), "a") == "a"
    assert env.problems == ["X is 'c'; it must be one of a, b."]


def test_path_map() -> None:
    assert Environment({"X": "1=/music; 2=/srv/more"}).path_map("X") == {1: Path("/music"), 2: Path("/srv/more")}


@pytest.mark.parametrize("text", ["/music", "one=/music", "1=music"])
def test_wrong_path_map_is_a_problem(text: str) -> None:
    env = Environment({"X": text})
    assert env.path_map("X") == {}
    assert env.problems


def test_unusable_value_that_may_hold_a_secret_is_not_repeated() -> None:
    env = Environment({"X": "secret"})
    assert env.parsed("X", "1", int, "a number") == 1
    assert env.problems == ["X is not usable; it must be a number."]


def test_names_that_nothing_asked_for_are_unknown() -> None:
    env = Environment({"NAVEMBED_A": "1", "NAVEMBED_B": "1", "OTHER": "1"})
    env.boolean("NAVEMBED_A")
    assert env.unknown("NAVEMBED_") == ["NAVEMBED_B"]


@pytest.mark.parametrize(("text", "parsed"), [("off", "off"), ("scan", "scan"), ("3:05", time(3, 5))])
def test_schedule(text: str, parsed: object) -> None:
    assert environment.schedule(text) == parsed


@pytest.mark.parametrize("text", ["nightly", "24:00", "03", "03:00:00"])
def test_wrong_schedule(text: str) -> None:
    with pytest.raises(ValueError, match=r"does not match|unconverted"):
        environment.schedule(text)


def test_hours_may_pass_midnight() -> None:
    assert environment.hours("22:00 - 7:00") == (time(22), time(7))


@pytest.mark.parametrize("text", ["22:00", "22:00-", "22:00-22:00", "22-7"])
def test_wrong_hours(text: str) -> None:
    env = Environment({"X": text})
    assert env.parsed("X", "", environment.hours, "hours") is None
    assert env.problems == ["X is not usable; it must be hours."]


@pytest.mark.parametrize("text", ["", "http://localhost:1/x", "https://u:p@example.org"])
def test_web_address(text: str) -> None:
    assert environment.web_address(text) == text


@pytest.mark.parametrize("text", ["ftp://example.org", "example.org", "http://", "http://h:x/", "file:///etc/passwd"])
def test_wrong_web_address(text: str) -> None:
    env = Environment({"X": text})
    assert env.parsed("X", "", environment.web_address, "an address") == ""
    assert env.problems == ["X is not usable; it must be an address."]


@pytest.mark.parametrize(("text", "key"), [("", b""), ("whsec_a2V5", b"key"), ("a key", b"a key")])
def test_webhook_key(text: str, key: bytes) -> None:
    assert environment.webhook_key(text) == key


@pytest.mark.parametrize("text", ["whsec_", "whsec_a key", "whsec_a2V5x"])
def test_wrong_webhook_key(text: str) -> None:
    env = Environment({"X": text})
    assert env.parsed("X", "", environment.webhook_key, "a key") == b""
    assert env.problems == ["X is not usable; it must be a key."]


def test_networks() -> None:
    found = environment.networks("127.0.0.0/8, 192.168.1.7,::1/128")
    assert [str(network) for network in found] == ["127.0.0.0/8", "192.168.1.7/32", "::1/128"]
    assert environment.networks("none") == ()


@pytest.mark.parametrize("text", ["10.0.0.1/8", "home", "127.0.0.1,,", ",", "1.2.3.4/33", "all"])
def test_wrong_networks_are_a_problem_and_trust_this_machine_alone(text: str) -> None:
    env = Environment({"X": text})
    assert env.parsed("X", "127.0.0.0/8", environment.networks, "networks") == environment.networks("127.0.0.0/8")
    assert env.problems == ["X is not usable; it must be networks."]


def test_time_zone_is_the_one_asked_for() -> None:
    assert Environment({"TZ": "Europe/Berlin"}).time_zone() == "Europe/Berlin"


@pytest.mark.parametrize(
    ("target", "zone"),
    [("/usr/share/zoneinfo/Asia/Tokyo", "Asia/Tokyo"), ("/usr/share/zoneinfo/No/Where", "UTC"), ("/else", "UTC")],
)
def test_time_zone_is_the_machines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, target: str, zone: str) -> None:
    (tmp_path / "localtime").symlink_to(target)
    monkeypatch.setattr(environment, "LOCALTIME", tmp_path / "localtime")
    assert Environment({}).time_zone() == zone


def test_wrong_time_zone_is_a_problem() -> None:
    env = Environment({"TZ": "Mars"})
    env.time_zone()
    assert env.problems == [
        "TZ is 'Mars'; it must be the name of a time zone that this machine knows, like Europe/Berlin."
    ]
