"""Judges an instance from outside: plain SQL, pymilvus, and the float64 reference; nothing of ours is asked.

The collections are found by the aliases that other programs use, and vectors are read as raw numbers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.chaos.database import Database

Vector = NDArray[np.float64]
Key = tuple[str, str]
"""(model, track)"""

ALIASES = {"muq": "embedding", "mert": "mert_embedding", "latent": "latent_embedding"}
AGREES = 0.999
SAME = 1e-5  # between the database's numbers and Milvus's float32


@dataclass
class Found:
    """What an instance holds in its live spaces."""

    database: dict[Key, list[Vector]] = field(default_factory=lambda: defaultdict(list))
    milvus: dict[Key, list[Vector]] = field(default_factory=lambda: defaultdict(list))
    live_spaces: Counter[str] = field(default_factory=Counter)
    stray_collections: list[str] = field(default_factory=list)


@dataclass
class Verdict:
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    surplus: int = 0
    details: list[str] = field(default_factory=list)

    def count(self, kind: str, detail: str, number: int = 1) -> None:
        setattr(self, kind, getattr(self, kind) + number)
        self.details.append(f"{kind}: {detail}")


def judge(
    found: Found,
    truth: Mapping[str, int],
    reference: Callable[[str, int], Vector],
    *,
    excused: Collection[str] = (),
    models: Collection[str] = tuple(ALIASES),
) -> Verdict:
    """Compare what was found with the library. ``excused`` tracks changed under the job: either state will do."""
    verdict = Verdict()
    for model in models:
        if found.live_spaces[model] > 1:
            verdict.count("doubled", f"{found.live_spaces[model]} live spaces of {model}")
        for track in sorted(truth.keys() - set(excused)):
            _judge_track(verdict, found, (model, track), reference(model, truth[track]))
    for place in ("database", "milvus"):
        for key, vectors in getattr(found, place).items():
            if len(vectors) > 1:
                verdict.count("doubled", f"{len(vectors)} of {key} in {place}", len(vectors) - 1)
    _judge_agreement(verdict, found, set(truth) - set(excused))
    for name in found.stray_collections:
        verdict.count("surplus", f"collection {name} belongs to no space")
    return verdict


def _judge_track(verdict: Verdict, found: Found, key: Key, expected: Vector) -> None:
    if key not in found.database:
        verdict.count("lost", f"{key} has no vector")
        return
    if key not in found.milvus:
        verdict.count("lost", f"{key} is not in Milvus")
    for vector in found.database[key]:
        agreement = cosine(vector, expected)
        if not agreement >= AGREES:
            verdict.count("wrong", f"{key} has cosine {agreement:.6f} to the reference")


def _judge_agreement(verdict: Verdict, found: Found, judged: set[str]) -> None:
    """Milvus holds what the database holds, and nothing else. What is lost has been counted."""
    for key in sorted(found.milvus.keys() - found.database.keys()):
        verdict.count("surplus", f"{key} is in Milvus without a row")
    for key in sorted(found.database.keys() - found.milvus.keys()):
        if key[1] not in judged:
            verdict.count("surplus", f"{key} has a row and is not in Milvus")
    for key in sorted(found.milvus.keys() & found.database.keys()):
        one, other = found.database[key][0], found.milvus[key][0]
        if one.shape != other.shape or not np.allclose(one, other, atol=SAME):
            verdict.count("wrong", f"{key} differs between database and Milvus")


def cosine(one: Vector, other: Vector) -> float:
    if one.shape != other.shape:
        return float("nan")
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


# Reading


def read(database: Database, milvus: Path) -> Found:
    """Read the live spaces of an instance that runs."""
    found = Found()
    spaces = database.rows("SELECT id, model, dimension, status FROM embeddings_embeddingspace")
    for space, model, dimension, status in spaces:
        if status == "live":
            found.live_spaces[model] += 1
            vectors = database.rows("SELECT track_id, vector FROM embeddings_embedding WHERE space_id = ?", space)
            for track, data in vectors:
                found.database[model, track].append(_numbers(data, dimension))
    _read_milvus(found, milvus, {int(space) for space, *_ in spaces})
    return found


def _numbers(data: bytes, dimension: int) -> Vector:
    """float16 or float32, as the length says."""
    return np.frombuffer(data, {2: "<f2", 4: "<f4"}[len(data) // dimension]).astype(np.float64)


def _read_milvus(found: Found, socket: Path, spaces: set[int]) -> None:
    from pymilvus import MilvusClient

    client: Any = MilvusClient(uri=f"unix:{socket}", timeout=30)
    try:
        names = client.list_collections()
        found.stray_collections = [
            name for name in names if name.startswith("navembed_") and int(name.split("_")[-2]) not in spaces
        ]
        for model, alias in ALIASES.items():
            if alias not in client.list_aliases()["aliases"]:
                continue
            client.load_collection(alias)
            rows = client.query(
                alias,
                filter='track_id != ""',
                output_fields=["track_id", "vector"],
                limit=10_000,
                consistency_level="Strong",
            )
            for row in rows:
                found.milvus[model, row["track_id"]].append(np.asarray(row["vector"], np.float64))
    finally:
        client.close()


# The job itself


def judge_job(database: Database, job: int, may_fail: Collection[str], must_fail: Mapping[str, str]) -> list[str]:
    """Return what contradicts itself in a job that has ended.

    ``may_fail``: tracks that were away or changed. ``must_fail``: tracks and words of their reason.
    """
    ((status, total, processed, failed),) = database.rows(
        "SELECT status, total_tracks, processed_tracks, failed_tracks FROM batches_batchjob WHERE id = ?", job
    )
    models = database.rows("SELECT model, total, succeeded, failed FROM batches_modelprogress WHERE job_id = ?", job)
    rows = database.rows("SELECT track_id, model, status, error_message FROM batches_trackresult WHERE job_id = ?", job)
    problems = [f"the database: {line}" for line in database.damage()]
    statuses: dict[str, set[str]] = defaultdict(set)
    for track, _, state, _ in rows:
        statuses[track].add(state)
    bad = {track for track, states in statuses.items() if "failed" in states}
    counted = (len(statuses), len(statuses) - len(bad), len(bad))
    if counted != (total, processed, failed):
        problems.append(f"total, processed, failed are {(total, processed, failed)}, the rows say {counted}")
    for model, *numbers in models:
        states = Counter(state for _, key, state, _ in rows if key == model)
        if numbers != [states.total(), states["succeeded"], states["failed"]]:
            problems.append(f"{model} counts {numbers}, the rows say {dict(states)}")
    if left := {state for states in statuses.values() for state in states} - {"succeeded", "failed"}:
        problems.append(f"rows are left {sorted(left)}")
    if status != ("completed_with_errors" if bad else "completed"):
        problems.append(f"the job is {status} with {len(bad)} failed tracks")
    reasons = {track: message for track, _, state, message in rows if state == "failed"}
    for track in sorted(bad - set(may_fail) - must_fail.keys()):
        problems.append(f"{track} failed: {reasons[track]}")
    for track, words in must_fail.items():
        if words not in reasons.get(track, ""):
            problems.append(f"{track} failed with {reasons.get(track)!r}, not {words!r}")
    return problems
