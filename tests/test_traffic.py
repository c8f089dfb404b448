"""Recorded traffic through the real clients, plugin off and on: nothing differs for the caller, all usage is true."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.environments import ROOT
from tests.traffic import openai_anthropic
from tests.traffic.judge import judge, usage_difference
from tests.traffic.recordings import load
from tests.traffic.runner import run
from tests.traffic.server import without_usage

SMALL = Path(__file__).parent / "fixtures" / "traffic"


def command(place: Path, *options: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "tests.traffic", str(place), *options]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)


def test_the_small_file_in_every_form() -> None:
    done = command(SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    total = next(line.split() for line in lines if line.startswith("total"))
    assert total[:9] == ["total", "47", "47/47", "(18", "tell", "none)", "47/47", "0", "47/47"]
    # A stored response that is read again is charged once a process: tests of its own.
    assert [line for line in lines if line.startswith("not driven")] == [
        "not driven: openai: 1 (charged once a process, however often it is read: test_background, test_batches)"
    ]
    assert "left at the end: open_spans 0, complaints 0, internal_errors 0" in lines


def test_a_wrong_usage_fails_the_run(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [json.loads(line) for line in (SMALL / "small.jsonl").read_text().splitlines()]
    chosen = next(record for record in records if record["id"] == "small-chat")
    chosen["usage_truth"]["input_tokens"] += 1
    (tmp_path / "wrong.jsonl").write_text(json.dumps(chosen))
    done = command(tmp_path, "--forms", "sync")
    assert done.returncode == 1
    assert "DIFFERS: small-chat (sync): usage: input_tokens 121 not 120" in done.stdout.splitlines()


def test_a_place_without_traffic_fails(tmp_path: Path) -> None:
    done = command(tmp_path)
    assert done.returncode == 1
    assert "no traffic files" in done.stderr


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, {}),
        ({"items": [["C", "other", False]]}, {"values": "item 0 of 1 / 1"}),
        ({"items": [["E", "x", True]]}, {"broken": "raises E, without the plugin nothing"}),
        ({"spans": {"c": 2}}, {"spans": "spans ended: [2]"}),
        ({"spans": {}}, {"spans": "spans ended: []"}),
        ({"events": []}, {"usage": "0 usage events"}),
    ],
)
def test_what_the_judge_sees(change: dict[str, Any], problem: dict[str, str]) -> None:
    exchange = next(e for e in load([SMALL / "small.jsonl"]) if e.id == "small-moderations")
    good: dict[str, Any] = {"items": [["C", "same", False]], "events": [{}], "spans": {"c": 1}}
    assert judge(exchange, "sync", good, good | change).problems == problem


def test_a_count_where_the_provider_told_none_is_wrong() -> None:
    event = {"genai_meter.usage.source": "provider", "gen_ai.usage.input_tokens": 3}
    assert usage_difference(None, event) == {"gen_ai.usage.input_tokens": "not told by the provider"}
    assert usage_difference(None, event | {"genai_meter.usage.source": "estimated"}) == {}


def test_a_stream_nobody_asked_usage_for() -> None:
    asked = b'data: {"choices":[{"index":0}],"usage":null}\n\ndata: {"choices":[],"usage":{"a":1}}\n\ndata: [DONE]\n\n'
    assert without_usage(asked) == b'data: {"choices": [{"index": 0}]}\n\ndata: [DONE]\n\n'


@pytest.mark.timeout(1200)
def test_all_recorded_openai_and_anthropic_traffic(
    traffic: Path, record_property: Callable[[str, object], None]
) -> None:
    report = run(traffic, forms="sync,hidden", providers="openai,anthropic")
    record_property("table", report.text())
    driven = [verdict for verdict in report.verdicts if verdict.skipped is None]
    assert report.good, report.text()
    assert {verdict.skipped for verdict in report.verdicts} == {None, openai_anthropic.TOLD_LATER}
    assert sum(verdict.usage_known for verdict in driven) > 1500
    assert {(verdict.exchange.id, *verdict.known) for verdict in driven if verdict.known} == {
        ("openai-chat-c3be12a1bb2d", "usage")  # 4 output tokens, 3 of them reasoning and 4 audio: a hand-made answer
    }


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_recorded_traffic_in_all_forms(traffic: Path, record_property: Callable[[str, object], None]) -> None:
    report = run(traffic)
    record_property("table", report.text())
    assert report.good, report.text()
