"""What the repository's files for containers and systemd say."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml
from django.conf import settings

ROOT = settings.BASE_DIR


def instructions(name: str) -> list[str]:
    """The arguments of each instruction ``name`` of the Dockerfile's last stage."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return re.findall(rf"^{name} (.+)$", text.rpartition("\nFROM ")[2], re.MULTILINE)


def variables() -> dict[str, str]:
    """What the image sets."""
    return dict(pair.split("=", 1) for line in instructions("ENV") for pair in line.split())


def health_check() -> list[str]:
    [line] = instructions("HEALTHCHECK")
    command: list[str] = json.loads(line.partition("CMD ")[2])
    return command


def compose() -> dict[str, Any]:
    """compose.yaml; its variables stand as they are."""
    return _yaml("compose.yaml")


def deployments() -> dict[str, dict[str, Any]]:
    """What the Deployments for Kubernetes say, by name."""
    text = (ROOT / "docs" / "examples" / "kubernetes.yaml").read_text(encoding="utf-8")
    return {each["metadata"]["name"]: each["spec"] for each in yaml.safe_load_all(text)}


def unit() -> dict[str, list[str]]:
    """What each name of the systemd unit is set to."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "docs" / "examples" / "navembed.service").read_text(encoding="utf-8").splitlines():
        name, separator, value = line.partition("=")
        if separator and not name.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def _yaml(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return document
