"""The shipped rules over backfilled blocks: recording rules in stages, alerts by range queries, then `for`.

A real Prometheus evaluates every expression at every instant at which it would have; what is recorded goes back into
its blocks. Only the states of alerts (inactive, pending, firing) are kept here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import urllib.error
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import yaml

from examples.children import Child, Running, free_port, wait_for
from examples.net import get, serves
from examples.tools import need

RULES: Final = Path(__file__).resolve().parent.parent / "alert_rules" / "genai-meter.rules.yaml"
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_EXPOSED: Final = re.compile(r"(?<![:\w])genai_meter_\w+(?![\w:])")
_RECORDED: Final = re.compile(r"\w+:genai_meter_\w+:\w+")
_POINTS: Final = 10_000
"""Of one series in one answer; Prometheus refuses more than 11,000."""

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """One of the rules file."""

    name: str
    expression: str
    interval: int
    """Seconds between two evaluations."""
    labels: Labels
    hold: int | None
    """Seconds of `for`; None: it records."""


@dataclass(frozen=True, slots=True)
class Episode:
    """An alert that fired, from when to when, Unix seconds."""

    alert: str
    labels: Mapping[str, str]
    begin: int
    end: int


def shipped() -> list[Rule]:
    """The rules as they are shipped."""
    found: list[Rule] = []
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            hold = seconds(rule["for"]) if "alert" in rule else None
            labels = tuple(rule.get("labels", {}).items())
            name = rule["record"] if hold is None else rule["alert"]
            found.append(Rule(name, rule["expr"], seconds(group["interval"]), labels, hold))
    return found


def seconds(text: str) -> int:
    """Of a duration like `15m`."""
    return int(text[:-1]) * _UNITS[text[-1]]


def read_by(rules: Iterable[Rule]) -> set[str]:
    """The exporter's metrics that the rules read."""
    return {name for rule in rules for name in _EXPOSED.findall(rule.expression)}


def stages(rules: Iterable[Rule]) -> list[list[Rule]]:
    """Recording rules in an order in which each finds what it reads."""
    waiting = [rule for rule in rules if rule.hold is None]
    ordered: list[list[Rule]] = []
    while waiting:
        missing = {rule.name for rule in waiting}
        ready = [rule for rule in waiting if not missing & set(_RECORDED.findall(rule.expression))]
        if not ready:
            raise ValueError(f"rules that read each other: {', '.join(sorted(missing))}")
        ordered.append(ready)
        waiting = [rule for rule in waiting if rule not in ready]
    return ordered


class Replay:
    """The rules over the scrapes of one exporter."""

    def __init__(self, directory: Path, begin: int, end: int, scrape_seconds: int) -> None:
        self._directory = directory
        self._data = directory / "prometheus"
        self._begin = begin
        self._end = end
        self._scrape_seconds = scrape_seconds

    def episodes(self, rules: list[Rule], scrapes: Path) -> list[Episode]:
        """Every time an alert would have fired."""
        shutil.rmtree(self._data, ignore_errors=True)
        self._backfill(scrapes)
        for stage in stages(rules):
            file = self._directory / "recorded.om"
            with _Prometheus(self._directory, self._data, self._scrape_seconds) as prometheus, file.open("w") as output:
                for rule in stage:
                    for labels, points in self._evaluate(prometheus, rule):
                        text = ",".join(f"{name}={orjson.dumps(value).decode()}" for name, value in labels)
                        output.writelines(f"{rule.name}{{{text}}} {value} {at}\n" for at, value in points)
                output.write("# EOF\n")
            self._backfill(file)
            file.unlink()
        with _Prometheus(self._directory, self._data, self._scrape_seconds) as prometheus:
            return [
                episode
                for rule in rules
                if rule.hold is not None
                for labels, active in self._active(prometheus, rule)
                for episode in fire(rule, labels, active)
            ]

    def _active(self, prometheus: _Prometheus, rule: Rule) -> Iterator[tuple[Labels, list[int]]]:
        """When the expression of an alert had a result, by its labels."""
        found: dict[Labels, list[int]] = {}
        for labels, points in self._evaluate(prometheus, rule):
            found.setdefault(labels, []).extend(at for at, _ in points)
        return iter(found.items())

    def _evaluate(self, prometheus: _Prometheus, rule: Rule) -> Iterator[tuple[Labels, list[tuple[int, str]]]]:
        span = _POINTS * rule.interval
        for begin in range(self._begin, self._end, span):
            end = min(begin + span, self._end) - rule.interval
            for series in prometheus.range(rule.expression, begin, end, rule.interval):
                labels = {name: value for name, value in series["metric"].items() if name != "__name__"}
                labels.update(rule.labels)
                yield tuple(sorted(labels.items())), series["values"]

    def _backfill(self, file: Path) -> None:
        command = [need("promtool"), "tsdb", "create-blocks-from", "--max-block-duration=2160h", "--quiet"]
        done = subprocess.run(
            [*command, "openmetrics", file, self._data], capture_output=True, text=True, timeout=1800, check=False
        )
        if done.returncode:
            raise RuntimeError(f"promtool could not backfill {file}: {done.stdout}{done.stderr}")


def fire(rule: Rule, labels: Labels, active: Iterable[int]) -> Iterator[Episode]:
    """What Prometheus makes of an alert whose expression had a result at these instants: pending, then firing."""
    assert rule.hold is not None
    since = firing = last = None
    for at in active:
        if last is None or at - last > rule.interval:
            if firing is not None and last is not None:
                yield Episode(rule.name, dict(labels), firing, last + rule.interval)
            since, firing = at, None
        if firing is None and since is not None and at - since >= rule.hold:
            firing = at
        last = at
    if firing is not None and last is not None:
        yield Episode(rule.name, dict(labels), firing, last + rule.interval)


class _Prometheus(Running):
    """Prometheus over blocks: it scrapes nothing and has no rules of its own."""

    def __init__(self, directory: Path, data: Path, scrape_seconds: int) -> None:
        super().__init__()
        self._directory = directory
        self._data = data
        self._scrape_seconds = scrape_seconds
        self._url = f"http://127.0.0.1:{free_port()}"

    def _start(self) -> None:
        config = self._directory / "prometheus.yml"
        config.write_text("{}\n")
        command = [
            need("prometheus"),
            f"--config.file={config}",
            f"--storage.tsdb.path={self._data}",
            "--storage.tsdb.retention.time=10y",
            # Blocks have no marks of staleness: what has ended is gone after a scrape, not after five minutes.
            f"--query.lookback-delta={self._scrape_seconds}s",
            "--query.timeout=10m",
            f"--web.listen-address={self._url.removeprefix('http://')}",
            "--log.level=warn",
        ]
        child = self._stack.enter_context(Child("prometheus", command, self._directory / "prometheus.log"))
        wait_for("Prometheus is ready", lambda: serves(f"{self._url}/-/ready"), 120, child)

    def range(self, expression: str, begin: int, end: int, step: int) -> list[Any]:
        """The series of an expression with their values."""
        asked = urllib.parse.urlencode({"query": expression, "start": begin, "end": end, "step": step})
        try:
            return orjson.loads(get(f"{self._url}/api/v1/query_range?{asked}", timeout=900))["data"]["result"]
        except urllib.error.HTTPError as error:
            raise ValueError(f"{expression}: {error.read().decode()}") from None
