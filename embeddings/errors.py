"""What may go wrong on a track's way, and whether trying again can help."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from navembed_site.errors import NavembedError


class NoSuchTracks(NavembedError):
    """No track is where somebody wants some; the message says where there are any."""

    permanent = True
    unprocessable = True
    stage = "library"


class AudioError(NavembedError):
    """The file cannot be decoded, or too little of it can."""

    permanent = True
    stage = "decode"


class AudioFileMissing(AudioError):
    """The library names a file that is not there (now)."""

    permanent = False


class FileUnreachable(AudioError):
    """The storage answers with an error instead of the file's content."""

    permanent = False


class DecoderDied(AudioError):
    """The decoder process crashed or hung on this file and was killed."""

    permanent = False


class EncodeError(NavembedError):
    """A model could not turn this audio into a vector."""

    permanent = True
    stage = "encode"


class DeviceOutOfMemory(NavembedError):
    """A batch of one does not fit in the device's memory."""

    stage = "encode"


class WeightsMissing(NavembedError):
    """A model's weights are not on this machine; ``manage.py fetch_models`` gets them."""

    stage = "encode"


class WeightsUnusable(NavembedError):
    """The weights are there, but they are not those of a network we can build."""

    stage = "encode"


class FingerprintChanged(NavembedError):
    """Vectors of different weights or recipes would be mixed, or compared."""

    permanent = True
    stage = "encode"


class NoSuchSpace(NavembedError):
    """The model has no space in the state that is asked for."""

    permanent = True


class SwitchRefused(NavembedError):
    """A build must not become what search uses."""

    permanent = True


class EmbedderUnavailable(NavembedError):
    """The embedder does not answer: not started, or it died."""

    stage = "encode"


class EmbedderStarting(EmbedderUnavailable):
    """The embedder's process is there, but does not listen yet."""


class EmbedderDied(EmbedderUnavailable):
    """The embedder died, or froze, while it worked on what was asked."""


class TextUnavailable(NavembedError):
    """A model cannot be searched by text; the message says what to run."""

    permanent = True
    stage = "encode"


class TextNotReady(NavembedError):
    """The text model is loading, or waits for the device, and was not ready in time; it goes on meanwhile."""

    stage = "encode"


class LibraryUnavailable(NavembedError):
    """Navidrome's database or the music folder cannot be read now."""

    stage = "library"


class ServerUnavailable(NavembedError):
    """The music server (NAVEMBED_SUBSONIC_URL) does not answer as one that speaks the Subsonic API."""

    stage = "server"


class ServerRefused(NavembedError):
    """The music server does not do what is asked; ``code`` is the API's."""

    permanent = True
    stage = "server"

    def __init__(self, message: str, *, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class PlaylistRefused(NavembedError):
    """A playlist cannot be made so; the message says what to change."""

    permanent = True
    unprocessable = True


class IndexUnavailable(NavembedError):
    """Milvus does not answer in time."""

    stage = "index"


class IndexRefused(NavembedError):
    """A vector or collection that must not go into the index: NaN, wrong dimension, foreign space."""

    permanent = True
    stage = "index"


class BadUpload(NavembedError):
    """What was sent is no upload, or no music; the message is shown to the sender."""

    permanent = True
    unprocessable = True


class NotEmbedded(NavembedError):
    """An upload cannot be embedded while its sender waits; the next job does it."""

    stage = "encode"


class OutOfTime(NavembedError):
    """What was asked for cannot be there while somebody still waits for it."""

    stage = "search"


NOT_LOADABLE = (WeightsMissing, WeightsUnusable, DeviceOutOfMemory)
"""What a model that cannot be loaded raises; with ``model`` set it concerns all tracks alike."""

OF_ONE_HOST = (*NOT_LOADABLE, EmbedderUnavailable, FingerprintChanged, IndexUnavailable, LibraryUnavailable)
"""What may be so on one host alone; others may go on."""


@contextmanager
def concerning(model: str) -> Iterator[None]:
    """Name the model that an error raised inside concerns."""
    try:
        yield
    except NavembedError as error:
        error.model = error.model or model
        raise
