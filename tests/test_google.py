"""`google-genai`: what the caller matrix does not show. The cases run where the library is installed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from prices_kit import SURE

from tests.environments import CLIENTS, ROOT
from tests.traffic.runner import run

Results: TypeAlias = dict[str, Any]

KNOWN = {
    "gen_ai.operation.name": "generate_content",
    "gen_ai.provider.name": "gcp.gemini",
    "gen_ai.request.model": "gemini-2.5-flash",
    "genai_meter.sdk": "google.genai.Client",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What every case returned."""
    try:
        python = CLIENTS.python()
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the environment {CLIENTS.name} cannot be made here: {error}")
    file = tmp_path_factory.mktemp("google") / "results.json"
    recorded = Path(os.environ.get("GENAI_METER_TRAFFIC") or ROOT.parent / "shared" / "traffic")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GENAI_METER_", "OTEL_", "GOOGLE_", "GEMINI_"))}
    subprocess.run(
        [str(python), "-m", "tests.google_cases", str(file), *([str(recorded)] if recorded.is_dir() else [])],
        check=True,
        cwd=ROOT,
        env={**kept, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "instrumentation"), str(ROOT / "tests")])},
        timeout=180,
    )
    return json.loads(file.read_text())


def test_nothing_of_ours_failed(results: Results) -> None:
    assert {name: errors for name, errors in results.items() if name.endswith(": errors") and errors} == {}


def test_the_guard_sees_what_is_known_before_the_call(results: Results) -> None:
    seen, events = results["known_before"]
    assert seen == [
        ["gcp.gemini", "127.0.0.1", None, None, "google.genai.Client", "test-key"],
        ["gemini-2.5-flash", 7, True],
        # Nine characters at three a token, eight for the message.
        [{"input": 11, "output": 7}, 0, "acme"],
        ["gcp.vertex_ai", "127.0.0.1", "europe-west4", "standin", "google.genai.Client", None],
        ["gemini-2.5-flash", None, True],
        [{"input": 11, "output": 65536}, 1, "acme"],
    ]
    assert [event["genai_meter.tenant"] for event in events] == ["acme", "acme"]
    assert [event.get("cloud.region") for event in events] == [None, "europe-west4"]
    assert [event.get("genai_meter.provider.account") for event in events] == [None, "standin"]


def test_a_change_of_the_guard_goes_out_and_leaves_the_callers_objects_alone(results: Results) -> None:
    sent, events, untouched = results["degraded"]
    paths = [path.partition("/models/")[2] for path, _ in sent]
    assert paths == [f"gemini-2.5-flash-lite:{verb}" for verb in ("generateContent", "streamGenerateContent")] + [
        paths[0]
    ]
    assert sent[2][0].endswith("/projects/p/locations/l/publishers/google/models/gemini-2.5-flash-lite:generateContent")
    assert [config for _, config in sent] == [
        {"temperature": 0.5, "maxOutputTokens": 5},
        {"maxOutputTokens": 5},
        {"maxOutputTokens": 5},
    ]
    assert untouched
    assert [event["genai_meter.guard.action"] for event in events] == ["degrade"] * 3
    assert [event["gen_ai.response.model"] for event in events] == ["gemini-2.5-flash-lite"] * 3
    assert [event["gen_ai.usage.output_tokens"] for event in events] == [5, 5, 5]


def test_a_change_of_the_guard_reaches_interactions(results: Results) -> None:
    [[_, body]], config, [event] = results["degraded_interaction"]
    assert body["model"] == "gemini-2.5-flash-lite"
    assert body["generation_config"] == {"temperature": 0.5, "max_output_tokens": 5}
    assert config == {"temperature": 0.5}
    assert event["gen_ai.usage.output_tokens"] == 5


def test_blocked_calls_raise_where_they_would_be_sent_and_are_on_record(results: Results) -> None:
    raised, sent, events = results["blocked"]
    assert raised == ["Blocked: no more money"] * 4
    assert sent == 0
    assert [event["genai_meter.status"] for event in events] == ["blocked"] * 4
    assert [event["genai_meter.sdk"].rpartition(".")[2] for event in events] == ["Client"] * 3 + ["AsyncClient"]


