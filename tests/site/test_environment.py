"""Typed reading of variables."""

from __future__ import annotations

from pathlib import Path

import pytest

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
