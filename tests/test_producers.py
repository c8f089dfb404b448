"""Other people's producers: their real packages on real clients, into a real exporter. One charge a call, as served."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from exporter_kit import Served

from examples.provider import Provider
from tests.environments import EVERY_PRODUCER, ROOT
from tests.producers import running, truth

FIXTURES: Final = ROOT / "tests" / "fixtures" / "producers"

HIDDEN: Final[Mapping[str, frozenset[str]]] = {
    "azure_ai": frozenset({"cached"}),
    "otel_old": frozenset({"cached"}),
    "openllmetry_old": frozenset({"cached", "ttl"}),
    "openlit": frozenset({"ttl"}),
    "vercel_5": frozenset({"cached"}),
}
"""Producer → what it does not tell, so that nobody could charge for it."""

UNSEEN: Final[Mapping[str, frozenset[str]]] = {"otel_old": frozenset({"responses", "embeddings"})}
"""Producer → what it makes no spans of."""

UNTOLD: Final = frozenset({"openllmetry_old"})
"""Producers that make a span of a stream and tell no usage: a call of unknown cost, never one of no cost."""

MISSING: Final = (FileNotFoundError, subprocess.CalledProcessError)
"""An environment cannot be made here."""


def ledger(served: Served) -> list[dict[str, Any]]:
    """Its calls; nothing may be in quarantine."""
    with closing(sqlite3.connect(f"file:{served.ledger}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        assert [tuple(row) for row in database.execute("SELECT reason, producer FROM quarantine")] == []
        return [dict(row) for row in database.execute("SELECT * FROM usage ORDER BY start")]


def check(rows: list[dict[str, Any]], producer: str, answers: list[dict[str, Any]]) -> None:
    """Every answer that the producer tells of is charged once, as it was served."""
    seen = [answer for answer in answers if answer["api"] not in UNSEEN.get(producer, ())]
    unknown = [row for row in rows if row["usage_source"] == "unknown"]
    assert [row["cost"] for row in unknown] == [None] * len(unknown)
    streams = [answer for answer in seen if answer["stream"]] if producer in UNTOLD else []
    assert len(unknown) == len(streams)
    told = [answer for answer in seen if answer not in streams]
    known = truth.charged(row for row in rows if row["usage_source"] == "provider")
    assert known == Counter(truth.of(told, HIDDEN.get(producer, frozenset())))


# --- short form: what the real packages have exported -------------------------------------------------
@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Every capture by its producer, and the ledger after all of them were sent, and sent again."""
    found = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(FIXTURES.glob("*.json")))
    captures = {capture["producer"]: capture for capture in found}
    with Served(tmp_path_factory.mktemp("captured")) as served:
        for _ in range(2):
            for request in (request for capture in captures.values() for request in capture["requests"]):
                body = json.dumps(request["body"]).encode()
                answer = served.post(request["signal"], body, content_type="application/json")
                assert (answer.status, answer.body) == (200, b"{}")
        served.stop()
        return captures, ledger(served)


@pytest.mark.parametrize("producer", running.NAMES)
def test_what_a_producers_package_has_exported(
    producer: str, captured: tuple[dict[str, Any], list[dict[str, Any]]]
) -> None:
    captures, rows = captured
    capture = captures[producer]
    traces = set(re.findall(r'"traceId": "([0-9a-f]{32})"', json.dumps(capture["requests"])))
    check([row for row in rows if row["trace_id"] in traces], producer, capture["served"])


def test_nothing_else_was_charged(captured: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    captures, rows = captured
    seen = sum(
        answer["api"] not in UNSEEN.get(producer, ())
        for producer, capture in captures.items()
        for answer in capture["served"]
    )
    assert len(rows) == seen


def test_the_anthropic_sdk_alone(provider: Provider, tmp_path: Path) -> None:
    with Served(tmp_path / "exporter") as served:
        running.run_python(sys.executable, served.http, provider, "anthropic_sdk", "anthropic")
        served.stop()
        check(ledger(served), "anthropic_sdk", running.served_by(provider))


# --- long form: the packages themselves ---------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("producer", running.NAMES)
def test_a_producers_package_alone(producer: str, provider: Provider, tmp_path: Path) -> None:
    with Served(tmp_path / "exporter") as served:
        try:
            running.run(producer, served.http, provider)
        except MISSING as error:
            pytest.skip(f"the environment of {producer} cannot be made here: {error}")
        served.stop()
        check(ledger(served), producer, running.served_by(provider))


TOGETHER: Final = ("otel", "openllmetry", "openinference", "logfire")
"""And the Anthropic SDK itself. Langfuse's wrapper tells no response id and makes a span beside the others: only the
plug-in, which sees all that it sees, shows what it belongs to."""


@pytest.mark.slow
@pytest.mark.parametrize("producers", [TOGETHER, ("genai_meter", *TOGETHER, "langfuse")], ids=["others", "and_ours"])
def test_all_packages_that_go_together_on_the_same_calls(
    producers: tuple[str, ...], provider: Provider, tmp_path: Path
) -> None:
    with Served(tmp_path / "exporter") as served:
        python = EVERY_PRODUCER.python()
        running.run_python(python, served.http, provider, ",".join(producers), "openai,anthropic")
        served.stop()
        check(ledger(served), "all", running.served_by(provider))
