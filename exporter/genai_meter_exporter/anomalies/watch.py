"""Looks at the ledger again and again; opens and closes anomalies, and remembers them."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

from genai_meter_exporter.anomalies import releases, services, spend
from genai_meter_exporter.anomalies.evidence import Finding
from genai_meter_exporter.anomalies.model import Anomalies
from genai_meter_exporter.anomalies.releases import Releases
from genai_meter_exporter.anomalies.services import SERVICE
from genai_meter_exporter.anomalies.sums import Reports, Window
from genai_meter_exporter.anomalies.threshold import Threshold
from genai_meter_exporter.lines import Lines
from genai_meter_exporter.store.base import Reader, StoreError

logger: Final = logging.getLogger("genai_meter_exporter")

FILE: Final = "anomalies.jsonl"


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One that is open: what it is now, and what it came from when it began."""

    opened: float
    """Unix seconds."""
    due_to: str
    """As of its beginning: a label that changed with every look would be a new series each time."""
    finding: Finding


class Watch:
    """`look` from one thread, read from any."""

    def __init__(self, settings: Anomalies, directory: Path | None, contracted: Collection[str] = ()) -> None:
        self.settings = settings
        self._contracted = frozenset(contracted)
        self.dearest: dict[str, tuple[str, str, int]] = {}
        """Tenant with a contract → feature, model and cost (pico-USD) of what cost most in the last 24 hours."""
        self.evaluated: float | None = None
        """When it last looked, Unix seconds."""
        self._lines = Lines(directory, FILE, {"labels": dict})
        self._lock = threading.Lock()
        self._open: dict[tuple[str, tuple[tuple[str, str], ...]], Anomaly] = {}
        self._opened: Counter[str] = Counter()
        self._releases = Releases()
        self._recalled = False

    def exchange(self, settings: Anomalies, contracted: Collection[str]) -> None:
        """From the next look on. What is open stays open as long as it is unusual by these."""
        self.settings, self._contracted = settings, frozenset(contracted)

    def look(self, reader: Reports, now: float) -> list[Anomaly]:
        """Search the ledger once. Raises `StoreError`."""
        if not self._recalled:
            self._recall(now)
        for key, release in self._releases.look(reader, now):
            labels = dict(zip(SERVICE, key, strict=True))
            told = {"release": release.name, "since": release.since, "first": release.first}
            self._lines.write({"at": int(now), "kind": "release", "labels": labels, **told})
        window, threshold, settings = Window.at(now), Threshold(self._open), self.settings
        found = chain(
            spend.find(reader, window, settings, threshold),
            services.find(reader, window, settings, threshold),
            releases.find(reader, self._releases, window, settings, threshold),
        )
        self._turn(found, now, settings.limit)
        self.dearest = spend.dearest(reader, window, self._contracted)
        return self.anomalies()

    def anomalies(self) -> list[Anomaly]:
        """Those that are open, oldest first."""
        with self._lock:
            return sorted(self._open.values(), key=lambda anomaly: (anomaly.opened, anomaly.finding.key))

    def opened(self) -> Mapping[str, int]:
        """Kind → how many were ever opened."""
        with self._lock:
            return dict(self._opened)

    def current_releases(self) -> list[tuple[tuple[str, ...], releases.Release]]:
        """Service → the release it reported last."""
        with self._lock:
            return sorted(self._releases.current.items())

    def _turn(self, found: Iterable[Finding], now: float, limit: int) -> None:
        """From what was open to what is."""
        findings = {finding.key: finding for finding in found}
        # What is open stays in view; then the farthest from the usual.
        order = sorted(findings, key=lambda key: (key not in self._open, -findings[key].ratio))
        with self._lock:
            kept = {key: findings[key] for key in order[:limit]}
            for key in [key for key in self._open if key not in kept]:
                self._write(now, "closed", self._open.pop(key).finding, {})
            for key, finding in kept.items():
                before = self._open.get(key)
                if before is None:
                    self._opened[finding.kind] += 1
                    self._write(now, "opened", finding, {"text": finding.text, "due_to": finding.due_to})
                self._open[key] = Anomaly(
                    before.opened if before else now, before.due_to if before else finding.due_to, finding
                )
            self.evaluated = now

    def _write(self, now: float, event: str, finding: Finding, told: Mapping[str, Any]) -> None:
        entry = {"at": int(now), "kind": finding.kind, "event": event, "labels": dict(finding.labels), **told}
        self._lines.write({**entry, "ratio": round(finding.ratio, 4)})

    def _recall(self, now: float) -> None:
        entries = self._lines.read(now)
        with self._lock:
            self._releases.recall(entries)
            for entry in entries:
                key = entry["kind"], tuple(entry["labels"].items())
                if entry.get("event") == "opened":
                    self._opened[entry["kind"]] += 1
                    finding = Finding(*key, entry["ratio"], entry["text"], entry["due_to"])
                    self._open[key] = Anomaly(entry["at"], entry["due_to"], finding)
                elif entry.get("event") == "closed":
                    self._open.pop(key, None)
            self._recalled = True


class Watcher:
    """The thread that looks."""

    def __init__(self, watch: Watch, read: Callable[[], Reader]) -> None:
        self._watch = watch
        self._read = read
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="genai-meter-anomalies", daemon=True)
        self._failing = False

    def start(self) -> None:
        """Look at once, then at every interval."""
        self._thread.start()

    def stop(self) -> None:
        """Not in the middle of a look."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def exchange(self, settings: Anomalies, contracted: Collection[str]) -> None:
        """Look by these from now on, and at once."""
        self._watch.exchange(settings, contracted)
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._look()
            self._wake.wait(self._watch.settings.interval_seconds)
            self._wake.clear()
            if self._stop.is_set():
                return

    def _look(self) -> None:
        """Whatever goes wrong is told once, shows in the age of the last look, and ends with the next one."""
        try:
            reader = self._read()
            try:
                self._watch.look(reader, time.time())
            finally:
                reader.close()
        except StoreError as error:
            if not self._failing:
                logger.warning("the ledger is not searched for anomalies: %s", error)
            self._failing = True
        except Exception:
            if not self._failing:
                logger.exception("the search for anomalies failed")
            self._failing = True
        else:
            self._failing = False
