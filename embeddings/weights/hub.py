"""The hub: what it has of a checkpoint, and downloads that go on where they were broken off."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from typing import cast

from embeddings.errors import WeightsMissing
from embeddings.weights import hub_cache, locate, published
from navembed_site.terminal import size_text

CONNECT_SECONDS = 4  # for each address of the hub: a firewall that drops packets never answers


class HubUnreachable(WeightsMissing):
    """There is no way to the hub: the same would happen to every file."""


@dataclass(frozen=True)
class RemoteFile:
    """A file on the hub, and where it lies once it is downloaded."""

    repository: str
    revision: str
    name: str
    bytes: int
    etag: str
    """SHA-256 of a large file, else what git calls it."""
    is_xet: bool
    link: Path
    blob: Path

    @property
    def partial(self) -> Path:
        """Where a large file grows."""
        return self.blob.with_name(f"{self.etag}.incomplete")

    @property
    def bytes_left(self) -> int:
        """What is still to be downloaded."""
        arrived = self.partial.stat().st_size if self.partial.is_file() else 0
        return max(0, self.bytes - arrived)


def look_up(source: str, names: tuple[str, ...]) -> RemoteFile:
    """Return the first of ``names`` that a checkpoint has.

    Where the commit known from publication is gone, the newest is taken; a revision that the source says is taken or
    nothing. Raises HubUnreachable, WeightsMissing.
    """
    repository, revision = published.split(source)
    known = published.repository(repository).revision
    for candidate in filter(None, [revision] if revision else [known, "main"]):
        for name in names:
            with _explained(source):
                file = _ask(repository, candidate, name)
            if file:
                return file
    raise WeightsMissing(f"{_endpoint()} has no {' or '.join(names)} of {source}: is it the right model, and a hub?")


def _ask(repository: str, revision: str, name: str) -> RemoteFile | None:
    """Ask once: what the client does by itself takes more than a minute where there is no network."""
    import httpx
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    timeout = httpx.Timeout(constants.HF_HUB_ETAG_TIMEOUT, connect=CONNECT_SECONDS)
    try:
        found = get_hf_file_metadata(hf_hub_url(repository, name, revision=revision), timeout=cast(float, timeout))
    except HfHubHTTPError as error:
        if error.response.status_code == httpx.codes.NOT_FOUND and not isinstance(error, RepositoryNotFoundError):
            return None
        raise
    if not (found.commit_hash and found.etag):
        raise HubUnreachable(f"{_endpoint()} does not answer as a hub does; look at HF_ENDPOINT and the proxy")
    folder = hub_cache.repository_folder(repository, locate.places.hub_caches[0])
    return RemoteFile(
        repository, revision, name, found.size or 0, found.etag, found.xet_file_data is not None,
        link=folder / "snapshots" / found.commit_hash / name, blob=folder / "blobs" / found.etag,
    )  # fmt: skip


def download(file: RemoteFile) -> None:
    """Bring a file into the cache. Raises HubUnreachable, WeightsMissing."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import disable_progress_bars

    with _explained(file.repository):
        is_there = hub_cache.SHA256.fullmatch(file.etag) is not None and _transfer(file)
        file.link.unlink(missing_ok=True)
        # The client links what is there, and downloads what is small, or what only Xet gives.
        with disable_progress_bars("huggingface_hub.http_get"):
            hf_hub_download(
                file.repository,
                file.name,
                revision=file.revision,
                cache_dir=locate.places.hub_caches[0],
                force_download=not is_there,  # what is there under its name is damaged
            )


def _transfer(file: RemoteFile) -> bool:
    """Download a large file and prove it; returns whether it is there now. The client would begin anew each time.

    1. Append to what arrived earlier, which is named by what the whole will be; alone, since two would mix theirs.
    2. Only a whole file takes its place; that may be where a damaged one lies.
    3. Its hash is known: two gigabytes need not be read again.
    """
    if file.blob.is_file() and locate.sha256(file.blob) == file.etag:
        return True
    place = file.blob.resolve() if file.blob.exists() else file.blob
    place.parent.mkdir(parents=True, exist_ok=True)
    with file.partial.open("ab") as target:
        try:
            fcntl.flock(target, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WeightsMissing(f"another program is downloading {file.name} of {file.repository}") from error
        if not _receive(file, target):
            file.partial.unlink()
            return False
        _require_hash(file)
        file.partial.replace(place)
    locate.remembered(str(place.resolve()), locate.stamp(place), lambda: file.etag)
    return True


def _receive(file: RemoteFile, target: BufferedWriter) -> bool:
    """Append to ``target`` what it lacks; returns whether it is whole: what Xet stores may be had from there alone."""
    import httpx
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    if target.tell() > file.bytes:  # also where the hub does not tell the size
        target.seek(0)
        target.truncate()
    try:
        http_get(
            hf_hub_url(file.repository, file.name, revision=file.revision),
            target,
            resume_size=target.tell(),
            headers=build_hf_headers(),
            expected_size=file.bytes or None,
            displayed_filename=file.name,
            # Where nothing is to be had this way, Xet need not wait; once something has come, the client tries again.
            **({"_nb_retries": 0} if file.is_xet else {}),
        )
        target.flush()
    except (httpx.HTTPError, OSError) as error:
        if target.tell():
            raise WeightsMissing(
                f"{file.name} of {file.repository} broke off after {size_text(target.tell())} of "
                f"{size_text(file.bytes)} ({_reason(error)}); run the command again, and it goes on there"
            ) from error
        if not file.is_xet:
            raise
        return False
    return True


def _require_hash(file: RemoteFile) -> None:
    with file.partial.open("rb") as arrived:
        digest = hashlib.file_digest(arrived, "sha256").hexdigest()
    if digest != file.etag:
        file.partial.unlink()
        raise WeightsMissing(f"{file.name} of {file.repository} arrived damaged: its SHA-256 is {digest}; try again")


@contextmanager
def _explained(source: str) -> Iterator[None]:
    """Turn what the client raises into sentences."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    try:
        yield
    except OfflineModeIsEnabled as error:
        raise HubUnreachable("HF_HUB_OFFLINE is set: nothing is downloaded") from error
    except HfHubHTTPError as error:
        status = f"{error.response.status_code} {error.response.reason_phrase}"
        if isinstance(error, RepositoryNotFoundError) or error.response.status_code in {401, 403}:
            raise WeightsMissing(
                f"the hub does not show {source} to us ({status}): the name is wrong, or it is not for everybody; "
                "then set HF_TOKEN to the token of an account that may read it"
            ) from error
        raise WeightsMissing(f"{_endpoint()} answers {status} for {source}; try again later") from error
    except (httpx.HTTPError, ConnectionError) as error:
        raise HubUnreachable(f"{_endpoint()} cannot be reached: {_reason(error)}") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise WeightsMissing(f"{source} could not be downloaded: {_reason(error)}") from error


def _endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]
