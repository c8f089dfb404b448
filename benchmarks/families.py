"""Every client library: what the meter adds to a call, and what other instrumentations of the same library add.

Others each have environments of their own, with ours beside them. They say less of a call (none prices it, or
writes a usage event), so a lower figure is not the same work done faster: the table tells what each emits.
They emit one generation of metrics, and so do we here.

    python -m benchmarks.families ROUNDS [--alone] [FAMILY…]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

from benchmarks import libraries
from benchmarks.workers import Worker, answer_all, compare, ended, silence, take_turns
from tests import environments as e
from tests.environments import Environment

ROOT: Final = Path(__file__).resolve().parent.parent
CASES: Final = (libraries.CHAT, libraries.STREAM)


@dataclass(frozen=True)
class Peer:
    """Another instrumentation of a library."""

    environment: Environment
    distribution: str
    """Whose entry points are switched on, as `opentelemetry-instrument` would do it."""


@dataclass(frozen=True)
class Family:
    """One client library; its calls are made by the function of its name in `libraries`."""

    package: str
    environment: Environment
    peers: Mapping[str, Peer] = field(default_factory=dict[str, Peer])


def _peers(
    environments: Mapping[str, Environment],
    otel: str = "",
    openllmetry: str = "",
    openinference: str = "",
    genai: str = "",
) -> dict[str, Peer]:
    """By project: the environment that has it under that name, and the distribution."""
    named = {"otel": otel, "openllmetry": openllmetry, "openinference": openinference, "genai": genai}
    return {name: Peer(environments[name], found) for name, found in named.items() if found}


_OPENAI: Final = {**e.OTHER_INSTRUMENTATIONS, "otel": e.OTHER_INSTRUMENTATIONS["genai"]}
_BEDROCK: Final = {
    **e.BEDROCK_INSTRUMENTATIONS,
    "otel": e.BEDROCK_INSTRUMENTATIONS["botocore-openinference"],
    "genai": e.BEDROCK_GENAI,
}
_THEIRS: Final = "opentelemetry-instrumentation-"
_ARIZE: Final = "openinference-instrumentation-"

FAMILIES: Final = {
    "openai": Family(
        "openai",
        e.CLIENTS,
        _peers(_OPENAI, f"{_THEIRS}genai-openai", f"{_THEIRS}openai", f"{_ARIZE}openai"),
    ),
    "anthropic": Family(
        "anthropic",
        e.CLIENTS,
        _peers(_OPENAI, f"{_THEIRS}genai-anthropic", f"{_THEIRS}anthropic", f"{_ARIZE}anthropic"),
    ),
    "google_genai": Family(
        "google-genai",
        e.CLIENTS,
        _peers(
            e.GOOGLE_INSTRUMENTATIONS,
            f"{_THEIRS}google-genai",
            f"{_THEIRS}google-generativeai",
            f"{_ARIZE}google-genai",
        ),
    ),
    "botocore": Family(
        "boto3",
        e.CLIENTS,
        _peers(
            _BEDROCK,
            f"{_THEIRS}botocore",
            f"{_THEIRS}bedrock",
            f"{_ARIZE}bedrock",
            f"{_THEIRS}genai-bedrock",
        ),
    ),
    "mistralai": Family(
        "mistralai", e.CLIENTS, _peers(e.REST_INSTRUMENTATIONS, "", f"{_THEIRS}mistralai", f"{_ARIZE}mistralai")
    ),
    "cohere": Family("cohere", e.CLIENTS, _peers(e.REST_INSTRUMENTATIONS, "", f"{_THEIRS}cohere", f"{_ARIZE}cohere")),
    "groq": Family("groq", e.CLIENTS, _peers(e.COMPATIBLE_INSTRUMENTATIONS, "", f"{_THEIRS}groq", f"{_ARIZE}groq")),
    # OpenLLMetry's is for `together` before 2, which is other code and not metered.
    "together": Family("together", e.CLIENTS),
    "ollama": Family("ollama", e.CLIENTS, _peers(e.COMPATIBLE_INSTRUMENTATIONS, "", f"{_THEIRS}ollama")),
    "huggingface_hub": Family("huggingface_hub", e.CLIENTS),
    "litellm": Family("litellm", e.LITELLM, _peers(e.COMPATIBLE_INSTRUMENTATIONS, "", "", f"{_ARIZE}litellm")),
}


def run(rounds: int, *names: str, alone: bool = False) -> list[dict[str, Any]]:
    """A report for each family by itself, and one for each other instrumentation of it."""
    reports: list[dict[str, Any]] = []
    for name in names or tuple(FAMILIES):
        family = FAMILIES[name]
        reports.append(_report(name, family.environment, "", rounds))
        if not alone:
            others = family.peers.values()
            reports.extend(_report(name, other.environment, other.distribution, rounds) for other in others)
    return reports


def _report(name: str, environment: Environment, peer: str, rounds: int) -> dict[str, Any]:
    path = os.pathsep.join((str(ROOT), str(ROOT / "instrumentation")))
    python = str(environment.python())
    variants = ("bare", "ours", peer or "seam")
    print(f"families: {name}, {peer or 'by itself'}", file=sys.stderr)
    with ended(
        {
            variant: Worker(
                "benchmarks.families",
                "--serve",
                name,
                variant,
                python=python,
                PYTHONPATH=path,
                GENAI_METER_SEMCONV="latest",
                LITELLM_LOCAL_MODEL_COST_MAP="True",
            )
            for variant in variants
        }
    ) as workers:
        cases = {case: compare(take_turns(workers, case, rounds)) for case in CASES}
        return {
            "family": name,
            "version": environment.version_of(FAMILIES[name].package),
            "peer": peer,
            "cases": cases,
            "emits": {
                variant: {case: workers[variant].measure(f"emitted: {case}") for case in CASES}
                for variant in variants
                if variant not in ("bare", "seam")
            },
        }


# --- in the process of a variant ----------------------------------------------------------------------


@contextmanager
def installed(variant: str) -> Generator[None]:
    """All of ours, or what a distribution of others has."""
    from genai_meter import instrumentor

    kinds: list[Any] = []
    if variant in ("ours", "seam"):
        kinds = list(instrumentor.LibraryInstrumentor.__subclasses__())
    elif variant != "bare":
        found = entry_points(group="opentelemetry_instrumentor")
        kinds = [entry.load() for entry in found if entry.dist is not None and entry.dist.name == variant]
        if not kinds:
            raise SystemExit(f"{variant} is not installed here")
    if variant == "seam":
        silence()
    made: list[Any] = []
    for kind in kinds:
        # One for a library that is not here is passed over, as by `opentelemetry-instrument`.
        with suppress(ImportError):
            kind().instrument(skip_dep_check=True)
            made.append(kind())
    yield
    for one in made:
        one.uninstrument()


def serve(name: str, variant: str) -> None:
    """Answer what is asked on standard input, one line each."""
    import logging
    import warnings

    from benchmarks.telemetry import Telemetry

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    telemetry = Telemetry()
    with installed(variant):
        # Others look at clients as they are made.
        cases = {case.name: case for case in getattr(libraries, name)()}
        emitted = {f"emitted: {case.name}": partial(telemetry.emitted, case.run) for case in cases.values()}
        answer_all(list(cases.values()), telemetry, emitted, lambda: list(cases))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.families")
    parser.add_argument("rounds", type=int)
    parser.add_argument("families", nargs="*", choices=[*FAMILIES, []])
    parser.add_argument("--alone", action="store_true", help="without other instrumentations")
    options = parser.parse_args()
    print(json.dumps(run(options.rounds, *options.families, alone=options.alone)))


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(sys.argv[2], sys.argv[3])
    else:
        main()
