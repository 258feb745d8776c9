"""Reading weights without running anything that came with them, and giving them to a network."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embeddings.errors import WeightsUnusable

DERIVED = re.compile(
    r"(^|\.)(preprocessor_\w+\..+|inv_freq|position_ids|token_type_ids|num_batches_tracked|\w+_layers_indices)$"
)
"""Names of what follows from a config: some versions of a package keep it among the weights, others do not."""
SOME = 4  # names that an error message lists


@dataclass(frozen=True)
class Selection:
    """Which tensors of a file are a network's."""

    prefix: str = ""
    """Stands before every name, and is no part of it."""
    part: str = ""
    """Only names that begin so, after the prefix."""
    within: str = ""
    """The entry of a torch file that holds them."""
    unused: tuple[str, ...] = ()
    """Beginnings of names that computing a vector has no use for; the file may have them."""

    def of(self, found: dict[str, Any]) -> dict[str, Any]:
        """Return a file's tensors by the network's names, without what is unused or derived."""
        wanted = self.prefix + self.part
        named = {name.removeprefix(self.prefix): found[name] for name in found if name.startswith(wanted)}
        return {n: t for n, t in named.items() if not n.startswith(self.unused) and not DERIVED.search(n)}


def check_readable(path: Path) -> None:
    """Read the table of contents of a weights file. Raises WeightsUnusable."""
    _open_tensors(path)


def open_tensors(path: Path, selection: Selection) -> dict[str, Any]:
    """Return the selected tensors by the network's names, mapped rather than read where the format allows.

    Reads safetensors, and torch files with ``weights_only``: nothing in the file is run. Raises WeightsUnusable.
    """
    tensors = selection.of(_open_tensors(path, selection.within))
    if not tensors:
        raise WeightsUnusable(f"{path} holds no weights named {selection.prefix}{selection.part}…")
    return tensors


def read_tensors(path: Path, selection: Selection) -> dict[str, Any]:
    """Return the selected tensors in the CPU's memory, floating point as float32. Raises WeightsUnusable."""
    import torch

    return {
        # A copy, so that neither the rest of the file nor its mapping stays in memory.
        name: tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
        for name, tensor in open_tensors(path, selection).items()
    }


def _open_tensors(path: Path, within: str = "") -> dict[str, Any]:
    import torch
    from safetensors.torch import load_file

    with _as_unusable(path):
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with torch.serialization.safe_globals(_number_types()):
            content = dict(torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)))
    if within and not isinstance(content.get(within), dict):
        raise WeightsUnusable(f"{path} has no {within}: is it another model's?")
    found = content[within] if within else content
    return {name: tensor for name, tensor in found.items() if isinstance(tensor, torch.Tensor)}


def _number_types() -> list[Any]:
    """What a NumPy number in a torch file consists of: music2latent.pt keeps a score of its training in one."""
    import numpy as np
    from numpy._core.multiarray import scalar

    # By the names that NumPy 1 and 2 write.
    names = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [*names, np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType]


@contextmanager
def _as_unusable(path: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # unpickling, zip and safetensors errors have no common base
        raise WeightsUnusable(f"{path} cannot be read as weights: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return the first sentence of what the libraries say, or our own where theirs tells to run the file."""
    if isinstance(error, pickle.UnpicklingError):
        asked = re.search(r"GLOBAL (\S+)", str(error))
        return f"it asks for {asked[1]}, which is not run" if asked else "it is damaged, or no file of PyTorch's"
    return re.split(r"\.?\n|\. ", str(error).strip())[0] or repr(error)


@contextmanager
def without_weights() -> Iterator[None]:
    """Build modules in this context without their weights: these take no memory until ``load_strictly`` gives them.

    A large network would draw random numbers for half a minute, and take its memory twice. What modules compute from
    their configs (``DERIVED``) is computed.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class WithoutWeights(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = dict(kwargs or {})
            if func is torch.empty:
                kwargs["device"] = "meta"
            return func(*args, **kwargs)

    with WithoutWeights():
        yield


def load_strictly(network: Any, tensors: dict[str, Any], path: Path) -> None:
    """Give ``network`` exactly its weights.

    Raises WeightsUnusable naming a few of those that are missing, left over, or of another shape.
    """
    try:
        missing, unexpected = network.load_state_dict(tensors, strict=False, assign=True)
    except RuntimeError as error:
        problems = [line.strip() for line in str(error).splitlines()[1 : 1 + SOME]]
        raise WeightsUnusable(f"{path} is of another shape than its config says: {'; '.join(problems)}") from error
    missing = [name for name in missing if not DERIVED.search(name)]
    for problem, names in (("lacks", missing), ("has unknown weights", unexpected)):
        if names:
            more = f" and {len(names) - SOME} more" if len(names) > SOME else ""
            raise WeightsUnusable(f"{path} {problem}: {', '.join(sorted(names)[:SOME])}{more}")