def test_the_span_is_current_while_the_request_is_on_its_way(results: Results) -> None:
    same, spans, after = results["current_span"]
    assert (same, spans, after) == (True, 2, False)


def test_each_step_of_function_calling_is_a_call(results: Results) -> None:
    assert results["function_calls"] == [2, True, ["ok", "ok"]]


def test_the_tier_that_served(results: Results) -> None:
    assert [event["genai_meter.tier"] for event in results["tiers"]] == ["flex", "flex"]


def test_pictures_are_counted_and_the_order_of_a_video_is_on_record(results: Results) -> None:
    pictures, video = results["pictures_and_videos"]
    assert pictures["gen_ai.operation.name"] == "image"
    assert pictures["genai_meter.usage.images"] == 3
    assert video["gen_ai.operation.name"] == "video"
    assert (video["genai_meter.usage.source"], video["genai_meter.cost.status"]) == ("unknown", "unpriced")
    assert json.loads(video["genai_meter.price.context"])["video_seconds"] == "8"


def test_an_endpoint_is_a_deployment_in_its_own_project(results: Results) -> None:
    [event] = results["endpoint"]
    assert event["gen_ai.request.model"] == event["genai_meter.deployment"] == "endpoints/123"
    assert (event["genai_meter.provider.account"], event["cloud.region"]) == ("p9", "us-east1")


def test_an_interaction_in_the_background_is_charged_when_it_is_over_and_once(results: Results) -> None:
    status, events_of_the_order, [event], events_after = results["in_the_background"]
    assert (status, events_of_the_order) == ("in_progress", 0)
    # One for every four of 35 characters.
    assert (event["gen_ai.usage.input_tokens"], event["genai_meter.tenant"]) == (9, "acme")
    # Asked for again; and one that was made in the foreground, with a look at it.
    assert events_after == 1


def test_uninstrumented_is_as_it_was(results: Results) -> None:
    patched, without, still_wrapped, below_another, again = results["taken_away"]
    assert patched == 3
    assert (without, still_wrapped, below_another, again) == (0, [False] * 4, 0, 1)


# --- Live sessions
def test_each_turn_of_a_live_session_is_a_call(results: Results) -> None:
    events = results["live_turns"]
    known = KNOWN | {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gemini-3.1-flash-live-preview",
        "genai_meter.sdk": "google.genai.AsyncClient",
        "genai_meter.status": "ok",
        "genai_meter.usage.source": "provider",
        "genai_meter.cost.status": SURE,
        "gen_ai.usage.input_tokens": 20,
        "gen_ai.usage.output_tokens": 7,
    }
    # The usage of the first comes with its end, that of the second after it.
    assert events == [known, known]


def test_a_live_session_that_is_left_in_a_turn(results: Results) -> None:
    [event] = results["live_left"]
    assert (event["genai_meter.status"], event["genai_meter.usage.source"]) == ("closed_early", "estimated")


def test_a_live_session_may_be_blocked(results: Results) -> None:
    raised, [event] = results["live_blocked"]
    assert (raised, event["genai_meter.status"]) == ("Blocked: no more money", "blocked")


def test_recorded_live_sessions(results: Results) -> None:
    sessions = results["live_recorded"]
    if sessions is None:
        pytest.skip("there is no recorded traffic on this machine")
    assert len(sessions) == 5
    assert {name: told for name, (told, _) in sessions.items()} == {
        name: truth for name, (_, truth) in sessions.items()
    }


# --- recorded traffic
@pytest.mark.timeout(600)
def test_all_recorded_google_traffic(
    traffic: Path, results: Results, record_property: Callable[[str, object], None]
) -> None:
    report = run(traffic, forms="sync", providers="gcp.gemini,gcp.vertex_ai")
    record_property("table", report.text())
    assert report.good, report.text()
    skipped = {verdict.exchange.id: verdict.skipped for verdict in report.verdicts if verdict.skipped}
    assert sorted(skipped.values()) == [
        "a redirect, away from the recorded host",
        "the client asks for a stream of events, this is an older one's JSON array",
    ]
    driven = [verdict for verdict in report.verdicts if verdict.skipped is None]
    assert len(driven) == 552
    assert sum(verdict.usage_known for verdict in driven) > 500
    assert [verdict.exchange.id for verdict in driven if verdict.known] == []
