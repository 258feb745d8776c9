"""Typed reading of environment variables; problems are collected and reported by the system checks."""

from __future__ import annotations

import base64
import ipaddress
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import dj_database_url

TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off", ""}
SOCKET_PATH_BYTES = 100  # Linux takes 107, other systems 103
LOCALTIME = Path("/etc/localtime")
DATABASE_WANTED = "a URL like postgres://user:password@host:5432/name or sqlite:////absolute/path"
SQLITE_OPTIONS = {
    # Django-Q and the jobs write from several processes: a transaction takes its lock at the start or waits.
    "transaction_mode": "IMMEDIATE",
    "timeout": 30,
}  # embeddings/apps.py sets up the file
POSTGRESQL_OPTIONS = {
    # A server that is away is noticed soon: one that does not accept, and one whose machine has vanished.
    "connect_timeout": 3,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
Parsed = TypeVar("Parsed")
Schedule = Literal["off", "scan"] | time
Hours = tuple[time, time] | None
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


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


def schedule(text: str) -> Schedule:
    """``off``, ``scan`` or ``HH:MM``. Raises ValueError."""
    return "off" if text == "off" else "scan" if text == "scan" else _time_of_day(text)


def hours(text: str) -> Hours:
    """``HH:MM-HH:MM``, which may pass midnight; None when empty. Raises ValueError."""
    if not text:
        return None
    begin, _, end = text.partition("-")
    found = _time_of_day(begin.strip()), _time_of_day(end.strip())
    if found[0] == found[1]:
        raise ValueError(text)
    return found


def web_address(text: str) -> str:
    """An address with http or https and a host, or nothing. Raises ValueError."""
    parts = urlsplit(text)
    if text and not (parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0):
        raise ValueError(text)
    return text


def webhook_key(text: str) -> bytes:
    """What follows ``whsec_`` in base64, or any other text as it is. Raises ValueError."""
    prefix, coded, rest = text.partition("whsec_")
    if prefix or not coded:
        return text.encode()
    if key := base64.b64decode(rest, validate=True):
        return key
    raise ValueError(text)


def unix_socket(text: str) -> Path | None:
    """An absolute path that is short enough for a socket, None when it is ``off``. Raises ValueError."""
    if text == "off":
        return None
    path = Path(text).expanduser()
    if not path.is_absolute() or len(os.fsencode(path)) > SOCKET_PATH_BYTES:
        raise ValueError(text)
    return path


def database(url: str) -> dict[str, Any]:
    """What Django makes a connection of. Raises ValueError."""
    parsed: dict[str, Any] = dict(dj_database_url.parse(url, conn_max_age=60))
    if parsed["ENGINE"].endswith("sqlite3"):
        parsed["OPTIONS"] = SQLITE_OPTIONS
    elif parsed["ENGINE"].endswith("postgresql"):
        parsed["OPTIONS"] = POSTGRESQL_OPTIONS | parsed.get("OPTIONS", {})
    return parsed


def networks(text: str) -> tuple[Network, ...]:
    """Networks like ``192.168.1.0/24`` separated by commas, or ``none``. Raises ValueError."""
    if text == "none":
        return ()
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(","))


def _time_of_day(text: str) -> time:
    return datetime.strptime(text, "%H:%M").time()


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, LookupError):  # not a name, a folder of zones, unknown
        return False
    return True


@dataclass
class Environment:
    """Variables by name. A wrong value yields the default and a sentence in ``problems``."""

    values: Mapping[str, str]
    problems: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)

    def add_file(self, path: Path) -> None:
        """Take from ``path`` what is not set otherwise."""
        try:
            self.values = read_env_file(path) | dict(self.values)
        except (OSError, ValueError) as error:
            self.problems.append(f"{path} cannot be read: {error}.")

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

    def choices(self, name: str, choices: tuple[str, ...], default: tuple[str, ...]) -> tuple[str, ...]:
        """Return one or several of the choices, separated by commas."""
        chosen = self.strings(name, default)
        if set(chosen) <= set(choices):
            return chosen
        self._wrong(name, ",".join(chosen), f"one or several of {', '.join(choices)}")
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

    def time_zone(self) -> str:
        """The name in ``TZ``, else of the zone that /etc/localtime links to, else UTC."""
        name = self.string("TZ")
        if _is_zone(name):
            return name
        if name:
            self._wrong("TZ", name, "the name of a time zone that this machine knows, like Europe/Berlin")
        linked = LOCALTIME.resolve().as_posix().rpartition("/zoneinfo/")[2]
        return linked if _is_zone(linked) else "UTC"

    def _wrong(self, name: str, value: str, wanted: str) -> None:
        self.problems.append(f"{name} is {value!r}; it must be {wanted}.")
