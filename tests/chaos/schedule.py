"""Which faults strike, and when: all of it follows from the seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from tests.chaos.faults import ALLOWANCE, KINDS

MOMENTS = {"": 4, "a write": 2, "a commit": 4}
"""When a fault strikes, and how often: at once; while the worker writes vectors to the database; when they were
committed and are on their way to Milvus."""

END = "the end"
"""All tracks are done and the job has not ended: of half of the schedules the last fault strikes here."""


@dataclass(frozen=True)
class Strike:
    """``seconds`` after the one before, and then at the next ``moment``."""

    kind: str
    seconds: float
    moment: str
    seed: int

    def __str__(self) -> str:
        return f"{self.kind} after {self.seconds:.1f} s{self.moment and ' and '}{self.moment}"


def draw(seed: int, strikes: int, kinds: Collection[str] = ()) -> list[Strike]:
    """Return a schedule that keeps to the allowance of a run; ``kinds`` limits what is drawn from."""
    rng = random.Random(seed)
    left = Counter(ALLOWANCE)
    schedule: list[Strike] = []
    while len(schedule) < strikes:
        fit = [name for name in kinds or KINDS if all(left[cost] for cost in KINDS[name].costs)]
        (name,) = rng.choices(fit, [KINDS[name].weight for name in fit])
        left.subtract(KINDS[name].costs)
        (moment,) = rng.choices(list(MOMENTS), list(MOMENTS.values()))
        if len(schedule) == strikes - 1 and rng.random() < 0.5:
            moment = END
        schedule.append(Strike(name, round(rng.uniform(0, 5), 2), moment, rng.getrandbits(32)))
    return schedule
