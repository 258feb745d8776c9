"""The search index in Milvus. pymilvus is heavy: import this module where it is used.

Every call has a time-out and ends in a result, in IndexRefused (the same call would fail again) or in
IndexUnavailable (it may pass). The same calls work on our Lite server and on any Milvus.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pymilvus import DataType, MilvusClient
from pymilvus.client.types import LoadState

from embeddings.errors import IndexRefused, IndexUnavailable
from embeddings.index.connection import MilvusCalls
from navembed_site.names import ID_BYTES, can_be_id

OWN_PREFIX = "navembed_"
"""Our collections begin with it; no other is ever dropped."""
NAME_BYTES = 1024
MESSAGE_BYTES = 8 * 2**20  # of vectors in one call; a Milvus server takes 64 MB
IDS_PER_CALL = 1000
IDS_PER_PAGE = 10_000
NOT_LOADED = 101  # Milvus's error code
HNSW = {"M": 50, "efConstruction": 250}
HNSW_EF = 256  # recall@10 against brute force: docs/performance.md
SEAL_ROWS = 2_000  # a server searches up to 5,000 rows of a growing segment exactly, more of them by a rough index


class IndexRow(NamedTuple):
    """What Milvus keeps of a track: its name is for humans, ``vector`` is its search vector [dimension]."""

    track_id: str
    name: str
    library_id: int
    vector: NDArray[np.float32]


class Hit(NamedTuple):
    """A track found, and the cosine between its search vector and the one searched for."""

    track_id: str
    score: float


class VectorStore(MilvusCalls):
    """The index that the settings name. All methods raise IndexUnavailable when Milvus is away, too slow, or fails."""

    # Collections

    def ensure_collection(self, name: str, dimension: int) -> None:
        """Make or mend the collection and load it. Raises IndexRefused when it holds another dimension."""
        _require_own(name)
        if not self.exists(name):
            self._create(name, dimension)
        fields = self._read("describe_collection", name)["fields"]
        found = {field["name"]: field["params"].get("dim") for field in fields}.get("vector")
        if found is None or int(found) != dimension:
            raise IndexRefused(f"collection {name} holds vectors of {found} numbers instead of {dimension}")
        if not self._read("list_indexes", name):
            self._write("create_index", name, self._index())
        self.load(name)

    def load(self, name: str) -> None:
        """Make the collection searchable; after a restart of Lite none is."""
        if self._read("get_load_state", name)["state"] != LoadState.Loaded:  # else it would take half a second
            self._write("load_collection", name)

    def exists(self, name: str) -> bool:
        """Whether a collection, not an alias, has this name."""
        return name in self.collections()

    def collections(self) -> list[str]:
        return list(self._read("list_collections"))

    def drop(self, name: str) -> None:
        """Drop one of our collections, and the aliases that point to it, if it exists."""
        _require_own(name)
        if not self.exists(name):
            return
        for alias in self.aliases_of(name):
            self.drop_alias(alias)
        self._write("drop_collection", name)

    def rename(self, name: str, new: str) -> None:
        """Renames one of our collections; its aliases stay with it."""
        _require_own(name)
        self._write("rename_collection", name, new)

    def _create(self, name: str, dimension: int) -> None:
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("track_id", DataType.VARCHAR, is_primary=True, max_length=ID_BYTES)
        schema.add_field("name", DataType.VARCHAR, max_length=NAME_BYTES)
        schema.add_field("library_id", DataType.INT64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
        try:
            self._write("create_collection", name, schema=schema, consistency_level="Strong")
        except IndexUnavailable:
            if not self.exists(name):  # else another process was faster
                raise

    def _index(self) -> Any:
        """FLAT on Lite: its HNSW misses neighbours and is built anew at every compaction."""
        kind: dict[str, Any] = {"index_type": "HNSW", "params": HNSW}
        if self._connection().is_lite:
            kind = {"index_type": "FLAT"}
        index = MilvusClient.prepare_index_params()
        index.add_index("vector", index_name="vector", metric_type="COSINE", **kind)
        return index

    # Rows

    def upsert(self, name: str, rows: Sequence[IndexRow], *, dimension: int) -> None:
        """Write rows; an id again replaces its row. Call ``flush`` after the last.

        Raises IndexRefused, before anything is written, when one of them must not go into the index.
        """
        entities = [_entity(row, dimension) for row in rows]
        step = max(1, MESSAGE_BYTES // (4 * dimension))
        for start in range(0, len(entities), step):
            self._write("upsert", name, entities[start : start + step])
        self._connection().unsealed[name] += len(entities)

    def flush(self, name: str) -> None:
        """Makes writes durable, and fast to search: unflushed rows take Lite 100 times longer.

        A Milvus server has them in its log when it has answered. A flush takes seconds there, may be limited to one in
        ten seconds, and leaves a segment, of which small ones are never indexed: so only every SEAL_ROWS rows have one.
        """
        connection = self._connection()
        if connection.is_lite or connection.unsealed[name] >= SEAL_ROWS:
            self.seal(name)

    def seal(self, name: str) -> None:
        """Flushes, after which a Milvus server builds its index over what was written."""
        self._write("flush", name)
        del self._connection().unsealed[name]

    def delete(self, name: str, ids: Sequence[str]) -> None:
        """Remove rows; absent ids are no error. Call ``flush`` after the last."""
        for start in range(0, len(ids), IDS_PER_CALL):
            self._write("delete", name, filter=f"track_id in {_among(ids[start : start + IDS_PER_CALL])}")

    def search(
        self,
        name: str,
        vector: NDArray[np.float32],
        limit: int,
        *,
        exclude: Iterable[str] = (),
        library_ids: Iterable[int] | None = None,
        fresh: bool = False,
    ) -> list[Hit]:
        """Return the ``limit`` rows nearest to ``vector`` [dimension] by cosine, best first; ``fresh`` as below."""
        (hits,) = self.search_all(name, vector[None], limit, exclude=exclude, library_ids=library_ids, fresh=fresh)
        return hits

    def search_all(
        self,
        name: str,
        vectors: NDArray[np.float32],
        limit: int,
        *,
        exclude: Iterable[str] = (),
        library_ids: Iterable[int] | None = None,
        fresh: bool = False,
    ) -> list[list[Hit]]:
        """Return for each of ``vectors`` [n, dimension] its ``limit`` nearest rows by cosine, best first.

        What was written in the last seconds may be missing unless it is to be ``fresh``, for which a Milvus server
        makes every search wait for about 0.3 s.
        """
        excluded = sorted(set(exclude))
        conditions = [f"track_id not in {_among(excluded)}"] if excluded else []
        if library_ids is not None:
            conditions.append(f"library_id in {sorted(set(library_ids))}")
        found = self._read_loaded(
            "search",
            name,
            list(np.asarray(vectors, np.float32)),
            filter=" and ".join(conditions),
            limit=limit,
            output_fields=["track_id"],  # an empty list means all of them on Lite
            search_params={"metric_type": "COSINE", "params": {"ef": max(HNSW_EF, 2 * limit)}},
            consistency_level="Strong" if fresh else "Bounded",
        )
        return [[Hit(hit["track_id"], float(hit["distance"])) for hit in hits] for hits in found]

    def count(self, name: str) -> int:
        """Return the number of rows."""
        counted = self._read_loaded("query", name, output_fields=["count(*)"], consistency_level="Strong")
        return int(counted[0]["count(*)"])

    def held(self, name: str, ids: Sequence[str]) -> set[str]:
        """Return which of these ids have a row."""
        found: set[str] = set()
        for start in range(0, len(ids), IDS_PER_CALL):
            rows = self._read_loaded(
                "query",
                name,
                filter=f"track_id in {_among(ids[start : start + IDS_PER_CALL])}",
                output_fields=["track_id"],
                consistency_level="Strong",
            )
            found.update(row["track_id"] for row in rows)
        return found

    def ids(self, name: str) -> Iterator[str]:
        """Iterate over the ids of all rows, with one page of them in memory."""
        pages = self._read_loaded(
            "query_iterator",
            name,
            batch_size=IDS_PER_PAGE,
            output_fields=["track_id"],
            consistency_level="Strong",
        )
        while page := self._guarded(pages.next):
            yield from (row["track_id"] for row in page)

    # Aliases: the names by which other programs know our collections

    def point_alias(self, alias: str, collection: str) -> None:
        """Points the alias at the collection, whatever it named before.

        Raises IndexRefused when a collection of somebody else's has the alias's name.
        """
        if self.foreign_collections([alias]):
            raise IndexRefused(f"Milvus has a collection of somebody else's named {alias}; run adopt_milvus")
        target = self.alias_target(alias)
        if target is None:
            self.create_alias(alias, collection)
        elif target != collection:
            self._write("alter_alias", collection, alias)

    def create_alias(self, alias: str, collection: str) -> None:
        self._write("create_alias", collection, alias)

    def drop_alias(self, alias: str) -> None:
        self._write("drop_alias", alias)

    def alias_target(self, alias: str) -> str | None:
        """Return the name of the collection that the alias names, if there is such an alias."""
        if alias not in self._read("list_aliases")["aliases"]:
            return None
        return str(self._read("describe_alias", alias)["collection_name"])

    def aliases_of(self, collection: str) -> list[str]:
        """Return the aliases of a collection that exists."""
        return list(self._read("list_aliases", collection)["aliases"])

    def foreign_collections(self, aliases: Iterable[str]) -> list[str]:
        """Return which of our aliases are names of collections, which then are not ours."""
        return sorted(set(aliases) & set(self.collections()))

    def adopt(self, alias: str) -> str:
        """Rename the foreign collection of this name to ``<alias>_replaced``; returns the new name."""
        taken = self.collections()
        names = (f"{alias}_replaced{suffix}" for suffix in ("", *(f"_{n}" for n in range(2, len(taken) + 3))))
        free = next(name for name in names if name not in taken)
        self._write("rename_collection", alias, free)
        return free

    def _read_loaded(self, method: str, name: str, *args: Any, **kwargs: Any) -> Any:
        """Read from a collection; when it proves not to be loaded, load it and read again."""
        try:
            return self._read(method, name, *args, **kwargs)
        except IndexUnavailable as error:
            if getattr(error.__cause__, "code", None) != NOT_LOADED:
                raise
        self.load(name)
        return self._read(method, name, *args, **kwargs)


def _require_own(name: str) -> None:
    if not name.startswith(OWN_PREFIX):
        raise IndexRefused(f"collection {name} is not one of ours")


def _entity(row: IndexRow, dimension: int) -> dict[str, Any]:
    vector = np.asarray(row.vector, np.float32)
    if vector.shape != (dimension,):
        raise IndexRefused(f"track {row.track_id}: a vector of shape {vector.shape} instead of ({dimension},)")
    if not np.isfinite(vector).all() or not vector.any():
        raise IndexRefused(f"track {row.track_id}: the vector is zero or not finite")
    _literal(row.track_id)  # what could not be named in an expression could never be deleted
    name = row.name.encode("utf-8", "replace")[:NAME_BYTES].decode("utf-8", "ignore")
    return {"track_id": row.track_id, "name": name, "library_id": row.library_id, "vector": vector}


def _among(ids: Iterable[str]) -> str:
    return f"[{', '.join(map(_literal, ids))}]"


def _literal(track_id: str) -> str:
    """Return the id as a literal of Milvus's expressions; Lite has no parameters for them."""
    if not can_be_id(track_id):
        raise IndexRefused(f"{track_id!r} cannot be a track's id: 1 to {ID_BYTES} bytes without control characters")
    return '"' + track_id.replace("\\", "\\\\").replace('"', '\\"') + '"'
