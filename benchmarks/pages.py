"""False pages in ninety days of ordinary work, and how soon incidents are told: the shipped rules over simulated time.

    python -m benchmarks.pages [--days 90] [--only office …] [--directory DIR] [--write]

With `--directory` the scrapes stay there and are taken from there the next time: after a change of the rules only the
rules are evaluated again.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import tempfile
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from benchmarks.markdown import table
from benchmarks.pages_rules import Episode, shipped
from benchmarks.pages_workloads import FACTS, WORKLOADS, ZONE
from benchmarks.pages_worlds import (
    AMOUNTS,
    INCIDENT,
    INCIDENT_HOURS,
    INCIDENTS,
    SCRAPE_SECONDS,
    Incident,
    episodes,
    ordinary,
    with_incident,
)

RESULTS: Final = Path(__file__).with_name("PAGES.md")
DAYS: Final = 90
_TOLD: Final = 3
"""Episodes of one alert and workload that are named."""
_WHO: Final = ("budget", "long", "tenant", "workflow", "cache", "model")
UNMOVED: Final = (
    "GenAIMeterEventsRejected",
    "GenAIMeterQuarantineGrowing",
    "GenAIMeterStoreErrors",
    "GenAIMeterBudgetEngineStale",
    "GenAIMeterAnomaliesStale",
    "GenAIMeterClockSkew",
    "GenAIMeterPriceBookStale",
    "GenAIMeterSpoolEventsGivenUp",
    "GenAIMeterConfigReloadFailed",
)
"""Alerts on troubles of the meter itself."""

Key = tuple[str, str]
"""Alert and severity."""


def severities() -> list[Key]:
    """Every alert with its severity, critical ones first."""
    found = {(rule.name, dict(rule.labels)["severity"]) for rule in shipped() if rule.hold is not None}
    return sorted(found, key=lambda key: (key[1], key[0]))


def counted(found: Iterable[Episode]) -> Counter[Key]:
    """Episodes by alert and severity."""
    return Counter((episode.alert, episode.labels["severity"]) for episode in found)


def render(days: float, quiet: Mapping[str, Sequence[Episode]], incidents: Mapping[str, Sequence[Episode]]) -> str:
    """The page."""
    count, scrape = len(INCIDENTS), SCRAPE_SECONDS
    unmoved = ", ".join(f"`{name.removeprefix('GenAIMeter')}`" for name in UNMOVED)
    return f"""# False pages

`make false-pages`: {days:g} days of four ordinary workloads, each with an exporter of its own; {count} incidents. The
exporter's own counters, budgets, forecasts and search for anomalies run on simulated time; their metrics become
blocks of a real Prometheus, which evaluates every shipped expression at every instant at which it would have; `for` is
applied to that. An episode is one alert that fired, before Alertmanager groups and inhibits. Nothing was wrong, so each
counts as false; that a day cost more than its amount is true all the same.

## Episodes in {days:g} days

{_episodes_table(quiet)}

{_named(quiet)}
Nothing here moves what these read, so their zeros say little: {unmoved}.

## Time to detect

Office hours again, nine days of Prometheus, then from 10:20 of a Wednesday on for {INCIDENT_HOURS} hours:

{_incidents_table(incidents)}

{_abouts()}

*Also* are alerts that nobody had asked for; they began after the incident.

## What was simulated

{_workloads()}

{FACTS}
{AMOUNTS}
## What it does not show

- The rules were mended by what the first run of this very simulation showed (426 critical episodes in office hours, 407
  of them silence at night; 136 with the nightly batch): the figures are no test on unseen data. Another seed is
  (`python -m benchmarks.pages --seed N`); your own weeks are a better one.
- The bursty workload's pages stand on the days that cost several times another. No rule over a week of history tells
  such a day from a loop; amounts that its dearest days fit into would spare those of the budgets.
- One application an exporter: the hardest case for rules about silence, an easy one for rules about the mix of many.
- A scrape every {scrape} s, not every minute: five-minute rates rest on two or three samples. Rules are
  evaluated at their shipped intervals. Prometheus looks back one scrape, not five minutes, as blocks know no marks
  of staleness.
- No late or repeated telemetry, corrections, re-pricing or folded labels; the exporter misses one scrape a week and is
  never down; the price book is renewed every four weeks.
- People, providers and batches of the real world are less regular than these, and yours are not these: before a rule
  pages you, look at `genai-meter budgets backtest` and at a week of its tickets.
