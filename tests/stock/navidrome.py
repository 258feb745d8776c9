"""Navidrome's plugin host as far as our plugin sees it: settings as texts, HTTP by ``http_send``, a log."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import extism
import jsonschema
from django.conf import settings
from extism.extism import CompiledPlugin

from navembed_site import VERSION

Sent = dict[str, Any]


def fetched(request: Sent) -> Sent:
    """What Navidrome answers to a plugin that asks over HTTP."""
    body = base64.b64decode(request.get("body") or "") or None
    asked = urllib.request.Request(request["url"], body, method=request["method"], headers=request["headers"])
    try:
        with urllib.request.urlopen(asked, timeout=request["timeoutMs"] / 1000) as reply:
            return result(reply.status, reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return result(error.code, error.read())
    except OSError as error:
        return {"error": str(error)}


def result(status: int, body: bytes) -> Sent:
    """What Navidrome's host says of an answer."""
    return {"result": {"statusCode": status, "headers": {}, "body": base64.b64encode(body).decode()}}


def build(name: str) -> Path:
    """Return a plugin as `make plugin` builds it, unless it was built of the same sources before."""
    command = [sys.executable, settings.BASE_DIR / "plugin" / "build.py", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


def check_manifest(manifest: Sent, permissions: set[str]) -> None:
    """Hold a manifest to Navidrome's rules; its settings' schema to JSON Schema, and their defaults to that."""
    assert {"name", "author", "version"} <= manifest.keys() <= {
        "name", "author", "version", "description", "website", "config", "permissions",
    }  # fmt: skip
    assert manifest["version"] == VERSION
    assert set(manifest["permissions"]) == permissions
    assert all(each["reason"] for each in manifest["permissions"].values())
    assert manifest["permissions"]["http"]["requiredHosts"] == ["*"]
    assert manifest["config"].keys() == {"schema", "uiSchema"}
    schema = manifest["config"]["schema"]
    jsonschema.Draft7Validator.check_schema(schema)
    defaults = {name: each["default"] for name, each in schema["properties"].items() if "default" in each}
    jsonschema.validate(defaults | {"token": "nv_x"}, schema, jsonschema.Draft7Validator)
    shown = [each["scope"].rpartition("/")[2] for each in manifest["config"]["uiSchema"]["elements"]]
    assert shown == list(schema["properties"])


@cache
def log_of_plugins() -> Any:
    """Extism's log, of which a process has one."""
    return extism.set_log_custom(lambda line: None, level="info")


def keep_compiled() -> None:
    """Have Extism keep what it compiles, as it takes five seconds for a plugin."""
    folder = settings.BASE_DIR / "build" / "compiled"
    folder.mkdir(exist_ok=True)
    (folder / "config.toml").write_text(f'[cache]\ndirectory = "{folder}"\n')
    os.environ["EXTISM_CACHE_CONFIG"] = str(folder / "config.toml")


class Host:
    """Loads the plugin as Navidrome does: compiled once, an instance for every call."""

    def __init__(self, plugin: Path, others: Iterable[Any] = ()) -> None:
        with zipfile.ZipFile(plugin) as archive:
            assert sorted(archive.namelist()) == ["manifest.json", "plugin.wasm"]
            self.manifest: dict[str, Any] = json.loads(archive.read("manifest.json"))
            self.wasm = archive.read("plugin.wasm")
        self.answer: Any = None
        self.reset()
        log_of_plugins()

        @extism.host_fn(namespace="extism:host/user")
        def http_send(asked: Annotated[dict[str, Any], extism.Json], *_) -> Annotated[dict[str, Any], extism.Json]:
            self.requests.append(asked["request"])
            return self.answer(asked["request"])

        keep_compiled()
        self._compiled = CompiledPlugin(self.wasm, wasi=True, functions=[http_send, *others])

    def reset(self) -> None:
        """Forgets what was asked and set, and reaches the network again."""
        self.answer = fetched
        self.requests: list[Sent] = []
        self.lines: list[str] = []
        self.settings: dict[str, Any] = {}

    def call(self, function: str, **given: Any) -> Any:
        """Return what an export answers. Raises ``extism.Error`` when it returns anything but 0."""
        settings = {name: each if isinstance(each, str) else json.dumps(each) for name, each in self.settings.items()}
        with extism.Plugin(self._compiled, config=settings) as plugin:
            return json.loads(plugin.call(function, json.dumps(given)))

    def exports(self, function: str) -> bool:
        with extism.Plugin(self._compiled) as plugin:
            return bool(plugin.function_exists(function))

    def log(self) -> str:
        """Everything that the plugin has said."""
        log_of_plugins().set_callback(self.lines.append)
        log_of_plugins().drain()
        return "\n".join(self.lines)
