"""When a service first reported a release, and prompts that have grown since."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from genai_meter_exporter.anomalies.evidence import Finding, largest, named, short
from genai_meter_exporter.anomalies.model import Anomalies
from genai_meter_exporter.anomalies.services import SERVICE
from genai_meter_exporter.anomalies.sums import DAY, WEEK, Key, Reports, Span, Sums, Window, merged, read, total
from genai_meter_exporter.anomalies.threshold import Threshold
from genai_meter_exporter.budgets.engine import instant
from genai_meter_exporter.cells import GRAIN_SECONDS
from genai_meter_exporter.store.base import Query

_LOOK_BACK_SECONDS: Final = 3600
"""How far rows are read for releases at most: at the start, and after a pause."""
_MOST_SERVICES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Release:
    """The release that a service reported last."""

    name: str
    since: int
    """Start of the quarter of an hour of its first call, Unix seconds."""
    first: bool
    """No other was known before: it marks no change."""


class Releases:
    """Of every service; `genai_meter.release`, else `service.version`."""

    def __init__(self) -> None:
        self.current: dict[Key, Release] = {}
        self._known: dict[Key, set[str]] = {}
        self._read_until: int | None = None

    def recall(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """What was kept."""
        for entry in entries:
            if entry["kind"] == "release":
                key = tuple(entry["labels"].get(name, "") for name in SERVICE)
                self._learn(key, Release(entry["release"], entry["since"], entry["first"]))

    def look(self, reader: Reports, now: float) -> Iterator[tuple[Key, Release]]:
        """Releases that are new since the last look. Reads the rows of that time: the roll-ups know no releases."""
        until = int(now) // GRAIN_SECONDS * GRAIN_SECONDS + GRAIN_SECONDS
        oldest = until - _LOOK_BACK_SECONDS - GRAIN_SECONDS
        since = max(oldest, self._read_until - GRAIN_SECONDS) if self._read_until is not None else oldest
        by = ("quarter", *SERVICE, "release", "version")
        rows = reader.report(Query(by, since * 1_000_000_000, until * 1_000_000_000))
        for row in sorted(rows, key=lambda row: row["quarter"]):
            key, name = tuple(row[part] for part in SERVICE), row["release"] or row["version"]
            if not name or not key[-1] or name in self._known.get(key, ()):
                continue
            if key not in self._known and len(self._known) >= _MOST_SERVICES:
                continue
            release = Release(name, instant(row["quarter"]), key not in self._known)
            self._learn(key, release)
            yield key, release
        self._read_until = until

    def _learn(self, key: Key, release: Release) -> None:
        self._known.setdefault(key, set()).add(release.name)
        self.current[key] = release


def find(
    reader: Reports, releases: Releases, window: Window, settings: Anomalies, threshold: Threshold
) -> Iterator[Finding]:
    """Input tokens a call since the last release against the week before it, for a week."""
    for key, release in releases.current.items():
        since = release.since + GRAIN_SECONDS
        if release.first or not window.today.until - WEEK * DAY < since < window.today.until:
            continue
        where = tuple(zip(SERVICE, key, strict=True))
        start = release.since // DAY * DAY - WEEK * DAY
        after = merged(read(reader, ("feature", "model"), Span(since, window.today.until), where), 1)
        before = merged(read(reader, ("feature", "model"), Span(start, release.since), where), 1)
        for (feature,), groups in after.items():
            now, was = total(groups), total(before.get((feature,), {}))
            if min(now.calls, was.calls) < settings.min_calls or not was.input_tokens:
                continue
            labels = (*where, ("feature", feature))
            growth = now.input_tokens * was.calls / (was.input_tokens * now.calls)
            if growth >= threshold("prompt_growth", labels, settings.prompt_growth_ratio):
                found = largest(groups, before[feature,], lambda now, was: now.input_tokens - _usual(now.calls, was))
                model = found[0][0] if found else ""
                yield Finding(
                    "prompt_growth",
                    labels,
                    growth,
                    f"input tokens a call {was.input_tokens / was.calls:,.0f} → {now.input_tokens / now.calls:,.0f} "
                    f"since release {release.name}",
                    short(f"{named((feature, model))}, release {release.name}"),
                )


def _usual(calls: int, was: Sums) -> float:
    """Input tokens that so many calls had before."""
    return calls * was.input_tokens / was.calls if was.calls else 0.0
