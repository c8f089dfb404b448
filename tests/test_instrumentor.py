"""Loading: import orders, idempotence, removal, forks. Each case in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from examples.provider import Provider

ROOT = Path(__file__).resolve().parent.parent

HEAD = """
import logging, os, sys
logging.basicConfig(level=logging.WARNING)
from genai_meter.instrumentor import AnthropicInstrumentor, OpenAIInstrumentor

NAMES = [
    ("BaseClient", "_build_request"), ("BaseClient", "_should_retry"), ("BaseClient", "_calculate_retry_timeout"),
    ("SyncAPIClient", "request"), ("AsyncAPIClient", "request"),
    ("SyncAPIClient", "_process_response"), ("AsyncAPIClient", "_process_response"),
]

def methods(package):
    module = sys.modules[package + "._base_client"]
    return [vars(getattr(module, owner))[name] for owner, name in NAMES]

def patched(package):
    return [hasattr(method, "__wrapped__") for method in methods(package)]

def events():
    from opentelemetry import _logs
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
    kept, provider = InMemoryLogRecordExporter(), LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(kept))
    _logs.set_logger_provider(provider)
    return kept

def chat(provider, **options):
    import openai
    client = openai.OpenAI(base_url=provider.url + "/v1", api_key="sk-test")
    return client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}], **options)
"""


def run(program: str) -> str:
    """What a program prints, its log included; fails when it fails."""
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", HEAD + program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_instrumented_before_the_import() -> None:
    out = run("""
OpenAIInstrumentor().instrument()
AnthropicInstrumentor().instrument()
assert "openai" not in sys.modules and "anthropic" not in sys.modules and "httpx2" not in sys.modules
import openai, anthropic
print(all(patched("openai")), all(patched("anthropic")))
""")
    assert out == "True True\n"


def test_instrumented_after_the_import() -> None:
    out = run("""
import openai, anthropic
originals = methods("openai")
OpenAIInstrumentor().instrument()
print(all(patched("openai")), any(patched("anthropic")))
print(all(ours.__wrapped__ is original for ours, original in zip(methods("openai"), originals)))
""")
    assert out == "True False\nTrue\n"


def test_client_made_before_is_metered() -> None:
    out = run("""
import openai
from examples.provider import Provider
kept = events()
with Provider() as provider:
    client = openai.OpenAI(base_url=provider.url + "/v1", api_key="k")
    create, raw = client.chat.completions.create, client.chat.completions.with_raw_response.create
    OpenAIInstrumentor().instrument()
    ask = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
    create(**ask)
    raw(**ask)
print(len(kept.get_finished_logs()))
""")
    assert out == "2\n"


def test_uninstrument_puts_every_original_back() -> None:
    out = run("""
import openai, anthropic
before = methods("openai"), methods("anthropic")
for instrumentor in (OpenAIInstrumentor(), AnthropicInstrumentor()):
    instrumentor.instrument()
    instrumentor.uninstrument()
after = methods("openai"), methods("anthropic")
print(all(a is b for one, other in zip(before, after) for a, b in zip(one, other)))
OpenAIInstrumentor().instrument()
print(all(patched("openai")))
""")
    assert out == "True\nTrue\n"


def test_uninstrument_disarms_a_hook_that_has_not_fired() -> None:
    out = run("""
OpenAIInstrumentor().instrument()
OpenAIInstrumentor().uninstrument()
import openai
print(any(patched("openai")))
OpenAIInstrumentor().instrument()
print(all(patched("openai")))
""")
    assert out == "False\nTrue\n"


def test_twice_is_once() -> None:
    out = run("""
from examples.provider import Provider
from genai_meter.instrumentor import Library
kept = events()
OpenAIInstrumentor().instrument()
OpenAIInstrumentor()._instrument()
OpenAIInstrumentor()._instrument()
with Provider() as provider:
    chat(provider)
print(len(kept.get_finished_logs()))
print([hasattr(method.__wrapped__, "__wrapped__") for method in methods("openai")])
""")
    assert out == "1\n[False, False, False, False, False, False, False]\n"


def test_a_wrapper_above_ours_is_left_alone() -> None:
    out = run("""
import functools, openai
from examples.provider import Provider
kept = events()
OpenAIInstrumentor().instrument()
base = sys.modules["openai._base_client"].SyncAPIClient
ours = base.request

@functools.wraps(ours)
def theirs(self, *args, **kwargs):
    return ours(self, *args, **kwargs)

base.request = theirs
OpenAIInstrumentor().uninstrument()
print(base.request is theirs)
with Provider() as provider:
    chat(provider)
    print(len(kept.get_finished_logs()))
    OpenAIInstrumentor().instrument()
    chat(provider)
