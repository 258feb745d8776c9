"""What a model is to the rest of the system: audio in batches in, one row per item out.

A track's waveform is cut into *items* by a ``Segmenter`` (pure NumPy), items of equal shape from any tracks
are encoded together by the ``Encoder`` (the device), and the segmenter pools the rows into one vector.
Importing this package must stay cheap: encoders import torch inside their methods.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embeddings.encoders.gathering import Gatherer, Items, gatherer_on
from embeddings.errors import WeightsMissing, WeightsUnusable
from embeddings.weights.locate import Files, find_checkpoint, find_part, remembered, stamp
from embeddings.weights.tensors import Selection, load_strictly, open_tensors, read_tensors, without_weights

CPU_INFO = Path("/proc/cpuinfo")
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


class Segmenter(ABC):
    """Cuts one track for one model. Blocks come in order; memory does not grow with the track's length."""

    @abstractmethod
    def push(self, block: Waveform) -> Iterable[Item]:
        """Take the next block, which does not change any more, and return the items that are complete now.

        Items are views of what was pushed where that is possible.
        """

    @abstractmethod
    def finish(self) -> Iterable[Item]:
        """Return what remains once the track has ended."""

    @abstractmethod
    def pool(self, rows: NDArray[np.float32]) -> Pooled:
        """Turn the encoded rows [items, …], ordered by index (possibly memory-mapped), into the embedding."""


class Model(ABC):
    """A network that the model manager loads when it is needed.

    Subclasses implement ``describe``, ``weights_file`` and ``_build``.
    """

    key: ClassVar[str]
    """Short name in the API, commands and database."""
    label: ClassVar[str]
    description: ClassVar[str]
    batch_size: ClassVar[int] = 1
    """Most items in a batch; the model manager halves it when memory runs out."""
    reduced_precision: ClassVar[str] = "bfloat16"
    """What a GPU computes in, and a CPU that has it in hardware; must keep a cosine of 0.999 to float32."""
    tensors: ClassVar[Selection] = Selection()
    """Which of the tensors in the file of weights are the network's."""

    def __init__(self, source: str, device: str) -> None:
        self.source = source
        self.device = device
        self._network: Any = None
        self.loaded_as: Description | None = None
        """What the files were when it was loaded last; they may have been replaced since."""

    @abstractmethod
    def describe(self) -> Description:
        """Read the checkpoint's files; without torch, unless ``weights_file`` must tell several apart.

        Raises WeightsMissing, WeightsUnusable.
        """

    @abstractmethod
    def weights_file(self) -> Path:
        """Return the file that the weights are read from. Raises WeightsMissing, WeightsUnusable."""

    @abstractmethod
    def _build(self) -> Any:
        """Build the network from the checkpoint's configs; its weights are filled in afterwards.

        Raises WeightsMissing, WeightsUnusable.
        """

    def verify(self) -> None:
        """Compare the names and shapes in the file of weights with those of the network.

        Raises WeightsMissing, WeightsUnusable. Imports torch and the model's package (seconds, some 500 MB the first
        time); then it takes about a second and no memory: weights are neither read nor made.
        """
        self.check_weights(self.weights_file())

    def check_weights(self, path: Path) -> None:
        """Raise WeightsUnusable unless ``path`` holds exactly the network's weights; costs what ``verify`` does."""
        with without_weights():
            network = self._build()
        load_strictly(network, open_tensors(path, self.tensors), path)

    def _load(self) -> Any:
        """Return the network with its weights on ``self.device``, in evaluation mode. Raises as ``verify``."""
        path = self.weights_file()
        with without_weights():
            network = self._build()
        load_strictly(network, read_tensors(path, self.tensors), path)
        if self.device == "cpu" and self.precision == "bfloat16" and has_amx():
            _convolve_in_float32(network)
        return network.to(self.device).eval().requires_grad_(False)

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
        """``reduced_precision`` where the device has it in hardware, else ``float32``."""
        import torch

        device = torch.device(self.device)
        if device.type == "cuda":
            with torch.cuda.device(device):
                has_it = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            has_it = device.type == "cpu" and self.reduced_precision == "bfloat16" and has_amx()
        return self.reduced_precision if has_it else "float32"

    def _autocast(self) -> AbstractContextManager[Any]:
        """Return a context in which torch computes in ``precision``; weights stay float32."""
        import torch

        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, getattr(torch, self.precision))


