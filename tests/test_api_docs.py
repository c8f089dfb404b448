"""docs/api.md: every public name is on the page, and every example does what the comments beside it say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import genai_meter
import pytest

from examples.provider import Provider

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^## (?P<heading>\S+)$|^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
PRINTS = re.compile(r"print\(.*\)  # (.*)$", re.MULTILINE)

RUNNER = """
import contextlib, io, json, sys
from opentelemetry import _logs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
kept, provider = InMemoryLogRecordExporter(), LoggerProvider()
provider.add_log_record_processor(SimpleLogRecordProcessor(kept))
_logs.set_logger_provider(provider)
from genai_meter.instrumentor import OpenAIInstrumentor
from genai_meter.safety import internal_errors
OpenAIInstrumentor().instrument()
results = []
for code in json.load(sys.stdin):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "docs/api.md", "exec"), {"__name__": "__main__"})
    events = [(item.log_record.event_name, dict(item.log_record.attributes)) for item in kept.get_finished_logs()]
    results.append((printed.getvalue(), events))
    kept.clear()
print(json.dumps([results, internal_errors]))
"""


@dataclass(frozen=True)
class Example:
    """One block of code of the page."""

    heading: str
    code: str


def examples() -> list[Example]:
    found: list[Example] = []
    heading = ""
    for match in BLOCK.finditer(PAGE):
        heading = match["heading"] or heading
        if match["code"]:
            found.append(Example(heading, match["code"]))
    return found


Ran = dict[str, list[tuple[str, list[tuple[str, dict[str, Any]]]]]]
"""Heading → of each example: what it printed and the events it caused."""


@pytest.fixture(scope="module")
def ran() -> Ran:
    """Every example, run in the order of the page in one process."""
    with Provider() as provider:
        done = subprocess.run(
            [sys.executable, "-W", "error::RuntimeWarning", "-c", RUNNER],
            input=json.dumps([example.code for example in examples()]),
            env={**os.environ, "OPENAI_BASE_URL": f"{provider.url}/v1", "OPENAI_API_KEY": "k"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    results, errors = json.loads(done.stdout)
    assert errors == {}
    found: Ran = {}
    for example, (printed, events) in zip(examples(), results, strict=True):
        found.setdefault(example.heading, []).append((printed, [(name, told) for name, told in events]))
    return found


def test_every_public_name_has_its_place_and_an_example() -> None:
    headings = {example.heading for example in examples()}
    assert set(genai_meter.__all__) - {"__version__"} <= headings
    assert headings - set(genai_meter.__all__) == {"Instrumentors", "Version"}


def test_every_print_shows_what_stands_beside_it(ran: Ran) -> None:
    printed = [text for of_heading in ran.values() for text, _ in of_heading]
    promised = ["".join(f"{line}\n" for line in PRINTS.findall(example.code)) for example in examples()]
    assert printed == promised
    assert sum(map(bool, printed)) >= 8


def owners(ran: Ran, heading: str, *names: str) -> list[tuple[Any, ...]]:
    """Event and attributes, of all examples under a heading."""
    return [(event, *(told.get(name) for name in names)) for _, events in ran[heading] for event, told in events]


def test_attribute(ran: Ran) -> None:
    names = ("genai_meter.tenant", "genai_meter.feature", "genai_meter.team", "gen_ai.workflow.name")
    assert owners(ran, "attribute", *names) == [
        ("genai_meter.usage", "acme", "search", None, None),
        ("genai_meter.usage", "acme", "summary", None, None),
        ("genai_meter.usage", None, None, "research", "nightly-report"),
        ("genai_meter.usage", None, None, "research", "nightly-digest"),
    ]


def test_outcome(ran: Ran) -> None:
    names = ("genai_meter.outcome.name", "genai_meter.outcome.success", "genai_meter.outcome.value")
    found = owners(ran, "outcome", *names, "genai_meter.run.id", "genai_meter.experiment.variant")
    assert found == [
        ("genai_meter.usage", None, None, None, "run-8", "b"),
        ("genai_meter.outcome", "ticket_resolved", True, 4_500_000_000_000, "run-8", "b"),
        ("genai_meter.outcome", "escalated", False, None, "run-8", "b"),
    ]


def test_record_cost(ran: Ran) -> None:
    assert owners(ran, "record_cost", "genai_meter.cost.what", "genai_meter.cost.effective", "genai_meter.tenant") == [
        ("genai_meter.cost", "vector_search", 400_000_000, "acme")
    ]


def test_cache_hit(ran: Ran) -> None:
    found = owners(ran, "cache_hit", "genai_meter.cache_hit", "genai_meter.cost.effective", "genai_meter.cost.avoided")
    hello = 2 * 2_500_000 + 21 * 10_000_000
    assert found == [
        ("genai_meter.usage", None, hello, None),
        ("genai_meter.usage", True, 0, hello),
        ("genai_meter.usage", True, 0, 1200 * 2_500_000 + 80 * 10_000_000),
        # 5000 / 3.5 + 9 tokens in, 300 / 3.9 + 2 out.
        ("genai_meter.usage", True, 0, 1438 * 3_000_000 + 79 * 15_000_000),
        ("genai_meter.usage", True, 0, 20_000_000),
    ]