print(len(kept.get_finished_logs()))
""")
    assert out == "True\n0\n1\n"


def test_each_library_has_its_own_instrumentor() -> None:
    out = run("""
one, other = OpenAIInstrumentor(), AnthropicInstrumentor()
print(one is other, OpenAIInstrumentor() is one, list(one.instrumentation_dependencies()))
one.instrument()
print(one.is_instrumented_by_opentelemetry, other.is_instrumented_by_opentelemetry)
""")
    assert out == "False True []\nTrue False\n"


@pytest.mark.parametrize("package", ["openai", "anthropic"])
def test_an_error_of_ours_never_breaks_the_import(package: str) -> None:
    out = run(f"""
import genai_meter.clients.stainless as stainless
def broken(*_):
    raise RuntimeError("ours")
stainless.Seam.install = broken
OpenAIInstrumentor().instrument()
AnthropicInstrumentor().instrument()
import {package}
print({package}.__name__)
""")
    assert package in out.splitlines()
    assert out.count("RuntimeError in ") == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("del module.SyncAPIClient.request", "SyncAPIClient.request is missing"),
        ("module.AsyncAPIClient.request = lambda self, call: None", "AsyncAPIClient.request has other parameters"),
        ("module.FinalRequestOptions = object", "FinalRequestOptions.post_parser is missing"),
        ("del module.model_copy", "model_copy is missing"),
    ],
)
def test_a_library_we_do_not_understand_is_left_alone(change: str, reason: str) -> None:
    out = run(f"""
import openai
module = sys.modules["openai._base_client"]
{change}
OpenAIInstrumentor().instrument()
print(any(hasattr(vars(getattr(module, owner)).get(name), "__wrapped__") for owner, name in NAMES))
""")
    assert sorted(out.splitlines()) == [
        "False",
        f"WARNING:genai_meter:genai_meter: openai is installed but not metered: {reason}",
    ]


def test_disabled_by_the_environment() -> None:
    out = run("""
os.environ["GENAI_METER_DISABLED"] = "true"
OpenAIInstrumentor().instrument()
import openai
print(any(patched("openai")))
""")
    assert out == "False\n"


def test_introspection_of_the_patched_methods() -> None:
    out = run("""
import inspect, openai
before = {kind: inspect.signature(getattr(sys.modules["openai._base_client"], kind).request)
          for kind in ("SyncAPIClient", "AsyncAPIClient")}
OpenAIInstrumentor().instrument()
for kind, signature in before.items():
    method = getattr(sys.modules["openai._base_client"], kind).request
    print(inspect.signature(method) == signature, inspect.iscoroutinefunction(method), method.__qualname__)
""")
    assert out == "True False SyncAPIClient.request\nTrue True AsyncAPIClient.request\n"


def test_fork_meters_in_both_and_counts_no_stream_twice() -> None:
    out = run("""
import gc, warnings
from examples.provider import Provider
# From Python 3.12 on; the exporters' threads are what it means.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
OpenAIInstrumentor().instrument()
kept = events()
with Provider() as provider:
    opened = chat(provider, stream=True, extra_headers={"x-scenario": "slow:0.01"})
    next(opened)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        from genai_meter import emit
        opened = None
        gc.collect()
        chat(provider)
        list(chat(provider, stream=True))
        emit.flush()
        told = [item.log_record.attributes["genai_meter.status"] for item in kept.get_finished_logs()]
        os.write(write, repr(told).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    print("child", os.read(read, 1000).decode())
    opened.close()
print("parent", [item.log_record.attributes["genai_meter.status"] for item in kept.get_finished_logs()])
""")
    assert out == "child ['ok', 'ok']\nparent ['closed_early']\n"


def test_open_streams_are_settled_at_exit(provider: Provider) -> None:
    out = run(
        f"URL = {provider.url!r}"
        + """
import atexit, types
kept = events()

@atexit.register
def tell():
    print([item.log_record.attributes["genai_meter.status"] for item in kept.get_finished_logs()])

OpenAIInstrumentor().instrument()
opened = chat(types.SimpleNamespace(url=URL), stream=True, extra_headers={"x-scenario": "slow:0.01"})
next(opened)
"""
    )
    assert out == "['abandoned']\n"


def test_providers_of_a_manual_instrument_call() -> None:
    out = run("""
from examples.provider import Provider
from opentelemetry import _logs
kept = events()
mine = _logs.get_logger_provider()
_logs._internal._LOGGER_PROVIDER = None
OpenAIInstrumentor().instrument(logger_provider=mine)
with Provider() as provider:
    chat(provider)
print(len(kept.get_finished_logs()))
""")
    assert out == "1\n"