"""


def _episodes_table(found: Mapping[str, Sequence[Episode]]) -> str:
    counts = {name: counted(told) for name, told in found.items()}
    rows = [
        [f"`{alert.removeprefix('GenAIMeter')}`, {severity}", *(str(counts[name][alert, severity]) for name in found)]
        for alert, severity in severities()
    ]
    for severity in ("critical", "warning"):
        sums = [sum(count for key, count in counts[name].items() if key[1] == severity) for name in found]
        rows.append([f"**all, {severity}**", *(f"**{count}**" for count in sums)])
    return table(["alert", *found], rows)


def _named(found: Mapping[str, Sequence[Episode]]) -> str:
    lines: list[str] = []
    for name, told in found.items():
        for (alert, severity), count in sorted(counted(told).items(), key=lambda item: (item[0][1], item[0][0])):
            mine = [episode for episode in told if (episode.alert, episode.labels["severity"]) == (alert, severity)]
            shown = "; ".join(map(_when, mine[:_TOLD])) + (" …" if count > _TOLD else "")
            lines.append(f"- {name}, `{alert.removeprefix('GenAIMeter')}` ({severity}): {shown}")
    return "What they were:\n\n" + "\n".join(lines) + "\n" if lines else "There was none.\n"


def _when(episode: Episode) -> str:
    who = " ".join(episode.labels[name] for name in _WHO if episode.labels.get(name))
    begin = datetime.fromtimestamp(episode.begin, ZONE)
    return f"{begin:%a %m-%d %H:%M} for {(episode.end - episode.begin) // 60} min{f' ({who})' if who else ''}"


def _incidents_table(found: Mapping[str, Sequence[Episode]]) -> str:
    rows: list[list[str]] = []
    for incident in INCIDENTS:
        if incident.name in found:
            told = first(found[incident.name])
            wanted = [(key, at) for key, at in told if key[0] in incident.wanted]
            others = [(key, at) for key, at in told if key[0] not in incident.wanted]
            missing = [name for name in incident.wanted if name not in {key[0] for key, _ in wanted}]
            cells = [f"`{key[0].removeprefix('GenAIMeter')}` ({key[1]}) {_after(at)}" for key, at in wanted]
            cells += [f"`{name.removeprefix('GenAIMeter')}` **not within {INCIDENT_HOURS} h**" for name in missing]
            also = [f"`{key[0].removeprefix('GenAIMeter')}` {_after(at)}" for key, at in others]
            rows.append([incident.name, "; ".join(cells), "; ".join(also) or "nothing"])
    return "\n".join("| " + " | ".join(row) + " |" for row in [["incident", "told after", "also"], ["---"] * 3, *rows])


def first(found: Iterable[Episode]) -> list[tuple[Key, int]]:
    """What began to fire after the injection: alert and severity, seconds after it, the soonest first."""
    begun: dict[Key, int] = {}
    for episode in found:
        if episode.begin >= INCIDENT:
            key = episode.alert, episode.labels["severity"]
            begun[key] = min(begun.get(key, episode.begin), episode.begin)
    return sorted(((key, at - INCIDENT) for key, at in begun.items()), key=lambda item: (item[1], item[0]))


def _after(seconds: int) -> str:
    return f"{seconds // 60} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _abouts() -> str:
    return "\n".join(f"- **{incident.name}**: {incident.about}" for incident in INCIDENTS)


def _workloads() -> str:
    return "\n".join(
        f"- **{found.name}**: {found.about}; some {found.tasks:,.0f} tasks a day" for found in WORKLOADS.values()
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description="False pages, time to detect.")
    parser.add_argument("--days", type=float, default=DAYS, help=f"of each workload (default {DAYS})")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="workloads and incidents, by name")
    parser.add_argument("--directory", type=Path, metavar="DIR", help="keep the scrapes here, and take them from here")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    with _place(options.directory) as directory:
        told: dict[str, list[Episode]] = {}
        for name in WORKLOADS:
            if name in options.only or not options.only:
                told[name] = episodes(ordinary(name, options.days), directory, options.seed)
                _say(name, told[name])
        happened: dict[str, list[Episode]] = {}
        for incident in INCIDENTS:
            if incident.name in options.only or not options.only:
                happened[incident.name] = episodes(with_incident(incident), directory, options.seed)
                _say(incident.name, happened[incident.name])
    text = render(options.days, told, happened)
    print(text)
    if options.write:
        RESULTS.write_text(text, encoding="utf-8")
    pages = sum(count for found in told.values() for key, count in counted(found).items() if key[1] == "critical")
    missed = [incident.name for incident in INCIDENTS if incident.name in happened and not _noticed(incident, happened)]
    print(f"false pages: {pages}; incidents that nobody was told of: {', '.join(missed) or 'none'}")
    return 1 if pages or missed else 0


def _noticed(incident: Incident, happened: Mapping[str, Sequence[Episode]]) -> bool:
    return any(key[0] in incident.wanted for key, _ in first(happened[incident.name]))


@contextlib.contextmanager
def _place(directory: Path | None) -> Generator[Path]:
    if directory is not None:
        yield directory
        return
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def _say(name: str, found: Sequence[Episode]) -> None:
    spent = sum(resource.getrusage(who).ru_utime for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(f"{name}: {len(found)} episodes, {spent:.0f} s of CPU so far", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
