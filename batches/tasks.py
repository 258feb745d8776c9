"""What Django-Q runs: ids in, one service called."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone
from django_q.models import Schedule
from django_q.tasks import async_task

SCHEDULES = (
    ("watchdog", "batches.tasks.watch_devices", 1),
    ("giving back", "batches.tasks.give_back", 1),
    ("schedule", "batches.tasks.run_schedule", 1),
    ("playlists", "batches.tasks.make_playlists", 10),
    ("bridges", "batches.tasks.fit_bridges", 60),
    ("maps", "batches.tasks.make_maps", 60),
    ("duplicates", "batches.tasks.find_duplicates", 60),
    ("housekeeping", "batches.tasks.keep_house", 24 * 60),
)
GIVE_BACK_SECONDS = 20.0
PLAYLIST_SECONDS = 30.0

_at_work: dict[str, subprocess.Popen[bytes]] = {}  # kept until it has ended, and its pipe with it


def run_device(device_id: int, seq: int) -> str:
    """Work on the active job for a while, with this device of ours."""
    from batches.engine.runner import run_device

    return run_device(device_id, seq)


def watch_devices() -> int:
    """Wake devices with which nobody works, and the next queued job."""
    from batches import services

    return services.watch()


def run_schedule() -> str:
    """Start, pause or resume the job that runs by itself."""
    from batches import schedule

    return schedule.run()


def send_webhook(body: str, tries: int) -> str:
    """Tell another program of a job's end."""
    from batches import webhook

    return webhook.deliver(body, tries)


def keep_house() -> int:
    """Delete what is kept for a time only."""
    from batches.engine.hosts import forget_absent
    from batches.housekeeping import delete_gone_tracks, delete_old_results
    from embeddings.library import fetching
    from embeddings.uploads import folder, kept
    from navembed_site.http.uploads import forget_left_behind

    forgotten = (
        forget_left_behind() + fetching.forget_left_behind() + forget_absent() + kept.forget_old() + folder.forget_old()
    )
    return delete_old_results() + delete_gone_tracks() + forgotten


def give_back() -> int:
    """Go on giving back the disk of spaces that are not kept any longer."""
    from batches.housekeeping import give_back

    return give_back(GIVE_BACK_SECONDS)


def make_playlists() -> int:
    """Make the playlists that are due again."""
    from embeddings.playlists.service import make_due

    return make_due(PLAYLIST_SECONDS)


def fit_bridges() -> str:
    """Fit the text bridges that are due."""
    from embeddings.search.bridge_upkeep import bridges_due

    return _have_done("fit_text_bridge", bridges_due)


def make_maps() -> str:
    """Make the maps that are due."""
    from embeddings.maps.making import maps_due

    return _have_done("make_maps", lambda: [space.model for space in maps_due()])


def find_duplicates() -> str:
    """Look for duplicates, where somebody has asked for it and there is something new."""
    from embeddings.duplicates.looking import look_due

    return _have_done("find_duplicates", lambda: ["the library"] if look_due() else [])


def want_upkeep() -> None:
    """Queue what follows new vectors, in the surrounding transaction."""
    for name, task in (("bridges", "fit_bridges"), ("maps", "make_maps"), ("duplicates", "find_duplicates")):
        async_task(f"batches.tasks.{task}", cluster="light", task_name=name)


def _have_done(command: str, due: Callable[[], list[str]]) -> str:
    """Have a command of ours do what is due.

    In a process of its own: it may take minutes, in which the watchdog has no other worker. It ends with this one.
    """
    if command in _at_work and _at_work[command].poll() is None:
        return "is being done"
    if not (models := due()):
        return "nothing to do"
    line = [sys.executable, str(settings.BASE_DIR / "manage.py"), command, "--due"]
    _at_work[command] = subprocess.Popen(line, stdin=subprocess.PIPE)
    return f"started for {', '.join(models)}"


def ensure_schedules() -> None:
    """Make the light cluster's schedules; the light worker calls this at its start."""
    from batches import webhook

    for name, function, minutes in SCHEDULES:
        fields = {
            "func": function,
            "schedule_type": Schedule.MINUTES,
            "minutes": minutes,
            "repeats": -1,
            "cluster": "light",
        }
        # What is there keeps its time: a machine that is off each night would else never keep house.
        first = timezone.now() + timedelta(minutes=minutes)
        Schedule.objects.update_or_create(name=name, defaults=fields, create_defaults={**fields, "next_run": first})
        _bring_forward(Schedule.objects.filter(name=name), timedelta(minutes=minutes))
    _bring_forward(Schedule.objects.filter(func=webhook.TASK), max(webhook.PAUSES))


def _bring_forward(schedules: QuerySet[Schedule], pause: timedelta) -> None:
    """Brings schedules back that lie further ahead than their pause: the clock was set back."""
    latest = timezone.now() + pause
    schedules.filter(next_run__gt=latest).update(next_run=latest)
