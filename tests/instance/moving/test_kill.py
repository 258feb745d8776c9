"""What an operator does, and a kill in the middle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.instance.conftest import Instance

FILL_AND_DIE = """
import os
from embeddings.models import Track
from navembed_site.instance import moving
from tests.batches.rows import make_embedding, make_space, make_tracks

space = make_space()
for track in make_tracks(5):
    make_embedding(space, track)
Track.objects.update(playable=False)

def die(done, total, doing):
    assert not Track.objects.exclude(away_since=None)  # as a migration does where it finds the wrong tables
    if doing == "copying embeddings":
        os.kill(os.getpid(), 9)

moving.VECTORS_A_PAGE = 2
moving.move("{url}", die)
"""


def test_killed_move_is_repeated(instance: Instance, postgres: Callable[[], str]) -> None:
    url = postgres()
    assert instance.start(code=FILL_AND_DIE.format(url=url)).wait() == -9
    assert "has not come to its end" in instance.run("job", "list", DATABASE_URL=url).stderr

    ended = instance.run("move_database", url)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "There is no job yet" in instance.run("job", "list", DATABASE_URL=url).stdout


def test_nothing_starts_on_the_old_database(instance: Instance, tmp_path: Path) -> None:
    assert instance.run("move_database", f"sqlite:///{tmp_path}/new.sqlite3").returncode == 0
    for program in (["serve", "--no-migrate"], ["worker"], ["web"]):
        ended = instance.run(*program)
        assert ended.returncode == 1
        assert f"was moved from {instance.home}/navembed.sqlite3 to {tmp_path}/new.sqlite3." in ended.stderr
        assert "Traceback" not in ended.stderr
