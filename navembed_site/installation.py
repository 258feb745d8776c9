"""Whether this interpreter has all packages in working order. Needs nothing but the standard library.

`make env` runs it, and calls no environment made in which this is not so.
"""

from __future__ import annotations

import importlib
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]

MODULES = (
    "numpy",
    "scipy",
    "numba",
    "soundfile",
    "soxr",
    "av",
    "librosa",
    "psycopg",
    "waitress",
    "grpc",
    "pyarrow",
    "faiss",
    "milvus_lite",
    "pymilvus",
    "safetensors",
    "tokenizers",
    "hf_xet",
    "torch",
    "torchvision",
    "torchaudio",
    "transformers",
    "muq",
    "music2latent",
)
"""What brings native libraries, or loads those of others; what is needed comes before what needs it."""

CHANGED_INSIDE = {
    "django-q2": "1.11.1", "milvus-lite": "3.2.2", "supervisor": "4.3.0", "transformers": "5.15.1", "waitress": "3.0.2",
}  # fmt: skip
"""Packages of which we replace inner parts, and the version whose parts we know.

Where: `batches/messages.py` and the command `worker`, `embeddings/index/lite_patches.py` and `lite_search.py`,
`embeddings/encoders/lean_imports.py`, `navembed_site/instance/supervisor.py`, `navembed_site/http/server.py`.
tests/site/test_private_parts.py finds what has moved.
"""


def unknown_versions() -> list[str]:
    """Say of which of these another version is installed."""
    found = {name: version(name) for name in CHANGED_INSIDE}
    return [
        f"{name} {found[name]} is installed; navembed changes parts inside of it, and knows those of {known}."
        for name, known in CHANGED_INSIDE.items()
        if found[name] != known
    ]


def problem() -> str | None:
    """Import all MODULES in one process; returns what to say of the first that fails.

    A process of its own, because they take a gigabyte and a wrong library may crash who loads it.
    """
    command = [sys.executable, "-m", "navembed_site.installation", *MODULES]
    child = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, errors="replace", check=False)
    if child.returncode == 0:
        return None
    name = [line for line in child.stdout.splitlines() if line in MODULES][-1]
    if child.returncode < 0:
        return sentence(name, f"{signal.Signals(-child.returncode).name} while it was imported")
    return sentence(name, child.stderr.strip().rpartition("\n")[2])


def sentence(name: str, reason: str) -> str:
    """Say that the package ``name`` is of no use here, and what helps."""
    what = f"The package {name} is missing or broken ({reason})."
    venv = PROJECT / ".venv"
    if venv.exists() and venv.samefile(sys.prefix):
        return f"{what} `make clean env` makes the environment anew; if it comes back, see docs/troubleshooting.md."
    return f"{what} This is {sys.executable}; navembed's Python is {venv / 'bin/python'}, and `make env` makes it."


@contextmanager
def explained() -> Iterator[None]:
    """End with a sentence, instead of a traceback, when a package cannot be imported."""
    try:
        yield
    except Exception as error:
        if found := _failed_import(error):
            sys.exit(sentence(*found))
        raise


def _failed_import(error: BaseException | None) -> tuple[str, str] | None:
    """Return the package that failed, and why, if ``error`` or what caused it is a failed import of one not ours."""
    if error is None:
        return None
    if found := _failed_import(error.__cause__):
        return found
    name = None
    if isinstance(error, (ImportError, OSError, AttributeError)):
        name = _being_imported(error)
    if isinstance(error, ModuleNotFoundError) or (isinstance(error, ImportError) and not name):
        name = error.name
    package = (name or "").partition(".")[0]
    return (package, _first_line(error)) if package and not (PROJECT / package).exists() else None


def _being_imported(error: BaseException) -> str | None:
    """The installed module whose own lines ``error`` came out of, if it did."""
    modules = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code.co_name == "<module>"]
    if modules and "site-packages" in modules[-1].f_code.co_filename:
        return str(modules[-1].f_globals["__name__"])
    return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _import(modules: Sequence[str]) -> None:
    """Import ``modules``, naming each before: the last one named is the guilty one, also when it is a crash."""
    for name in modules:
        print(name, flush=True)
        try:
            importlib.import_module(name)
        except BaseException as error:
            sys.exit(_first_line(error))


if __name__ == "__main__":
    if sys.argv[1:]:
        _import(sys.argv[1:])
    else:
        sys.exit(problem())
