"""The package as it is imported: light, complete, and content without an SDK."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import genai_meter
import pytest


def test_without_any_sdk_everything_is_a_no_op_and_providers_may_come_later() -> None:
    code = """
        import sys
        sys.path[:0] = ["tests"]
        import emission_kit as kit
        from genai_meter import emit
        from opentelemetry import _logs, metrics, trace

        body = {"model": "gpt-4o", "messages": []}
        emit.finish(kit.call("openai_chat", body), "ok")
        pipeline = kit.Telemetry()
        trace.set_tracer_provider(pipeline.tracer_provider)
        metrics.set_meter_provider(pipeline.meter_provider)
        _logs.set_logger_provider(pipeline.logger_provider)
        emit.finish(kit.call("openai_chat", body), "ok")
        print(len(pipeline.spans), len(pipeline.events), "gen_ai.client.inference.duration" in pipeline.points())
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert (done.stdout.split(), done.stderr) == (["1", "1", "True"], "")


def test_importing_the_package_imports_neither_sdk_nor_client_libraries() -> None:
    code = """
        import sys
        import genai_meter.emit, genai_meter.attribution, genai_meter.api, genai_meter.instrumentor
        print([name for name in ("opentelemetry.sdk", "openai", "anthropic", "hmac", "difflib") if name in sys.modules])
    """
    assert subprocess.check_output([sys.executable, "-c", textwrap.dedent(code)], text=True).strip() == "[]"


def test_a_package_in_a_zip_archive_knows_the_prices(tmp_path: Path) -> None:
    source, archive = Path(genai_meter.__file__).parent, tmp_path / "packed.zip"
    with ZipFile(archive, "w") as packed:
        for file in source.rglob("*"):
            if file.suffix in {".py", ".gz"}:
                packed.write(file, file.relative_to(source.parent))
    code = """
        import sys
        sys.path.insert(0, sys.argv[1])
        from genai_meter import pricing
        from genai_meter.usage import Usage
        cost = pricing.price("openai", "gpt-4.1", [Usage({"input": 1000})], 1_795_338_000_000_000_000, {})
        print(pricing.__file__.startswith(sys.argv[1]), cost.status, cost.effective_pico)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(archive)]
    assert subprocess.check_output(command, text=True).split() == ["True", "exact", "2000000000"]


def test_the_public_names() -> None:
    assert genai_meter.__all__ == [
        "Blocked",
        "Spend",
        "__version__",
        "attribute",
        "cache_hit",
        "current_attribution",
        "current_conversation",
        "current_run",
        "flush",
        "outcome",
        "record_cost",
    ]
    assert all(getattr(genai_meter, name) is not None for name in genai_meter.__all__)
    assert genai_meter.__version__ == version("genai-meter")
    with pytest.raises(AttributeError):
        _ = genai_meter.nothing  # type: ignore[attr-defined]  # pyright: ignore
