"""`genai-meter spool`: ship what applications that have died left in their spool directory."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from genai_meter import spool_files
from genai_meter.spool_files import EVENTS, REFUSED, SpoolError
from genai_meter.spool_shipping import ACKNOWLEDGED, Job, Later, Sender, Shipped, destination

_EVERY_SECONDS: Final = 5.0
_LONGEST_WAIT: Final = 60.0
_LONGEST_ASKED: Final = 300.0
"""Of the time that a receiver asks for."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands and their options."""
    actions = parser.add_subparsers(dest="spool", required=True, metavar="ACTION")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("directory", metavar="DIR", type=Path, help="the GENAI_METER_SPOOL_DIR of the applications")
    actions.add_parser("status", parents=[shared], help="what waits there, and since when")
    ship = actions.add_parser("ship", parents=[shared], help="send what no living process will send")
    ship.add_argument("--endpoint", metavar="URL", help="OTLP/HTTP; default: as the application has it")
    ship.add_argument(
        "--follow", action="store_true", help="go on until SIGTERM: beside applications that may not return"
    )
    ship.add_argument("--refused", action="store_true", help="try again what the receiver could not read")


def run(options: argparse.Namespace) -> int:
    """Run one action."""
    if not options.directory.is_dir():
        print(f"genai-meter spool: there is no directory {options.directory}", file=sys.stderr)
        return 2
    try:
        return _status(str(options.directory)) if options.spool == "status" else _ship(options)
    except SpoolError as error:
        print(f"genai-meter spool: {error}", file=sys.stderr)
        return 2


# --- status -----------------------------------------------------------------------------------------
def _status(directory: str) -> int:
    """One line for each kind of file."""
    living: Counter[str] = Counter()
    dead: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    oldest: int | None = None
    for suffix in (EVENTS, REFUSED):
        for name in spool_files.names(directory, suffix):
            path = Path(directory, name)
            with spool_files.adopted(str(path)) as data:
                if data is None and not path.exists():
                    continue
                kind = refused if suffix == REFUSED else living if data is None else dead
                # The file of a living process can be read like any other; it may grow meanwhile.
                contents = spool_files.parse(path.read_bytes() if data is None else data)
            kind.update(files=1, events=len(contents.events), damaged=contents.damaged)
            times = [event[1] for event in contents.events]
            oldest = min([*times, oldest] if oldest is not None else times, default=None)
    print(f"of living processes   {_told(living)}")
    print(f"to be shipped         {_told(dead)}")
    print(f"refused               {_told(refused)}")
    print(f"bytes                 {spool_files.total(directory):,}")
    if oldest is not None:
        print(f"oldest event          {_utc(oldest / 1e9)}")
    if trouble := spool_files.noted(directory):
        print(f"last delivery failed  {_utc(trouble[0])}: {trouble[1]}")
    return 0


def _utc(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _told(kind: Counter[str]) -> str:
    damaged = f", {kind['damaged']:,} damaged lines" if kind["damaged"] else ""
    return f"{kind['events']:,} events in {kind['files']:,} files{damaged}"


# --- ship -------------------------------------------------------------------------------------------
def _ship(options: argparse.Namespace) -> int:
    stop = threading.Event()
    if options.follow:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: stop.set())
    counts: Counter[str] = Counter()
    sender = Sender(destination(os.environ, options.endpoint), counts)
    job = Job(str(options.directory), sender, counts, lambda: not stop.is_set())
    told: str | None = None
    wait = _EVERY_SECONDS
    while True:
        found, problem = _once(job, REFUSED if options.refused else EVENTS)
        if not options.follow:
            break
        if problem is None:
            told, wait = None, _EVERY_SECONDS
        elif str(problem) != told:
            told = str(problem)
            print(f"genai-meter spool: {told}", file=sys.stderr, flush=True)
        else:
            wait = min(2 * wait, _LONGEST_WAIT)
        if stop.wait(max(wait, min(problem.seconds, _LONGEST_ASKED) if problem else 0)):
            break
    line = f"{counts[ACKNOWLEDGED]:,} events acknowledged"
    others = {name: count for name, count in counts.items() if name != ACKNOWLEDGED and count}
    print(", ".join([line, *(f"{count:,} {name}" for name, count in others.items())]))
    if found.living:
        print(f"{found.living} files are in the hands of living processes, which ship them themselves")
    if problem is not None and not options.follow:
        print(f"genai-meter spool: {problem}; the rest stays", file=sys.stderr)
        return 1
    return 0


def _once(job: Job, suffix: str) -> tuple[Shipped, Later | None]:
    """One look at the directory; why it did not come to its end."""
    try:
        spool_files.sweep(job.directory)
        shipped = job.run(suffix=suffix)
    except Later as error:
        spool_files.note(job.directory, str(error))
        return Shipped(), error
    if shipped.files:
        spool_files.note(job.directory, None)
    return shipped, None
