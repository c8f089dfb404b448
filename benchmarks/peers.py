"""The same calls under other instrumentations, each in an environment of its own, and under ours beside it.

They say less of a call (none prices it, writes a usage event, or hides what it asked for), so a lower
figure is not the same work done faster. They emit one generation of metrics, and so do we here.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent

PEERS: Final = {
    "genai": (
        "opentelemetry.instrumentation.genai.openai:OpenAIInstrumentor",
        "opentelemetry.instrumentation.genai.anthropic:AnthropicInstrumentor",
    ),
    "openllmetry": (
        "opentelemetry.instrumentation.openai:OpenAIInstrumentor",
        "opentelemetry.instrumentation.anthropic:AnthropicInstrumentor",
    ),
    "openinference": (
        "openinference.instrumentation.openai:OpenAIInstrumentor",
        "openinference.instrumentation.anthropic:AnthropicInstrumentor",
    ),
}
"""Environment of the interoperability tests → the instrumentors in it."""

CASES: Final = ("chat", "chat stream", "messages")


@contextmanager
def installed(peer: str) -> Generator[None]:
    """The instrumentors of a peer, as `opentelemetry-instrument` would switch them on."""
    made: list[Any] = []
    for place in PEERS[peer]:
        module, _, name = place.partition(":")
        instrumentor = getattr(import_module(module), name)()
        instrumentor.instrument(skip_dep_check=True)
        made.append(instrumentor)
    yield
    for instrumentor in made:
        instrumentor.uninstrument()


def run(rounds: int) -> list[dict[str, Any]]:
    """One report a peer whose environment can be made here."""
    from benchmarks.calls import Worker, compare
    from tests.environments import OTHER_INSTRUMENTATIONS

    reports: list[dict[str, Any]] = []
    path = os.pathsep.join((str(ROOT), str(ROOT / "instrumentation")))
    for peer in PEERS:
        python = str(OTHER_INSTRUMENTATIONS[peer].python())
        workers = {
            name: Worker(name, python, PYTHONPATH=path, GENAI_METER_SEMCONV="latest") for name in ("bare", peer, "ours")
        }
        try:
            reports.append({"peer": peer, "cases": {case: compare(workers, case, rounds) for case in CASES}})
        finally:
            for worker in workers.values():
                with worker:
                    pass
    return reports


if __name__ == "__main__":
    print(json.dumps(run(int(sys.argv[1]))))
