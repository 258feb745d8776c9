"""Which faults strike, and when: all of it follows from the seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from tests.chaos.faults import ALLOWANCE, KINDS


@dataclass(frozen=True)
class Strike:
    """``seconds`` after the one before; ``after_commit``: then when vectors have been written again.

    Right after a commit the vectors go to Milvus, so that the fault meets the upsert or the flush.
    """

    kind: str
    seconds: float
    after_commit: bool
    seed: int

    def __str__(self) -> str:
        return f"{self.kind} after {self.seconds:.1f} s{' and a commit' if self.after_commit else ''}"


def draw(seed: int, strikes: int, kinds: Collection[str] = ()) -> list[Strike]:
    """Return a schedule that keeps to the allowance of a run; ``kinds`` limits what is drawn from."""
    rng = random.Random(seed)
    left = Counter(ALLOWANCE)
    schedule: list[Strike] = []
    while len(schedule) < strikes:
        fit = [name for name in kinds or KINDS if all(left[cost] for cost in KINDS[name].costs)]
        (name,) = rng.choices(fit, [KINDS[name].weight for name in fit])
        left.subtract(KINDS[name].costs)
        schedule.append(Strike(name, round(rng.uniform(0, 5), 2), rng.random() < 0.6, rng.getrandbits(32)))
    return schedule
