"""The image, built on a Debian that debootstrap makes, and run for real: `make container-test`.

As root, with podman, runc and debootstrap; some 20 GB of disk, and minutes. Images and downloads stay for next time:
`podman system prune --all` and removing /var/tmp/buildah-cache give their disk back.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.containers import files

pytestmark = [pytest.mark.container, pytest.mark.timeout(5400)]

IMAGE, BASE = "localhost/navembed", "localhost/navembed-base"
AUTHORITIES = Path("usr/local/share/ca-certificates")
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
LIMITS = ["--ulimit", f"nofile={FILES}:{FILES}", "--ulimit", "nproc=4096:4096"]
"""What any machine allows; podman's own may be more, which it would be refused."""


def podman(*arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run podman, with runc, which knows the mixed cgroups of older systems, too."""
    command = ["podman", "--runtime", "runc", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, f"{' '.join(command)}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done


def make_base(folder: Path) -> None:
    """Make the image of a Debian which trusts the authorities that this machine was told to trust."""
    if podman("image", "exists", BASE, check=False).returncode == 0:
        return
    subprocess.run(["debootstrap", "--variant=minbase", "trixie", folder], check=True, stdout=subprocess.DEVNULL)
    shutil.copytree(Path("/") / AUTHORITIES, folder / AUTHORITIES, dirs_exist_ok=True)
    subprocess.run(["tar", "--create", "--directory", folder, "--file", f"{folder}.tar", "."], check=True)
    podman("import", f"{folder}.tar", BASE)


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    make_base(tmp_path_factory.mktemp("base") / "debian")
    arguments = [f"--build-arg=BASE={BASE}", f"--build-arg=PIP_CERT={CERTIFICATES}"]
    podman("build", "--format=docker", "--network=host", *LIMITS, *arguments, "--tag", IMAGE, files.ROOT)
    return IMAGE


@pytest.fixture(scope="session")
def volume() -> Iterator[str]:
    name = f"navembed-{uuid.uuid4().hex}"
    podman("volume", "create", name)
    yield name
    podman("volume", "rm", "--force", name)


@pytest.fixture(scope="session")
def options(volume: str) -> list[str]:
    """How it is run: nothing but the volume can be written."""
    home = files.variables()["NAVEMBED_HOME"]
    return [*LIMITS, "--read-only", "--volume", f"{volume}:{home}", "--health-interval=disable"]


@pytest.fixture(scope="session")
def demo(image: str, options: list[str]) -> str:
    """What the demo says in a container; its library stays in the volume."""
    return podman("run", "--rm", *options, image, "demo", "--exit").stdout


@pytest.fixture
def serve(image: str, options: list[str]) -> Iterator[str]:
    """A container that serves what is in the volume."""
    name = podman("run", "--detach", *options, image).stdout.strip()
    yield name
    podman("rm", "--force", name)


def wait_for(condition: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(1)


def manage(container: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return podman("exec", container, ".venv/bin/python", "manage.py", *arguments, check=check)


def end_of(container: str) -> int:
    """Stop the container as `docker stop --time 30` does; returns its exit status, 137 when it had to be killed."""
    podman("stop", "--time", "30", container)
    return int(podman("inspect", "--format", "{{.State.ExitCode}}", container).stdout)


def test_demo_holds(demo: str) -> None:
    assert "All held" in demo, demo


def test_nothing_runs_as_root(demo: str, image: str, options: list[str]) -> None:
    home = files.variables()["NAVEMBED_HOME"]
    of_others = podman("run", "--rm", *options, "--entrypoint", "find", image, home, "!", "-uid", "1000").stdout
    assert of_others == ""
    assert podman("run", "--rm", *options, "--entrypoint", "id", image, "-u").stdout == "1000\n"


def test_serve_becomes_healthy_and_stops_in_time(demo: str, serve: str) -> None:
    wait_for(lambda: podman("healthcheck", "run", serve, check=False).returncode == 0)
    wait_for(lambda: manage(serve, "status", check=False).returncode == 0)
    for port in files.instructions("EXPOSE")[0].split():
        podman("exec", f"--env=NAVIDROME_RECOMMENDER_PORT={port}", serve, *files.health_check())
    assert end_of(serve) == 0


def test_stop_is_heard_before_the_process_manager_runs(demo: str, serve: str) -> None:
    assert end_of(serve) == 128 + 15


def test_another_container_finds_all_in_the_volume(demo: str, serve: str) -> None:
    models = json.loads(manage(serve, "library_status", "--json").stdout)["models"]
    assert {(model["embedded"], model["missing"]) for model in models.values()} == {(32, 0)}
