"""`genai-meter rules`: the Prometheus rules, as shipped or adapted."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from genai_meter_exporter import data

RULES_FILE: Final = "genai-meter.rules.yaml"

MAX_TIME_SCALE: Final = 60
"""Above it the shortest window, 5 minutes, would hold fewer than five samples of a scrape per second."""

_UNIT_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_DURATION: Final = r"(\d+)(ms|[smhdw])"
_WINDOW: Final = re.compile(rf"(?<=\[){_DURATION}(?=[\]:])|(?<=:){_DURATION}(?=\])|(?<=\boffset ){_DURATION}")
_SETTING: Final = re.compile(rf"^(\s*(?:for|interval): ){_DURATION}$", re.MULTILINE)
_METRIC: Final = re.compile(r"(?<![:\w./-])genai_meter_\w+(\{)?(?!:)")
_MATCHER: Final = r'[A-Za-z_]\w*(?:=~|!~|!=|=)"(?:[^"\\%`{}#:]|:(?!\s))*"'
_SELECTOR: Final = re.compile(rf"{_MATCHER}(?:\s*,\s*{_MATCHER})*")
_OF_APPLICATIONS: Final = "genai_meter_spool_"
"""Metrics that come from the applications, by another way than the exporter's."""
_RUNBOOKS: Final = "https://runbooks.example.com/genai-meter"
_DASHBOARDS: Final = "https://grafana.example.com"


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--output", type=Path, metavar="FILE", help="write here instead of standard output")
    parser.add_argument(
        "--time-scale",
        type=_time_scale,
        default=1,
        metavar="N",
        help=f"for demonstrations: every window and waiting time N times shorter (1 to {MAX_TIME_SCALE})",
    )
    parser.add_argument(
        "--selector",
        type=_selector,
        metavar="MATCHERS",
        help="read only these series of the exporter, e.g. 'job=\"genai-meter\"'",
    )
    parser.add_argument(
        "--prefix",
        type=_prefix,
        metavar="TEXT",
        help="what your pipeline puts before the exporter's metrics, e.g. acme_",
    )
    parser.add_argument("--runbook-url", metavar="URL", help=f"where the runbooks are, instead of {_RUNBOOKS}")
    parser.add_argument("--dashboard-url", metavar="URL", help=f"where Grafana is, instead of {_DASHBOARDS}")
    parser.add_argument(
        "--alertmanager", type=Path, metavar="DIR", help="write the Alertmanager example into this directory as well"
    )
    parser.add_argument(
        "--prometheus-rule", action="store_true", help="as a PrometheusRule object of the Prometheus Operator"
    )


def run(options: argparse.Namespace) -> int:
    """Write the rules."""
    text = (data.directory("alert_rules") / RULES_FILE).read_text(encoding="utf-8")
    if options.time_scale != 1:
        text = _scaled(text, options.time_scale)
    if options.selector:
        text = _selected(text, options.selector)
    if options.prefix:
        text = _prefixed(text, options.prefix)
    if options.runbook_url:
        text = text.replace(_RUNBOOKS, options.runbook_url.rstrip("/"))
    if options.dashboard_url:
        text = text.replace(_DASHBOARDS, options.dashboard_url.rstrip("/"))
    if options.prometheus_rule:
        text = _prometheus_rule(text)
    if options.alertmanager is not None:
        options.alertmanager.mkdir(parents=True, exist_ok=True)
        for file in sorted((data.directory("alert_rules") / "alertmanager").iterdir()):
            shutil.copyfile(file, options.alertmanager / file.name)
    if options.output is None:
        sys.stdout.write(text)
    else:
        options.output.write_text(text, encoding="utf-8")
    return 0


def _time_scale(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_TIME_SCALE:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to {MAX_TIME_SCALE}")
    return int(text)


def _selector(text: str) -> str:
    # The matchers end up in plain YAML scalars and in Go templates: what means something there is refused.
    if not _SELECTOR.fullmatch(text.strip()):
        example = 'job="genai-meter",cluster=~"eu-.+"'
        raise argparse.ArgumentTypeError(f"{text!r} is no plain list of matchers such as {example}")
    return text.strip()


def _prefix(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is no beginning of a metric's name such as acme_")
    return text


def _scaled(text: str, scale: int) -> str:
    """Every window, offset, interval and `for`, `scale` times shorter; names and thresholds stay."""

    def shorter(match: re.Match[str]) -> str:
        number, unit = next((n, u) for n, u in zip(match.groups()[::2], match.groups()[1::2], strict=True) if n)
        return _duration(int(number) * _UNIT_MS[unit] // scale)

    text = _WINDOW.sub(shorter, text)
    text = _SETTING.sub(lambda m: m[1] + _duration(int(m[2]) * _UNIT_MS[m[3]] // scale), text)
    hour = _duration(3_600_000 // scale)
    note = f"time scale {scale}: where a name or a text says one hour, the rule looks at {hour}"
    text = re.sub(r"^( +)annotations:$", rf"\g<0>\n\1  time_scale: '{note}'", text, flags=re.MULTILINE)
    return f"# For demonstrations only: {note}.\n{text}"


def _duration(milliseconds: int) -> str:
    """A PromQL duration of exactly so many milliseconds, in the largest unit that fits."""
    for unit in ("h", "m", "s"):
        if milliseconds >= _UNIT_MS[unit] and milliseconds % _UNIT_MS[unit] == 0:
            return f"{milliseconds // _UNIT_MS[unit]}{unit}"
    return f"{milliseconds}ms"


def _selected(text: str, selector: str) -> str:
    """Every metric that the exporter exposes, restricted to `selector`; recorded series are restricted by then."""

    def restricted(match: re.Match[str]) -> str:
        if match[0].startswith(_OF_APPLICATIONS):
            return match[0]
        if match[1]:
            return f"{match[0]}{selector},"
        return f"{match[0]}{{{selector}}}"

    return _metrics(text, restricted)


def _prefixed(text: str, prefix: str) -> str:
    """The same metrics under other names; recorded series and comments keep theirs."""
    return _metrics(text, lambda match: prefix + match[0])


def _metrics(text: str, changed: Callable[[re.Match[str]], str]) -> str:
    """Every metric that the exporter exposes, changed."""
    lines = [line if line.lstrip().startswith("#") else _METRIC.sub(changed, line) for line in text.splitlines(True)]
    return "".join(lines)


def _prometheus_rule(text: str) -> str:
    """The same groups as the specification of a PrometheusRule object; comments stay."""
    head = (
        "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: genai-meter\n"
        "  labels:\n    app.kubernetes.io/name: genai-meter\nspec:\n"
    )
    return head + "".join(f"  {line}" if line.strip() else line for line in text.splitlines(True))
