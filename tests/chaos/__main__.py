"""``python -m tests.chaos --runs 100``: run jobs under faults and say what was lost. See docs/reliability.md."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

from navembed_site.demo.checkpoints import make_tiny_checkpoints
from tests.chaos.database import Template
from tests.chaos.faults import KINDS
from tests.chaos.library import Corpus
from tests.chaos.run import FIGURES, Report, Run
from tests.chaos.schedule import draw

OTHER = 10**6  # added to a run's seed: the schedule of its rebuild
REBUILD_EVERY = 3  # seeds: then everything is embedded anew, under faults too


def main() -> int:
    options = _arguments()
    can_mount = options.inside or _enter_namespace()
    with tempfile.TemporaryDirectory(prefix="nc-", dir="/tmp") as name:
        folder = Path(name)
        (folder / "corpus").mkdir()
        corpus = Corpus(folder / "corpus", make_tiny_checkpoints(folder / "tiny"), options.short, options.long)
        run = Run(corpus, Template(folder), can_mount=can_mount)
        reports = []
        for seed in range(options.seed, options.seed + options.runs):
            schedule = draw(seed, options.strikes, options.only)
            again = draw(seed + OTHER, options.strikes, options.only) if seed % REBUILD_EVERY == 0 else []
            reports.append(run(seed, schedule, again))
            _show(reports[-1])
            if options.json:
                options.json.write_text(json.dumps(_as_json(reports), indent=2) + "\n")
    print(_summary(reports))
    return 0 if all(report.passed for report in reports) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1, help="of the first run; each next has the next number")
    parser.add_argument("--strikes", type=int, default=7, help="faults in a run")
    parser.add_argument("--short", type=int, default=24, help="tracks of two or three seconds")
    parser.add_argument("--long", type=int, default=8, help="tracks of half a minute")
    parser.add_argument("--only", type=_kinds, default=(), metavar="A,B", help=f"of: {', '.join(KINDS)}")
    parser.add_argument("--json", type=Path, help="write all figures here, after each run")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _kinds(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - KINDS.keys():
        raise argparse.ArgumentTypeError(f"no fault is named {', '.join(sorted(unknown))}")
    return names


def _enter_namespace() -> bool:
    """Start again where we may mount a small disk, which goes with us; False when the system forbids it."""
    for flags in ("-m", "-rm"):  # root in a user namespace of its own may not enter the database server's folder
        try:
            mount = ["unshare", flags, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
            allowed = subprocess.run(mount, capture_output=True, check=False)
        except FileNotFoundError:
            return False
        if allowed.returncode == 0:
            arguments = [sys.executable, "-m", "tests.chaos", *sys.argv[1:], "--inside"]
            os.execvp("unshare", ["unshare", flags, *arguments])
    return False


def _show(report: Report) -> None:
    print(f"{time.strftime('%H:%M:%S')} {report}; {', '.join(report.struck)}", flush=True)
    for problem in report.problems + report.failed_polls + report.backwards:
        print(f"    {problem}", flush=True)
    if not report.passed:
        for part in (report.schedule, report.timeline, [f"left in {report.folder}"]):
            print(f"    {'; '.join(part)}", flush=True)


def _as_json(reports: Sequence[Report]) -> dict[str, object]:
    return {"summary": _figures(reports), "runs": [asdict(report) for report in reports]}


def _figures(reports: Sequence[Report]) -> dict[str, object]:
    struck = Counter(kind for report in reports for kind in report.struck)
    return {
        "runs": len(reports),
        "passed": sum(report.passed for report in reports),
        "faults": sum(struck.values()),
        "kills": sum(number for kind, number in struck.items() if kind.startswith(("kill", "reboot"))),
        **{name: sum(getattr(report, name) for report in reports) for name in FIGURES},
        "tried again": sum(report.tried_again for report in reports),
        "polls": sum(report.polls for report in reports),
        "failed polls": sum(len(report.failed_polls) for report in reports),
        "percent went back": sum(len(report.backwards) for report in reports),
        "slowest poll, s": max(report.slowest_poll for report in reports),
        "slowest stop, s": max(report.stop_seconds for report in reports),
        "missed": dict(Counter(reason for report in reports for reason in report.missed)),
        "struck": dict(struck.most_common()),
    }


def _summary(reports: Sequence[Report]) -> str:
    """The figures as a table for docs/reliability.md."""
    figures = _figures(reports)
    lists = {name: figures.pop(name) for name in ("struck", "missed")}
    lines = ["", "| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in figures.items())]
    for name, counts in lists.items():
        assert isinstance(counts, dict)
        lines.append(f"| {name} | {', '.join(f'{kind} {number}' for kind, number in counts.items()) or 'none'} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
