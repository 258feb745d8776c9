"""What has failed and has no vector: the bad files, and the failures that may pass."""

from __future__ import annotations

from django.db.models import Case, Exists, F, OuterRef, QuerySet, TextField, Value, When

from batches.models import TrackResult
from embeddings.errors import AudioFileMissing
from embeddings.library.bad_files import bad_files
from embeddings.models import Embedding, EmbeddingSpace

KIND = Case(
    When(error_class=AudioFileMissing.__name__, then=Value("no such file")),
    default=F("error_message"),
    output_field=TextField(),
)
"""What messages have in common that name the file, each another one; they begin so."""

SAME = {"track": OuterRef("track"), "model": OuterRef("model")}


def passing_failures() -> QuerySet[TrackResult]:
    """Return the last failure of each track and model that has no vector and is not known to be bad.

    The next job tries them again.
    """
    failed = TrackResult.objects.filter(status=TrackResult.Status.FAILED)
    newer = failed.filter(**SAME, job__gt=OuterRef("job"))
    known = bad_files().filter(**SAME).order_by()
    found = failed.filter(~Exists(live_vectors()), ~Exists(known), ~Exists(newer), track__playable=True)
    return found.select_related("track")


def live_vectors() -> QuerySet[Embedding]:
    """Return what search has of the same track and model, within a query over either."""
    return Embedding.objects.filter(
        track=OuterRef("track"), space__model=OuterRef("model"), space__status=EmbeddingSpace.Status.LIVE
    )
