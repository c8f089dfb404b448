"""What is unusual, as sentences: the anomalies that are open when a digest is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from genai_meter_exporter.anomalies.watch import Watch
from genai_meter_exporter.digest.settings import Entry


def open_now(watch: Watch, entry: Entry) -> Sequence[str]:
    """Those that a digest is about, oldest first."""
    found = (anomaly.finding for anomaly in watch.anomalies())
    return [
        sentence(finding.kind, dict(finding.labels), finding.text, finding.due_to)
        for finding in found
        if concerns(entry, dict(finding.labels))
    ]


def concerns(entry: Entry, labels: Mapping[str, str]) -> bool:
    """Whether all that a digest asks for is said of an anomaly."""
    return all(labels.get(name) == value for name, value in entry.where.items())


def sentence(kind: str, labels: Mapping[str, str], text: str, due_to: str) -> str:
    """One line."""
    who = " ".join(value for value in labels.values() if value)
    return f"{kind.replace('_', ' ')} of {who}: {text}{f'; {due_to}' if due_to else ''}"
