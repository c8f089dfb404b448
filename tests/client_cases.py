"""Cases of a client library that run in a process of its own, where the library is installed.

A module of cases declares them by `case` and ends in `main(Instrumentor)`; a test module reads what they returned
by `results_of`.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

from tests.environments import ROOT, Environment

Case: TypeAlias = "Callable[[Stage], Any]"
CASES: Final[dict[str, Any]] = {}
WANTED: Final = (
    "genai_meter.status",
    "genai_meter.guard.action",
    "genai_meter.sdk",
    "genai_meter.tenant",
    "genai_meter.feature",
    "genai_meter.attempts.count",
    "genai_meter.cost.effective",
    "genai_meter.cost.status",
    "genai_meter.usage.source",
    "genai_meter.span.scope",
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.conversation.id",
    "cloud.region",
    "server.address",
    "error.type",
)
"""Attributes of an event that cases tell; and every bucket, and the tokens processed."""
PREFIXES: Final = ("genai_meter.usage.", "genai_meter.processed.")


def case(run: Any) -> Any:
    """Declare a case under the name of its function."""
    CASES[run.__name__] = run
    return run


class Stage:
    """The provider, and what was emitted."""

    def __init__(self, provider: Any, telemetry: Any) -> None:
        self.provider, self.telemetry = provider, telemetry

    def attributes(self) -> list[Mapping[str, Any]]:
        """All of every event so far, in the order of their end."""
        from genai_meter import emit

        gc.collect()
        emit.flush()
        return [event.attributes for event in self.telemetry.events]

    def events(self) -> list[dict[str, Any]]:
        """What a test compares of every event."""
        return [
            {name: value for name, value in told.items() if name in WANTED or name.startswith(PREFIXES)}
            for told in self.attributes()
        ]

    def attempts(self) -> list[Any]:
        """The attempts of every event, without what time decides."""
        found = [json.loads(told.get("genai_meter.attempts", "[]")) for told in self.attributes()]
        return [
            [{k: v for k, v in one.items() if k not in ("seconds", "request_id")} for one in all_] for all_ in found
        ]


@contextmanager
def requiring(rule: str, change: Mapping[str, object]) -> Generator[None]:
    """A guard that changes every call."""
    from genai_meter import guard

    async def decide_async(_prepared: Any) -> guard.Decision:
        return guard.Decision("degrade", rule, change=change)

    def decide(_prepared: Any) -> guard.Decision:
        return guard.Decision("degrade", rule, change=change)

    with _guard(decide, decide_async):
        yield


@contextmanager
def refusing(text: str) -> Generator[None]:
    """A guard that lets nothing go."""
    from genai_meter import guard

    async def decide_async(_prepared: Any) -> guard.Decision:
        raise guard.Blocked(text)

    def decide(_prepared: Any) -> guard.Decision:
        raise guard.Blocked(text)

    with _guard(decide, decide_async):
        yield


@contextmanager
def _guard(decide: Any, decide_async: Any) -> Generator[None]:
    from genai_meter import guard

    kept = guard.decide, guard.decide_async
    guard.decide, guard.decide_async = decide, decide_async
    try:
        yield
    finally:
        guard.decide, guard.decide_async = kept


def main(*instrumentors: Any) -> None:
    """Run every case, each with a provider's and a telemetry's memory of its own."""
    from genai_meter import safety
    from opentelemetry import trace

    from examples.provider import Provider
    from tests.emission_kit import Telemetry

    warnings.simplefilter("ignore")
    telemetry = Telemetry()
    trace.set_tracer_provider(telemetry.tracer_provider)
    for instrumentor in instrumentors:
        instrumentor().instrument(
            skip_dep_check=True,
            tracer_provider=telemetry.tracer_provider,
            meter_provider=telemetry.meter_provider,
            logger_provider=telemetry.logger_provider,
        )
    results: dict[str, Any] = {}
    with Provider() as provider:
        for name, run in CASES.items():
            provider.reset()
            telemetry.clear()
            results[name] = run(Stage(provider, telemetry))
            results[f"{name}: errors"] = dict(safety.internal_errors)
            safety.internal_errors.clear()
    Path(sys.argv[1]).write_text(json.dumps(results))


def results_of(module: str, environment: Environment, file: Path) -> dict[str, Any]:
    """What every case of a module returned, run in an environment."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GENAI_METER_", "OTEL_", "AWS_"))}
    subprocess.run(
        [str(environment.python()), "-m", module, str(file)],
        check=True,
        cwd=ROOT,
        env={**kept, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "instrumentation"), str(ROOT / "tests")])},
        timeout=180,
    )
    return json.loads(file.read_text())
