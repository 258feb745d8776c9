"""Loads a model in a process of its own, prints what that takes: ``python -m tests.encoders.full_size KEY FOLDER``."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from embeddings.encoders.muq_text import MuqText
from embeddings.encoders.registry import encoder_class
from tests.encoders.audio import noise

SECONDS_OF_AUDIO = 15


def megabytes(field: str) -> int:
    """Return a figure of this process's memory: ``VmHWM`` is the peak, ``RssAnon`` leaves out what files give back."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(field + ":"))) // 1024


def timed(figures: dict[str, Any], name: str, action: Any) -> Any:
    """Run an action and note its seconds, and the memory held afterwards."""
    began = time.monotonic()
    result = action()
    figures[name] = {"seconds": round(time.monotonic() - began, 1), "held": megabytes("RssAnon")}
    return result


def main(key: str, folder: str) -> None:
    figures: dict[str, Any] = {}
    model: Any = MuqText(folder, "cpu") if key == MuqText.key else encoder_class(key)(folder, "cpu")
    timed(figures, "describe", model.describe)
    timed(figures, "verify", model.verify)
    figures["peak of verify"] = megabytes("VmHWM")
    timed(figures, "verify again", model.verify)
    timed(figures, "load", model.load)
    figures["peak of load"] = megabytes("VmHWM")
    if isinstance(model, MuqText):
        vector = timed(figures, "embed", lambda: model.embed("calm piano"))
    else:
        sound = noise(model.audio, SECONDS_OF_AUDIO)
        vector = timed(figures, "embed", lambda: model.embed(sound).vector)
    figures |= {"dimension": len(vector), "weights": model.bytes_held // 10**6, "peak": megabytes("VmHWM")}
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
