"""Typed reading of environment variables; problems are collected and reported by the system checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off", ""}
Parsed = TypeVar("Parsed")


def read_env_file(path: Path) -> dict[str, str]:
    """Return the ``NAME=value`` lines of ``path``; blank lines and ``#`` comments are skipped."""
    if not path.is_file():
        return {}
    values = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, separator, value = line.strip().removeprefix("export ").partition("=")
        if separator and not name.startswith("#"):
            values[name.strip()] = value.strip().strip("'\"")
    return values


@dataclass
class Environment:
    """Variables by name. A wrong value yields the default and a sentence in ``problems``."""

    values: Mapping[str, str]
    problems: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)

    def unknown(self, prefix: str) -> list[str]:
        """Names with ``prefix`` that nothing has asked for: mistyped ones, most likely."""
        return sorted(name for name in self.values if name.startswith(prefix) and name not in self.asked)

    def string(self, name: str, default: str = "") -> str:
        self.asked.add(name)
        return self.values.get(name, "").strip() or default

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        value = self.string(name, default)
        if value in choices:
            return value
        self._wrong(name, value, f"one of {', '.join(choices)}")
        return default

    def boolean(self, name: str, default: bool = False) -> bool:
        self.asked.add(name)
        value = self.values.get(name)
        if value is None:
            return default
        if value.strip().lower() in TRUE | FALSE:
            return value.strip().lower() in TRUE
        self._wrong(name, value, "1 or 0")
        return default

    def integer(self, name: str, default: int, *, low: int, high: int) -> int:
        return int(self.number(name, default, low=low, high=high, kind=int))

    def number(
        self, name: str, default: float, *, low: float, high: float, kind: type[int] | type[float] = float
    ) -> float:
        value = self.string(name)
        if not value:
            return default
        try:
            parsed = kind(value)
        except ValueError:
            parsed = None
        if parsed is not None and low <= parsed <= high:
            return parsed
        self._wrong(name, value, f"a number from {low} to {high}")
        return default

    def path(self, name: str, default: Path | None = None) -> Path | None:
        value = self.string(name)
        return Path(value).expanduser().absolute() if value else default

    def folder(self, name: str, default: Path) -> Path:
        """Like ``path``, never None."""
        return self.path(name) or default

    def parsed(self, name: str, default: str, parse: Callable[[str], Parsed], wanted: str) -> Parsed:
        """What ``parse`` makes of the value; it raises ValueError for a wrong one, which may hold a secret."""
        try:
            return parse(self.string(name, default))
        except ValueError:
            self.problems.append(f"{name} is not usable; it must be {wanted}.")
            return parse(default)

    def strings(self, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Comma-separated values."""
        return tuple(part.strip() for part in self.string(name).split(",") if part.strip()) or default

    def path_map(self, name: str) -> dict[int, Path]:
        """``1=/music;2=/srv/more``: a folder for each library id."""
        folders = {}
        for part in filter(None, (part.strip() for part in self.string(name).split(";"))):
            library, _, folder = part.partition("=")
            if not library.strip().isdigit() or not folder.strip().startswith("/"):
                self._wrong(name, part, "ID=/ABSOLUTE/FOLDER, several separated by ';'")
                continue
            folders[int(library)] = Path(folder.strip())
        return folders

    def _wrong(self, name: str, value: str, wanted: str) -> None:
        self.problems.append(f"{name} is {value!r}; it must be {wanted}.")
