"""What the first search would otherwise wait for: imports, and collections that Milvus reads from its disk."""

from __future__ import annotations

import logging

from django.db import DatabaseError

from embeddings.index.sync import vector_store
from embeddings.models import EmbeddingSpace
from navembed_site.errors import NavembedError

logger = logging.getLogger(__name__)

PAUSES = (1.0,) * 30  # seconds between tries: Milvus starts beside us


def warm_up() -> None:
    """Import pymilvus and SciPy, which takes seconds, and let Milvus load what search uses; never raises."""
    import scipy.fft
    import scipy.special  # noqa: F401

    store = vector_store(connect_pauses=PAUSES)
    try:
        for space in EmbeddingSpace.objects.filter(status=EmbeddingSpace.Status.LIVE):
            store.load(space.collection)
    except (DatabaseError, NavembedError) as error:  # the first search does it then
        logger.info("Milvus's collections are not loaded ahead: %s", error)
