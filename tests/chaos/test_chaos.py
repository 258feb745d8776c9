"""A short run under faults with everything real, and whether the judge of such runs sees what it should."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.conf import settings

from tests.chaos.checker import ALIASES, Found, Verdict, judge
from tests.chaos.faults import ALLOWANCE, KINDS
from tests.chaos.schedule import draw

FAULTS = (
    "kill busy child of worker,kill embedder,kill Milvus,lock database,replace file,pause and resume,cancel and retry"
)
TRUTH = {"one": 0, "two": 1}


@pytest.mark.timeout(900)
def test_a_job_under_faults_loses_doubles_and_repeats_nothing(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.chaos", "--seed", "190", "--strikes", "4", "--only", FAULTS]
    command += ["--short", "12", "--long", "3"]
    ended = subprocess.run(
        [*command, "--json", str(figures)],
        cwd=settings.BASE_DIR,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    (run,) = json.loads(figures.read_text())["runs"]
    assert [run[name] for name in ("lost", "doubled", "wrong", "surplus", "recomputed")] == [0] * 5
    assert len(run["struck"]) >= 2, run["missed"]


# The schedule


def test_same_seed_gives_the_same_schedule() -> None:
    assert draw(7, 10) == draw(7, 10) != draw(8, 10)


def test_schedule_keeps_to_what_a_run_may_bear() -> None:
    for seed in range(100):
        costs = [cost for strike in draw(seed, 15) for cost in KINDS[strike.kind].costs]
        assert all(costs.count(name) <= most for name, most in ALLOWANCE.items())


# The judge


def reference(model: str, number: int) -> Any:
    return np.eye(4)[number]


def sound() -> Found:
    """What an instance without any fault would hold."""
    found = Found()
    for model in ALIASES:
        found.live_spaces[model] = 1
        for track, number in TRUTH.items():
            found.database[model, track] = [reference(model, number)]
            found.milvus[model, track] = [reference(model, number)]
    return found


KEY = ("mert", "one")
HARM: dict[str, tuple[str, Callable[[Found], Any]]] = {
    "no row": ("lost", lambda found: (found.database.pop(KEY), found.milvus.pop(KEY))),
    "not in Milvus": ("lost", lambda found: found.milvus.pop(KEY)),
    "two rows": ("doubled", lambda found: found.database[KEY].append(reference(*KEY[:1], 0))),
    "two in Milvus": ("doubled", lambda found: found.milvus[KEY].append(reference(*KEY[:1], 0))),
    "two live spaces": ("doubled", lambda found: found.live_spaces.update(["mert"])),
    "another track's": ("wrong", lambda found: [place.update({KEY: [reference("", 1)]}) for place in places(found)]),
    "Milvus has an old one": ("wrong", lambda found: found.milvus.update({KEY: [reference("", 2)]})),
    "no row, but in Milvus": ("surplus", lambda found: found.milvus.update({("muq", "three"): [reference("", 2)]})),
    "not in Milvus, of no track": ("surplus", lambda found: found.database.update({("muq", "x"): [np.ones(4)]})),
    "collection of no space": ("surplus", lambda found: found.stray_collections.append("navembed_1f_muq_9_abc")),
}


def places(found: Found) -> tuple[dict[Any, Any], dict[Any, Any]]:
    return found.database, found.milvus


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert judge(sound(), TRUTH, reference) == Verdict()


@pytest.mark.parametrize("harm", HARM)
def test_each_harm_is_counted_once_and_as_what_it_is(harm: str) -> None:
    kind, do = HARM[harm]
    found = sound()
    do(found)
    verdict = judge(found, TRUTH, reference)
    counts = {name: getattr(verdict, name) for name in ("lost", "doubled", "wrong", "surplus")}
    assert counts == dict.fromkeys(counts, 0) | {kind: 1}


def test_track_that_changed_under_the_job_may_lack_its_vector() -> None:
    found = sound()
    for place in places(found):
        del place[KEY]
    assert judge(found, TRUTH, reference, excused={"one"}) == Verdict()
