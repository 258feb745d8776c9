"""Dockerfile, compose.yaml and the systemd unit agree with the product, and with each other."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from navembed_site.instance.programs import programs
from tests.containers import files
from tests.instance.conftest import Instance

BOTH = ("navembed", "navembed-gpu")
FOREIGN = {"NVIDIA_DRIVER_CAPABILITIES"}
"""Variables of others that we set."""


def service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = files.compose()["services"][name]
    return found


def test_every_variable_that_is_set_exists() -> None:
    given = {line.partition("=")[0] for line in files.unit()["Environment"]}
    assert files.variables().keys() | given <= settings.KNOWN_VARIABLES | FOREIGN
    for name in BOTH:
        assert service(name)["environment"].keys() <= settings.KNOWN_VARIABLES


@pytest.mark.parametrize("name", ["navembed", "navembed-cuda"])
def test_pods_are_what_the_image_is_made_for(name: str) -> None:
    pod = files.deployments()[name]["template"]["spec"]
    [container] = pod["containers"]
    variables = {each["name"]: each for each in container["env"]}
    assert variables.keys() <= settings.KNOWN_VARIABLES
    assert Path(variables["NAVEMBED_HOME"]["value"]).parent == Path(files.variables()["NAVEMBED_HOME"])
    user = pod["securityContext"]
    assert files.instructions("USER") == [f"{user['runAsUser']}:{user['runAsGroup']}"]
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}


def test_pods_are_hosts_of_one_instance() -> None:
    first, further = (spec["template"]["spec"]["containers"][0] for spec in files.deployments().values())
    for probe in ("startupProbe", "readinessProbe"):
        assert first[probe]["httpGet"] == {"path": "/healthz", "port": settings.PORT}
    assert further["args"] == ["serve", "--only", "worker,embedder"]
    for name in ("DATABASE_URL", "NAVIDROME_MILVUS_URI", "TEXT_EMBEDDING_CHECKPOINT_DIR"):
        of_both = [[each for each in container["env"] if each["name"] == name] for container in (first, further)]
        assert of_both[0] == of_both[1] != []
    assert files.deployments()["navembed"]["replicas"] == 1


def test_ports_are_those_that_are_served() -> None:
    assert files.instructions("EXPOSE") == [f"{settings.PORT} {settings.TEXT_PORT}"]
    published = {str(port).rpartition(":")[2] for port in service("navidrome")["ports"]}
    assert str(settings.PORT) in published


def test_everything_that_an_instance_keeps_lies_in_the_volume() -> None:
    home = files.variables()["NAVEMBED_HOME"]
    assert files.instructions("VOLUME") == [home]
    for name in BOTH:
        assert f"navembed:{home}" in service(name)["volumes"]
    assert files.unit()["StateDirectory"] == [Path(home).name]
    assert f"NAVEMBED_HOME={home}" in files.unit()["Environment"]


def test_navidrome_is_read_where_it_is_mounted_and_never_written() -> None:
    for name in BOTH:
        mounts = [volume.split(":") for volume in service(name)["volumes"] if not volume.startswith("navembed:")]
        assert {mount[-1] for mount in mounts} == {"ro"}
        folder = Path(service(name)["environment"]["NAVIDROME_DB_PATH"]).parent
        assert str(folder) in {mount[-2] for mount in mounts}


def test_music_lies_where_navidrome_knows_it() -> None:
    [theirs] = [volume for volume in service("navidrome")["volumes"] if "MUSIC" in volume]
    for name in BOTH:
        [ours] = [volume for volume in service(name)["volumes"] if "MUSIC" in volume]
        assert ours.split(":")[-2:] == theirs.split(":")[-2:]


def test_image_runs_as_a_numbered_user_who_is_not_root() -> None:
    [user] = files.instructions("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


def test_stop_waits_for_as_long_as_the_processes_take() -> None:
    longest = sum(
        max(program.stop_seconds for program in programs().values() if program.stops_last is last)
        for last in (True, False)
    )
    assert int(files.unit()["TimeoutStopSec"][0]) > longest
    for name in BOTH:
        assert int(service(name)["stop_grace_period"].removesuffix("s")) > longest


def test_image_and_unit_start_what_exists() -> None:
    assert files.instructions("CMD") == ['["serve"]']
    assert '"/opt/navembed/.venv/bin/python", "/opt/navembed/manage.py"' in files.instructions("ENTRYPOINT")[0]
    assert files.unit()["ExecStart"] == ["/opt/navembed/.venv/bin/python /opt/navembed/manage.py serve"]
    assert (settings.BASE_DIR / "manage.py").is_file()


def test_image_gets_all_that_runs_and_nothing_of_an_instance() -> None:
    lines = (settings.BASE_DIR / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    assert sent == {"batches", "embeddings", "LICENSE", "manage.py", "navembed_site", "requirements", "templates"}


def test_health_check_tells_an_instance_that_answers(instance: Instance, eventually: Callable[..., None]) -> None:
    def code() -> int:
        return subprocess.run([sys.executable, *files.health_check()[1:]], env=environment, check=False).returncode

    environment = {"NAVIDROME_RECOMMENDER_PORT": str(instance.port)}
    assert code() == 1
    instance.start("serve", "--only", "web")
    eventually(instance.answers)
    assert code() == 0


@pytest.mark.parametrize("profile", ["postgres", "milvus"])
def test_profiles_name_what_they_start(profile: str) -> None:
    assert service(profile)["profiles"] == [profile]
