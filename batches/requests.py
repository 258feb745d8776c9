"""What a job is asked to do, by HTTP, a command, the console, the schedule, or a dry run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from batches.models import BatchJob
from embeddings.encoders.registry import MODEL_KEYS
from navembed_site.errors import NavembedError

MISSING = "what is missing or has changed"
LARGEST_NUMBER = 2**31 - 1  # that the columns take
LONGEST_PATH = 4096  # that the kernel takes


class RequestRefused(NavembedError):
    """No job can do what is asked for; ``field`` is what is wrong with it."""

    permanent = True
    unprocessable = True

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class JobRequest:
    """The parameters of a job. Raises RequestRefused for what is none."""

    models: Sequence[str] = ()
    """In the order of the registry; none means all of them."""
    clear_existing: bool = False
    """Embed everything anew."""
    retry_bad_files: bool = False
    """Also try files again that are known to be bad."""
    limit: int | None = None
    """At most so many tracks."""
    library_id: int | None = None
    """Only Navidrome's library of this id."""
    path_prefix: str = ""
    """Only files whose absolute path begins so."""
    only_track: str = ""
    """Only the track of this id."""
    only_failed: bool = False
    """Only what has failed, model by model, and what nobody has acknowledged."""
    failed_with: str = ""
    """Of these, only what has failed with a message that begins so."""

    def __post_init__(self) -> None:
        for model in self.models:
            if model not in MODEL_KEYS:
                raise RequestRefused("models", f"unknown model {model!r}; known are {', '.join(MODEL_KEYS)}")
        _require_between("limit", self.limit, 1)
        _require_between("library_id", self.library_id, 0)
        if len(self.path_prefix) > LONGEST_PATH or "\0" in self.path_prefix:
            raise RequestRefused("path_prefix", f"a path has at most {LONGEST_PATH} characters, and none is NUL")
        models = tuple(key for key in MODEL_KEYS if not self.models or key in self.models)
        object.__setattr__(self, "models", models)

    @classmethod
    def of(cls, job: BatchJob) -> JobRequest:
        """Return what was asked for when ``job`` was started."""
        rest = {field.name: getattr(job, field.name) for field in fields(cls) if field.name != "models"}
        return cls(job.model_keys, **rest)

    def job(self, **others: Any) -> BatchJob:
        """Return a job, not saved yet, that does this."""
        values = asdict(self)
        return BatchJob(model_keys=list(values.pop("models")), **values, **others)

    def __str__(self) -> str:
        due = f"what has failed{f' ({self.failed_with})' if self.failed_with else ''}"
        parts = ["everything anew" if self.clear_existing else due if self.only_failed else MISSING]
        parts += ["bad files again"] if self.retry_bad_files else []
        parts += [f"with {' '.join(self.models)}"]
        parts += [f"in library {self.library_id}"] if self.library_id is not None else []
        parts += [f"in files that begin with {self.path_prefix}"] if self.path_prefix else []
        parts += [f"of the track {self.only_track}"] if self.only_track else []
        parts += [f"at most {self.limit:,} tracks"] if self.limit else []
        return ", ".join(parts)

    @property
    def is_restricted(self) -> bool:
        """Whether it concerns only a part of the library."""
        return self.job().is_restricted


def _require_between(field: str, number: int | None, least: int) -> None:
    if number is not None and not least <= number <= LARGEST_NUMBER:
        raise RequestRefused(field, f"{field} is a whole number from {least} to {LARGEST_NUMBER}, not {number}")


EVERYTHING = JobRequest()
"""What is missing or has changed, in the whole library, with all models."""
