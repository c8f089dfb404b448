"""Runs every scenario in one process: `python -m tests.matrix.child MODE[,MODE…] PLACE FAMILY…`."""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import json
import logging
import os
import ssl
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from opentelemetry import _logs, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from examples.provider import Provider

from . import chaos
from .families import FAMILIES, declare
from .scenario import SCENARIOS, NotThere, Scenario, Stage
from .view import view


class Telemetry:
    """Global providers with exporters that keep everything, and an ear at the logs."""

    def __init__(self) -> None:
        self.spans, self.events = InMemorySpanExporter(), InMemoryLogRecordExporter()
        tracers, loggers = TracerProvider(), LoggerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        loggers.add_log_record_processor(SimpleLogRecordProcessor(self.events))
        trace.set_tracer_provider(tracers)
        _logs.set_logger_provider(loggers)
        self.complaints: list[str] = []
        for name in ("opentelemetry", "genai_meter"):
            logging.getLogger(name).addHandler(_Ear(self.complaints))

    def clear(self) -> None:
        """Forget what was seen."""
        self.spans.clear()
        self.events.clear()
        self.complaints.clear()

    def seen(self) -> dict[str, Any]:
        """What was emitted since the last `clear`."""
        return {
            "spans": [span.context.span_id for span in self.spans.get_finished_spans() if span.context is not None],
            "records": [_record(item.log_record) for item in self.events.get_finished_logs()],
            "complaints": list(self.complaints),
        }


class _Ear(logging.Handler):
    def __init__(self, kept: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(record.getMessage())


def _record(record: Any) -> dict[str, Any]:
    told = dict(record.attributes)
    return {
        "status": told.get("genai_meter.status"),
        "source": told.get("genai_meter.usage.source"),
        "input": told.get("gen_ai.usage.input_tokens", 0),
        "output": told.get("gen_ai.usage.output_tokens", 0),
        "attempts": told.get("genai_meter.attempts.count", 1),
        "provider": told.get("gen_ai.provider.name"),
        "span": record.span_id,
    }


def sent(provider: Provider) -> list[Any]:
    """The bodies the server was sent, without what we add to them."""
    bodies: list[Any] = []
    for served in provider.served:
        body = dict(served.request)
        options = {
            key: value for key, value in dict(body.get("stream_options") or {}).items() if key != "include_usage"
        }
        body.pop("stream_options", None)
        bodies.append({"path": served.path, "body": view(body), "options": options})
    return sorted(bodies, key=json.dumps)


def play(scenario: Scenario, stage: Stage) -> Any:
    """Run one scenario: its value, or what it raised."""
    try:
        if inspect.iscoroutinefunction(scenario.run):
            return view(asyncio.run(scenario.run(stage)))
        return view(scenario.run(stage))
    except NotThere:
        return "n/a"
    except Exception as error:  # noqa: BLE001 - what the caller would see
        return view(error)


def run(scenario: Scenario, stage: Stage, telemetry: Telemetry) -> dict[str, Any]:
    """Run one scenario and note everything about it."""
    provider = stage.provider
    provider.reset()
    # The libraries are half a million objects: collecting them each time takes minutes.
    gc.freeze()
    telemetry.clear()
    value = play(scenario, stage)
    gc.collect()
    result = {
        "value": value,
        "sent": sent(provider),
        "attempts": [[a.method, view(a.path), a.status] for a in provider.attempts],
        "reported": [stage.reported(served.usage) for served in provider.served],
    }
    if "genai_meter" in sys.modules:
        from genai_meter import emit, safety

        emit.flush()
        result["errors"] = dict(safety.internal_errors)
        safety.internal_errors.clear()
    return {**result, **telemetry.seen()}


def without_certificates() -> None:
    """Nothing here uses TLS, and to read the world's certificates for each client takes longest."""
    for name in ("load_verify_locations", "load_default_certs", "set_default_verify_paths"):
        setattr(ssl.SSLContext, name, lambda *_args, **_kwargs: None)  # pyright: ignore[reportUnknownLambdaType]


def instrument() -> None:
    """Meter every library that there is an instrumentor for."""
    from genai_meter import instrumentor

    for found in instrumentor.LibraryInstrumentor.__subclasses__():
        found().instrument(skip_dep_check=True)


def stage(name: str, provider: Provider) -> Stage:
    """The stage of a family."""
    family = FAMILIES[name]
    module, _, kind = family.stage.partition(":")
    return getattr(importlib.import_module(module), kind)(provider, importlib.import_module(family.module))


def main(mode: str, file: Path, *names: str) -> None:
    """Run every scenario of some families in `mode` and write the results to `file`."""
    # Old libraries on a newer Python; the same in every mode.
    warnings.simplefilter("ignore")
    telemetry = Telemetry()
    if mode != "off":
        instrument()
    logging.getLogger("asyncio").disabled = True
    declare(*names)
    results: dict[str, Any] = {}
    with Provider() as provider:
        stages = {name: stage(name, provider) for name in names}
        families = [FAMILIES[name] for name in names]
        chaos.install(mode, [p for f in families for p in f.breaks], [p for f in families for p in f.prepares])
        for scenario in (found for found in SCENARIOS if found.library in names):
            results[f"{scenario.library}: {scenario.name}"] = run(scenario, stages[scenario.library], telemetry)
    file.write_text(json.dumps(results))


def fork(modes: list[str], place: str, *names: str) -> None:
    """Import the libraries once, which takes longest, and run one mode after the other in a process of its own."""
    warnings.simplefilter("ignore")
    for name in names:
        importlib.import_module(FAMILIES[name].module)
    imported = Path(f"{place}-imported.json")
    for number, mode in enumerate(modes):
        child = os.fork()
        if child == 0:
            main(mode, Path(f"{place}-{mode}.json"), *names)
            imported.write_text(json.dumps(list(sys.modules)))
            sys.stdout.flush()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            raise SystemExit(f"{mode}: ended with {status}")
        if number == 0:
            import_lazy_parts(json.loads(imported.read_text()))


def import_lazy_parts(modules: list[str]) -> None:
    """Libraries import most of themselves when it is used: what the first mode has used, the others will use."""
    for name in modules:
        if name not in sys.modules and not name.startswith(("genai_meter", "tests", "examples")):
            with suppress(Exception):  # made by other means than an import
                importlib.import_module(name)


if __name__ == "__main__":
    without_certificates()
    wanted = sys.argv[1].split(",")
    if len(wanted) > 1:
        fork(wanted, sys.argv[2], *sys.argv[3:])
    else:
        main(wanted[0], Path(f"{sys.argv[2]}-{wanted[0]}.json"), *sys.argv[3:])
