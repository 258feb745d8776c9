"""Python runs this at its start: the clock of a run's processes goes wrong by what a file says.

Only what tells the time of day; ``time.monotonic`` is the kernel's, which nobody sets.
"""

import os
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

from django.utils import timezone

_real_time, _real_now = time.time, timezone.now


def _wrong_by() -> float:
    try:
        return float(Path(os.environ["CHAOS_CLOCK"]).read_text())
    except (OSError, ValueError):  # it is being written
        return 0.0


def _time() -> float:
    """gRPC hands deadlines to C, which asks the kernel."""
    is_grpcs = sys._getframe(1).f_globals.get("__name__", "").startswith("grpc")
    return _real_time() + (0.0 if is_grpcs else _wrong_by())


def _now() -> datetime:
    return _real_now() + timedelta(seconds=_wrong_by())


time.time, timezone.now = _time, _now
