"""What the React panel does, through a whole job."""

from __future__ import annotations

import time

from tests.contract.conftest import TERMINAL, Server

POLL_SECONDS = 1.0


def test_panel_follows_a_job_to_its_end(idle: Server) -> None:
    """With "clear existing" ticked; each poll must succeed, and what is shown never goes back."""
    go, shown = idle.go, []
    assert go.start("muq", clear=True).json["status"] == "started"
    while True:
        time.sleep(POLL_SECONDS)
        progress = go.progress()
        shown.append(progress)
        if progress["status"] in TERMINAL:
            break
        assert progress["status"] in ("initialized", "running")
    ended = shown[-1]
    assert ended["status"] in ("completed", "completed_with_errors")
    assert (ended["progress_percent"], ended["current_track"]) == (100.0, None)
    assert ended["failed_tracks"] == 0  # the damaged file is known, and not tried again
    assert ended["processed_tracks"] + ended["failed_tracks"] == ended["total_tracks"]
    assert len({progress["job_id"] for progress in shown}) == 1
    for name in ("progress_percent", "processed_tracks", "failed_tracks"):
        values = [progress[name] for progress in shown]
        assert values == sorted(values), name
    assert any(progress["current_track"] for progress in shown)