def has_amx() -> bool:
    """Whether this processor multiplies matrices in bfloat16 (Intel's AMX), and oneDNN may let it.

    AVX-512 has bfloat16, too, but is slower with it than in float32.
    """
    most = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    with suppress(OSError):
        return (most in {"ALL", "DEFAULT"} or "AMX" in most) and "amx_bf16" in CPU_INFO.read_text()
    return False


def _convolve_in_float32(network: Any) -> None:
    """Keep those in groups out of autocast: with AMX, oneDNN is wrong for groups of four channels (torch 2.11)."""
    import torch

    def exact(forward: Any) -> Any:
        convolve = torch.autocast("cpu", enabled=False)(forward)
        return lambda heard: convolve(heard.float())

    for part in network.modules():
        if isinstance(part, torch.nn.Conv1d | torch.nn.Conv2d) and part.groups > 1:
            part.forward = exact(part.forward)  # type: ignore[method-assign]


class Encoder(Model):
    """A model that hears tracks. Subclasses implement ``describe``, ``segmenter``, ``_build`` and ``encode``."""

    default_source: ClassVar[str]
    """Hub id of the published weights."""
    files: ClassVar[Files]
    """The checkpoint's files; of each group the first that exists is used. The last group is that of the weights."""
    alias: ClassVar[str]
    """Name of the collection in Milvus, as clients know it."""
    audio: ClassVar[AudioFormat]
    published_dimension: ClassVar[int]
    """Dimension with the published architecture (a checkpoint may say otherwise: ``describe``)."""
    stored_dtype: ClassVar[str] = "float32"
    search_dimension: ClassVar[int | None] = None
    """Numbers of the search vector where it is a projection of the embedding (``embeddings.index.projection``)."""
    teraflop_per_second: ClassVar[float]
    """Cost of one second of audio, to weigh chunks until a rate has been measured."""
    batch_size: ClassVar[int]

    def parts(self) -> dict[str, Files]:
        """Return other checkpoints that this one names, and the files needed of each. Raises as ``describe``."""
        return {}

    def weights_file(self) -> Path:
        """Return the file of weights that is used: where there are several, the first that fits the network.

        Only to tell several apart is the network built, as in ``verify``; the answer is remembered until one of the
        files changes, so that describing and loading use the same file. Raises WeightsMissing,
        WeightsUnusable.
        """
        candidates = find_checkpoint(self.source, self.files).paths(*self.files[-1])
        if len(candidates) == 1:
            return candidates[0]
        question = f"fits {self.key}: {' '.join(map(str, candidates))}"
        stamps = [number for path in self._inputs() for number in stamp(path)]
        return Path(remembered(question, stamps, lambda: str(self._first_that_fits(candidates))))

    def _first_that_fits(self, candidates: list[Path]) -> Path:
        problems = []
        for path in candidates:
            try:
                self.check_weights(path)
            except WeightsUnusable as error:
                problems.append(str(error))
            else:
                return path
        raise WeightsUnusable("; ".join(problems))

    def _inputs(self) -> list[Path]:
        """Return all files that decide which weights fit."""
        whole = find_checkpoint(self.source, self.files)
        wanted = {whole: self.files}
        for name, files in self.parts().items():
            with suppress(WeightsMissing):
                wanted[find_part(whole, name, ())] = files
        paths = [part.folder / name for part, files in wanted.items() for group in files for name in group]
        return [path for path in paths if path.is_file()]

    @abstractmethod
    def segmenter(self) -> Segmenter:
        """Return a cutter for one track."""

    @abstractmethod
    def encode(self, items: Items) -> NDArray[np.float32]:
        """Encode a batch [items, …samples] on the device; returns float32 [items, …row]. The model is loaded."""

    @property
    def gatherer(self) -> Gatherer:
        """Brings items to the device."""
        return gatherer_on(self.device)

    def embed(self, waveform: Waveform) -> Pooled:
        """Embed one whole waveform [channels, samples] at ``audio.sample_rate``."""
        segmenter = self.segmenter()
        items = [*segmenter.push(waveform), *segmenter.finish()]
        return segmenter.pool(np.stack([self.encode(item.samples[None])[0] for item in items]))


class TextModel(Model):
    """A model that reads prompts. Subclasses implement ``require_files`` and ``embed``, too."""

    audio_model: ClassVar[str]
    """The encoder in whose space its vectors lie; one file of weights holds both."""

    @abstractmethod
    def require_files(self) -> None:
        """Read no more than configs. Raises WeightsMissing, WeightsUnusable when no prompt can be embedded."""

    @abstractmethod
    def embed(self, prompt: str) -> NDArray[np.float32]:
        """Embed one prompt; returns a unit vector, float32 [dimension]. The model is loaded."""
