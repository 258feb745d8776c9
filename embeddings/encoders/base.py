"""What a model is to the rest of the system: audio in batches in, one row per item out.

A track's waveform is cut into *items* by a ``Segmenter`` (pure NumPy), items of equal shape from any tracks
are encoded together by the ``Encoder`` (the device), and the segmenter pools the rows into one vector.
Importing this package must stay cheap: encoders import torch inside their methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

Waveform = NDArray[np.float32]
"""float32 [channels, samples], full scale ±1."""


class AudioFormat(NamedTuple):
    """What a model wants to hear."""

    sample_rate: int
    channels: int


class Item(NamedTuple):
    """A piece of a track that is encoded as a whole. ``index`` counts from 0 within track and model."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    samples: NDArray[np.float32]


class Pooled(NamedTuple):
    """A track's embedding: float32 [dimension] of unit length, and how many windows or frames it is made of."""

    vector: NDArray[np.float32]
    windows: int


@dataclass(frozen=True)
class Description:
    """What a checkpoint makes of a model; known without loading it."""

    dimension: int
    fingerprint: dict[str, Any]
    """Everything that decides a vector's value: recipe and its version, rate, window, hop, weights' SHA-256."""
    weight_bytes: int
    """Size of the weight files; what is held once loaded may be less (``Encoder.bytes_held``)."""
    source: str
    """Hub id with revision, or folder."""


Files = tuple[tuple[str, ...], ...]


class Segmenter(ABC):
    """Cuts one track for one model. Blocks come in order; memory does not grow with the track's length."""

    @abstractmethod
    def push(self, block: Waveform) -> Iterable[Item]:
        """Take the next block and return the items that are complete now. Items own their samples."""

    @abstractmethod
    def finish(self) -> Iterable[Item]:
        """Return what remains once the track has ended."""

    @abstractmethod
    def pool(self, rows: NDArray[np.float32]) -> Pooled:
        """Turn the encoded rows [items, …], ordered by index (possibly memory-mapped), into the embedding."""


class Model(ABC):
    """A network that the model manager loads when it is needed. Subclasses implement ``describe`` and ``_load``."""

    key: ClassVar[str]
    """Short name in the API, commands and database."""
    label: ClassVar[str]
    description: ClassVar[str]
    batch_size: ClassVar[int] = 1
    """Most items in a batch; the model manager halves it when memory runs out."""
    reduced_precision: ClassVar[str] = "bfloat16"
    """What a GPU computes in; must keep a cosine of 0.999 to float32."""

    def __init__(self, source: str, device: str) -> None:
        self.source = source
        self.device = device
        self._network: Any = None
        self.loaded_as: Description | None = None
        """What the files were when it was loaded last; they may have been replaced since."""

    @abstractmethod
    def describe(self) -> Description:
        """Read the checkpoint's files, without torch. Raises WeightsMissing, WeightsUnusable."""

    @abstractmethod
    def _load(self) -> Any:
        """Build the network on ``self.device`` and return it: a torch Module in evaluation mode.

        Raises WeightsMissing, WeightsUnusable.
        """

    @property
    def loaded(self) -> bool:
        return self._network is not None

    @property
    def bytes_held(self) -> int:
        """Bytes of the weights on the device; 0 while unloaded."""
        network = self._network  # another thread may unload it meanwhile
        if network is None:
            return 0
        tensors = [*network.parameters(), *network.buffers()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def load(self) -> None:
        """Load once; the model manager holds the lock."""
        if self._network is None:
            self.loaded_as = self.describe()  # first: of files that change meanwhile it is the old name, and refused
            self._network = self._load()

    def unload(self) -> None:
        self._network = None

    @cached_property
    def precision(self) -> str:
        """``reduced_precision`` where the GPU has bfloat16 in hardware, else ``float32``."""
        import torch

        device = torch.device(self.device)
        if device.type != "cuda":
            return "float32"
        with torch.cuda.device(device):
            has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return self.reduced_precision if has_bfloat16 else "float32"

    def _autocast(self) -> AbstractContextManager[Any]:
        """Return a context in which torch computes in ``precision``; weights stay float32."""
        import torch

        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, getattr(torch, self.precision))


class Encoder(Model):
    """A model that hears tracks. Subclasses implement ``describe``, ``segmenter``, ``_load`` and ``encode``."""

    default_source: ClassVar[str]
    """Hub id of the published weights."""
    files: ClassVar[Files]
    """The checkpoint's files; of each group the first that exists is used."""
    alias: ClassVar[str]
    """Name of the collection in Milvus, as clients know it."""
    audio: ClassVar[AudioFormat]
    published_dimension: ClassVar[int]
    """Dimension with the published architecture (a checkpoint may say otherwise: ``describe``)."""
    stored_dtype: ClassVar[str] = "float32"
    search_dimension: ClassVar[int | None] = None
    """Numbers of the search vector where it is a projection of the embedding (``embeddings.projection``)."""
    teraflop_per_second: ClassVar[float]
    """Cost of one second of audio, to weigh chunks until a rate has been measured."""
    batch_size: ClassVar[int]

    def parts(self) -> dict[str, Files]:
        """Return other checkpoints that this one names, and the files needed of each. Raises as ``describe``."""
        return {}

    @abstractmethod
    def segmenter(self) -> Segmenter:
        """Return a cutter for one track."""

    @abstractmethod
    def encode(self, items: NDArray[np.float32]) -> NDArray[np.float32]:
        """Encode a batch [items, …samples] on the device; returns float32 [items, …row]. The model is loaded."""

    def embed(self, waveform: Waveform) -> Pooled:
        """Embed one whole waveform [channels, samples] at ``audio.sample_rate``."""
        segmenter = self.segmenter()
        items = [*segmenter.push(waveform), *segmenter.finish()]
        return segmenter.pool(np.stack([self.encode(item.samples[None])[0] for item in items]))


class TextModel(Model):
    """A model that reads prompts. Subclasses implement ``describe``, ``require_files``, ``_load`` and ``embed``."""

    hears_with: ClassVar[str]
    """The encoder in whose space its vectors lie; one file of weights holds both."""

    @abstractmethod
    def require_files(self) -> None:
        """Read no more than configs. Raises WeightsMissing, WeightsUnusable when no prompt can be embedded."""

    @abstractmethod
    def embed(self, prompt: str) -> NDArray[np.float32]:
        """Embed one prompt; returns a unit vector, float32 [dimension]. The model is loaded."""


def is_folder(source: str) -> bool:
    """Whether ``source`` names a local folder rather than a hub id."""
    return Path(source).expanduser().is_absolute() or Path(source).is_dir()
