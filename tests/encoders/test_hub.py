"""Downloading from a stand-in hub with the real client: what arrives, what goes wrong, and what is said then."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command

from embeddings.encoders.mert import MertEncoder
from embeddings.encoders.registry import MODEL_KEYS, encoder_class
from embeddings.errors import WeightsMissing, WeightsUnusable
from embeddings.weights import locate, published
from embeddings.weights.fetch import FetchedFile, fetch_model
from embeddings.weights.hub import HubUnreachable
from tests.encoders.stand_in_hub import XET_SHIM, StandInHub, serving
from tests.encoders.twins import make_twin

MERT = "m-a-p/MERT-v1-330M"
PADDING = 24_000_000  # the client writes what it receives in pieces of 10 MB


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The repositories of MuQ-MuLan and MERT; MERT is so large that its download can be broken off."""
    folder = tmp_path_factory.mktemp("hub")
    make_twin("muq", folder)
    path = make_twin("mert", folder) / "pytorch_model.bin"
    state = torch.load(path, weights_only=True)
    torch.save(state | {"preprocessor_padding.stat": torch.rand(PADDING // 4)}, path)
    return repositories(folder)


def repositories(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in folder.glob("*/*")}


@pytest.fixture
def hub(twins: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    """A hub that the client of this process talks to."""
    with serving(twins) as server:
        connect(server.endpoint, monkeypatch)
        yield server


def connect(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the client of this process, which has read its environment, talk to ``endpoint``."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Path:
    """Where downloads go; the user's own cache is empty."""
    settings.CHECKPOINT_DIR, settings.CACHE_DIR = tmp_path / "checkpoints", tmp_path / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "own"))
    monkeypatch.setattr(locate, "places", locate.Places())
    locate.use_folders(checkpoints=settings.CHECKPOINT_DIR, cache=settings.CACHE_DIR)
    return tmp_path / "checkpoints"


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client waits a second before it takes a download up again."""
    monkeypatch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=lambda _: None))


def environment(hub: StandInHub, cache: Path, **more: str) -> dict[str, str]:
    """What a child needs to talk to the hub, with the transfer of Xet replaced."""
    shim = cache.parent / "shim"
    shim.mkdir(parents=True, exist_ok=True)
    (shim / "sitecustomize.py").write_text(XET_SHIM)
    paths = os.pathsep.join(filter(None, [str(shim), os.environ.get("PYTHONPATH")]))
    return os.environ | {
        "HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(cache.parent / "home"), "PYTHONPATH": paths,
        "TEXT_EMBEDDING_CHECKPOINT_DIR": str(cache), **more,
    }  # fmt: skip


def fetch_models(*arguments: str) -> list[str]:
    return [sys.executable, str(django_settings.BASE_DIR / "manage.py"), "fetch_models", *arguments]


def run(*arguments: str) -> str:
    """The command in this process; returns what it prints."""
    out = io.StringIO()
    call_command("fetch_models", *arguments, stdout=out, stderr=None if "--json" in arguments else out)
    return out.getvalue()


def mert() -> list[FetchedFile]:
    return fetch_model(MertEncoder(MERT, "cpu"))


def weights_file(files: list[FetchedFile]) -> Path:
    return next(Path(file.path) for file in files if file.path.endswith("pytorch_model.bin"))


# The whole command


@pytest.fixture(scope="module")
def whole(twins: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """All three models fetched by the command, into a cache that is gone after these tests: it is large."""
    folder = tmp_path_factory.mktemp("whole")
    make_twin("latent", folder, "published")
    with serving(twins | repositories(folder)) as server:
        env = environment(server, folder / "checkpoints")
        done = subprocess.run(fetch_models(), env=env, capture_output=True, text=True, check=False)
    yield SimpleNamespace(done=done, hub=server, cache=folder / "checkpoints")
    shutil.rmtree(folder)


def test_all_models_arrive_and_are_verified(whole: SimpleNamespace):
    assert whole.done.returncode == 0
    lines = whole.done.stdout.splitlines()
    assert [line for line in lines if line.endswith("verified")] == [
        "muq: OpenMuQ/MuQ-MuLan-large, 3.4 MB, verified",
        "mert: m-a-p/MERT-v1-330M, 25 MB, verified",
        "latent: SonyCSLParis/music2latent, 233 MB, verified",
    ]


def test_nothing_is_said_but_what_the_weights_are(whole: SimpleNamespace):
    """The client logs requests, and warns of attempts."""
    assert [line.partition(": ")[2][:27] for line in whole.done.stderr.splitlines()] == [
        "the weights fit and are use"
    ] * 2


def test_sizes_and_room_are_said_before_it_begins(whole: SimpleNamespace):
    first = whole.done.stdout.splitlines()[:4]
    assert first[2] == "latent: 233 MB in 1 file"
    assert first[3].startswith(f"261 MB to download into {whole.cache}, where ")


def test_nothing_is_downloaded_that_nobody_needs(whole: SimpleNamespace):
    asked = {path.rpartition("/")[2] for _, path, _ in whole.hub.asked("/resolve/")}
    configs = {"config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert asked == configs | {"model.safetensors", "pytorch_model.bin", "music2latent.safetensors", "music2latent.pt"}
    sent = {path for method, path, _ in whole.hub.asked("/cdn/") if method == "GET"}
    assert len(sent) == 4  # three files of weights and the tokenizer


def test_a_renamed_repository_is_followed(whole: SimpleNamespace):
    assert whole.hub.asked("/xlm-roberta-base/resolve/")
    assert whole.hub.asked("/FacebookAI/xlm-roberta-base/resolve/")


def test_afterwards_no_network_is_needed(whole: SimpleNamespace, settings: Any):
    settings.CHECKPOINT_DIR = whole.cache
    settings.MODEL_SOURCES = {key: encoder_class(key).default_source for key in MODEL_KEYS}
    report = json.loads(run("--json"))
    assert {key: len(report[key]["files"]) for key in MODEL_KEYS} == {"muq": 6, "mert": 3, "latent": 1}


def test_a_download_that_was_interrupted_goes_on_where_it_was(twins: dict[str, Path], cache: Path):
    with serving(twins) as hub:
        hub.faults.hang_after = 15_000_000
        command, env = fetch_models("--models", "mert"), environment(hub, cache)
        with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as child:
            while not any(path.stat().st_size for path in cache.rglob("*.incomplete")):
                time.sleep(0.05)
                assert child.poll() is None
            child.send_signal(signal.SIGINT)
            _, stderr = child.communicate()
        assert child.returncode == 130
        assert (
            stderr
            == "CommandError: interrupted; what has arrived is kept: run the command again, and it goes on there\n"
        )
        hub.faults.hang_after = None
        again = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        assert again.stdout.startswith("mert: 25 MB in 1 file, 10.5 MB of it are here\n14.5 MB to download into ")
        assert hub.asked("/cdn/")[-1][2] == "bytes=10485760-"


# One model


def test_a_connection_that_breaks_is_taken_up_again(hub: StandInHub, no_waiting: None):
    hub.faults.break_off_after = 12_000_000
    mert()
    assert [after for _, _, after in hub.asked("/cdn/")] == ["", "bytes=10485760-", "bytes=20971520-"]


def test_a_download_that_breaks_off_for_good_says_how_to_go_on(hub: StandInHub, no_waiting: None):
    hub.faults.break_off_after = 12_000_000
    hub.faults.cdn_requests = 1
    with pytest.raises(
        WeightsMissing, match=r"pytorch_model.bin of m-a-p/\S+ broke off after 10.5 MB of 25 MB \(.*run"
    ):
        mert()


def test_a_file_that_arrives_damaged_is_not_put_in_place(hub: StandInHub, cache: Path):
    hub.faults.damages = True
    with pytest.raises(WeightsMissing, match="arrived damaged"):
        mert()
    assert {path.stat().st_size > 10_000 for path in cache.glob("*/blobs/*")} == {False}


def test_one_file_is_not_written_by_two_programs(hub: StandInHub, cache: Path):
    digest = hub.files[MERT]["pytorch_model.bin"].etag
    partial = cache / "models--m-a-p--MERT-v1-330M" / "blobs" / f"{digest}.incomplete"
    partial.parent.mkdir(parents=True)
    with partial.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(WeightsMissing, match="another program is downloading"):
            mert()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "config.json"])
def test_a_damaged_file_is_downloaded_again(name: str, hub: StandInHub):
    path = next(Path(file.path) for file in mert() if file.path.endswith(name))
    damage(path)
    hub.requests.clear()
    mert()
    assert path.read_bytes() == hub.files[MERT][name].path.read_bytes()
    assert {path.rpartition("/")[2] for method, path, _ in hub.asked("/resolve/") if method == "GET"} == {name}


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(20)
        file.write(b"damaged")


def test_a_damaged_file_is_named_where_it_cannot_be_had_again(hub: StandInHub, monkeypatch: pytest.MonkeyPatch):
    damage(weights_file(mert()))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsUnusable, match=r"pytorch_model.bin is damaged.*gets it again.*HF_HUB_OFFLINE is set"):
        mert()


def test_a_renewed_commit_takes_the_place_of_a_lost_one(hub: StandInHub):
    hub.faults.lost_commits = True
    assert {Path(file.path).parent.name for file in mert()} == {hub.commit(MERT)}


def test_a_revision_that_the_source_says_is_taken_or_nothing(hub: StandInHub):
    with pytest.raises(WeightsMissing, match=r"has no config\.json of m-a-p/MERT-v1-330M@v7"):
        fetch_model(MertEncoder(f"{MERT}@v7", "cpu"))
    fetch_model(MertEncoder(f"{MERT}@main", "cpu"))


@pytest.mark.parametrize(
    ("status", "sentence"),
    [(401, "set HF_TOKEN"), (403, "set HF_TOKEN"), (500, "answers 500"), (503, "try again later")],
)
def test_what_the_hub_refuses_is_said(status: int, sentence: str, hub: StandInHub):
    hub.faults.status[MERT] = status
    with pytest.raises(WeightsMissing, match=sentence):
        mert()


def test_a_repository_that_does_not_exist_is_said(hub: StandInHub):
    with pytest.raises(WeightsMissing, match=r"does not show some/body to us.*the name is wrong"):
        fetch_model(MertEncoder("some/body", "cpu"))


def test_what_is_no_hub_is_said(hub: StandInHub):
    hub.faults.is_plain = True
    with pytest.raises(HubUnreachable, match="does not answer as a hub does; look at HF_ENDPOINT"):
        mert()


# What other programs have downloaded, from Xet


@pytest.fixture
def xet(twins: dict[str, Path], cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    """A hub that stores large files in Xet; its own program has downloaded MERT, but for the file of 4 GB."""
    with serving(twins, xet=True) as server:
        connect(server.endpoint, monkeypatch)
        command = [str(Path(sys.executable).parent / "hf"), "download", MERT, "--exclude", "*.pt"]
        subprocess.run(
            command, env=environment(server, cache, HF_HUB_CACHE=str(cache)), check=True, capture_output=True
        )
        server.requests.clear()
        yield server


def test_what_xet_stores_is_a_link_to_a_link_and_right(xet: StandInHub):
    path = weights_file(mert())
    assert path.readlink().name == xet.files[MERT]["pytorch_model.bin"].etag
    assert path.resolve().name == xet.files[MERT]["pytorch_model.bin"].xet_hash
    assert not xet.requests


def test_what_xet_stores_is_mended_where_it_lies(xet: StandInHub):
    path = weights_file(mert())
    damage(path)
    mert()
    assert path.resolve().name == xet.files[MERT]["pytorch_model.bin"].xet_hash


def test_the_users_own_cache_is_used_and_left_alone(xet: StandInHub, cache: Path):
    own = shutil.move(cache, cache.parent / "own")
    damage(weights_file(mert()))
    assert cache in weights_file(mert()).parents
    assert own


def test_what_only_xet_gives_comes_from_there(xet: StandInHub, cache: Path, monkeypatch: pytest.MonkeyPatch):
    exec(XET_SHIM, {})
    shutil.rmtree(cache)
    xet.faults.has_cdn = False
    mert()
    assert xet.asked("/xet-read-token/")


# Several models


def test_one_model_that_fails_does_not_stop_the_others(hub: StandInHub, settings: Any):
    settings.MODEL_SOURCES = {"muq": "OpenMuQ/MuQ-MuLan-large", "mert": MERT}
    hub.faults.status["OpenMuQ/MuQ-MuLan-large"] = 500
    with pytest.raises(CommandError, match=r"no usable weights for muq$"):
        run("--models", "muq", "mert")
    assert MertEncoder(MERT, "cpu").describe().source == f"{MERT}@{hub.commit(MERT)}"


def test_a_hub_that_is_away_is_one_line_for_all_that_need_it(
    monkeypatch: pytest.MonkeyPatch, settings: Any, checkpoints: dict[str, Path]
):
    connect("http://127.0.0.1:9", monkeypatch)
    settings.MODEL_SOURCES = {"muq": "OpenMuQ/MuQ-MuLan-large", "mert": MERT, "latent": str(checkpoints["latent"])}
    out = io.StringIO()
    with pytest.raises(CommandError, match=r"no usable weights for muq, mert$"):
        call_command("fetch_models", stdout=out, stderr=out)
    away, latent, *_ = out.getvalue().splitlines()
    assert away.startswith(
        "http://127.0.0.1:9 cannot be reached: [Errno 111] Connection refused. Nothing was downloaded"
    )
    assert "HF_ENDPOINT may name a mirror" in away
    assert "set NAVEMBED_MUQ, NAVEMBED_MERT to their folders" in away
    assert latent.endswith("verified")


def test_what_does_not_fit_on_the_disk_is_not_begun(hub: StandInHub, settings: Any, monkeypatch: pytest.MonkeyPatch):
    settings.MODEL_SOURCES = {"mert": MERT}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2_000_000))
    with pytest.raises(CommandError, match=r"25 MB to download into \S+, where 2 MB are free: make room"):
        run("--models", "mert")
    assert not hub.asked("/cdn/")


@pytest.mark.parametrize("known", [True, False])
def test_it_is_said_whether_weights_are_those_that_were_published(
    known: bool, hub: StandInHub, settings: Any, monkeypatch: pytest.MonkeyPatch
):
    settings.MODEL_SOURCES = {"mert": MERT}
    digest = hub.files[MERT]["pytorch_model.bin"].etag if known else "0" * 64
    file = published.PublishedFile(25_000_000, digest)
    monkeypatch.setitem(published.REPOSITORIES[MERT].files, "pytorch_model.bin", file)
    lines = run("--models", "mert")
    assert ("pytorch_model.bin, as published" if known else "pytorch_model.bin, NOT AS PUBLISHED") in lines
    assert ("expect other vectors" in lines) is not known
