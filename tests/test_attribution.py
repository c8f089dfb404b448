"""Who pays: `attribute(...)` in every form, across threads, tasks and processes."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import subprocess
import sys
import textwrap
from ast import literal_eval
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from genai_meter import attribute, current_attribution, environment, schema
from opentelemetry import baggage, context


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    def apply(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(f"GENAI_METER_{name}", value)
        environment.reload()

    yield apply
    monkeypatch.undo()
    environment.reload()


def test_nothing_is_known_outside() -> None:
    assert current_attribution() == {}


def test_values_hold_inside_and_end_with_the_block() -> None:
    with attribute(tenant="acme", feature="search"):
        assert current_attribution() == {"tenant": "acme", "feature": "search"}
    assert current_attribution() == {}


def test_inner_values_win_field_by_field_and_an_empty_one_clears() -> None:
    with attribute(tenant="acme", feature="search", user=7):
        with attribute(feature="chat", user=None, team="core"):
            assert current_attribution() == {"tenant": "acme", "feature": "chat", "user": "7", "team": "core"}
        with attribute(tenant=""):
            assert current_attribution() == {"feature": "search", "user": "7"}
        assert current_attribution() == {"tenant": "acme", "feature": "search", "user": "7"}


def test_every_field_of_the_schema_is_accepted_and_nothing_else() -> None:
    declared = [name for name, p in inspect.signature(attribute).parameters.items() if p.kind is p.KEYWORD_ONLY]
    assert declared == [f.name for f in schema.ATTRIBUTION]
    with attribute(**{name: name for name in declared}):
        assert current_attribution() == {name: name for name in declared}


def test_an_unknown_field_is_a_type_error_that_names_the_closest() -> None:
    with pytest.raises(TypeError, match=r"unknown field of attribution 'tenent'; did you mean 'tenant'\?"):
        attribute(tenent="acme")  # pyright: ignore[reportCallIssue] - type checkers know it, too


def test_values_are_bounded_and_cleaned() -> None:
    with attribute(tenant="a\r\nX-Injected: 1", feature="f" * 1000):
        assert current_attribution() == {"tenant": "a  X-Injected: 1", "feature": "f" * 256}


# --- decorator --------------------------------------------------------------------------------------
def test_as_decorator_of_a_function() -> None:
    @attribute(tenant="acme")
    def work(number: int) -> tuple[int, dict[str, str]]:
        """Doc."""
        return number, dict(current_attribution())

    assert work(3) == (3, {"tenant": "acme"})
    assert (work.__name__, work.__doc__) == ("work", "Doc.")
    assert current_attribution() == {}


async def test_as_decorator_of_a_coroutine_and_as_async_context_manager() -> None:
    @attribute(tenant="acme")
    async def work() -> dict[str, str]:
        await asyncio.sleep(0)
        return dict(current_attribution())

    assert inspect.iscoroutinefunction(work)
    assert await work() == {"tenant": "acme"}
    async with attribute(feature="search"):
        assert await work() == {"feature": "search", "tenant": "acme"}
    assert current_attribution() == {}


def test_as_decorator_of_a_generator_the_consumer_sees_nothing() -> None:
    closed: list[dict[str, str]] = []

    @attribute(tenant="acme")
    def numbers() -> Generator[object, str, str]:
        try:
            got = yield dict(current_attribution())
            try:
                yield got
            except KeyError as error:
                yield (str(error), dict(current_attribution()))
            yield "last"
        finally:
            closed.append(dict(current_attribution()))
        return "done"

    running = numbers()
    assert next(running) == {"tenant": "acme"}
    assert current_attribution() == {}
    assert running.send("sent") == "sent"
    assert running.throw(KeyError("thrown")) == ("'thrown'", {"tenant": "acme"})
    assert next(running) == "last"
    with pytest.raises(StopIteration) as stop:
        next(running)
    assert stop.value.value == "done"
    abandoned = numbers()
    next(abandoned)
    abandoned.close()
    assert closed == [{"tenant": "acme"}, {"tenant": "acme"}]
    assert current_attribution() == {}


async def test_as_decorator_of_an_async_generator_the_consumer_sees_nothing() -> None:
    closed: list[dict[str, str]] = []

    @attribute(tenant="acme")
    async def numbers() -> AsyncGenerator[object, str]:
        try:
            got = yield dict(current_attribution())
            await asyncio.sleep(0)
            try:
                yield (got, dict(current_attribution()))
            except KeyError:
                yield "caught"
        finally:
            closed.append(dict(current_attribution()))

    running = numbers()
    assert await anext(running) == {"tenant": "acme"}
    assert current_attribution() == {}
    assert await running.asend("sent") == ("sent", {"tenant": "acme"})
    assert await running.athrow(KeyError()) == "caught"
    await running.aclose()
    assert [item async for item in numbers()] == [{"tenant": "acme"}, (None, {"tenant": "acme"})]
    assert closed == [{"tenant": "acme"}, {"tenant": "acme"}]
    assert current_attribution() == {}


# --- concurrency ------------------------------------------------------------------------------------
class Owned:
    """Methods of every kind, decorated above and below."""

    @classmethod
    @attribute(tenant="acme")
    def below(cls) -> tuple[object, object]:
        return cls, dict(current_attribution())

    # The type checkers want the decorators the other way round; the interpreter does not care.
    above: Any = attribute(tenant="acme")(cast("Any", classmethod(lambda cls: (cls, dict(current_attribution())))))
    still: Any = attribute(tenant="acme")(staticmethod(lambda: dict(current_attribution())))

    async def __call__(self) -> object:
        return dict(current_attribution())


def test_as_decorator_of_methods_of_the_class() -> None:
    acme = {"tenant": "acme"}
    assert (Owned.below(), Owned().below()) == ((Owned, acme), (Owned, acme))
    assert (Owned.above(), Owned().above()) == ((Owned, acme), (Owned, acme))
    assert (Owned.still(), Owned().still()) == (acme, acme)


def test_a_class_is_not_decorated() -> None:
    with pytest.raises(TypeError, match=r"decorates functions; decorate the methods of class .*Fresh"):

        @attribute(tenant="acme")
        class Fresh:  # pyright: ignore[reportUnusedClass]
            pass


async def test_what_a_plain_function_returns_to_be_run_later_is_charged_too() -> None:
    acme = {"tenant": "acme"}

    def steps() -> Generator[object, object, str]:
        yield dict(current_attribution())
        yield current_attribution
        return "end"

    async def pieces() -> AsyncGenerator[object]:
        yield dict(current_attribution())

    def plainly(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda: function()

    owned = attribute(tenant="acme")
    assert await owned(Owned())() == acme
    assert await owned(plainly(Owned().__call__))() == acme
    assert [piece async for piece in owned(plainly(pieces))()] == [acme]
    running = owned(plainly(steps))()
    assert (inspect.isgenerator(running), next(running), current_attribution()) == (True, acme, {})
    assert next(running)() == {}
    with pytest.raises(StopIteration, match="end"):
        next(running)


async def test_one_object_entered_by_many_tasks_at_once() -> None:
    owner = attribute(team="core")
    seen: list[dict[str, str]] = []

    async def work(tenant: str) -> None:
        with owner, attribute(tenant=tenant):
            await asyncio.sleep(0.001 * len(seen))
            with owner:
                await asyncio.sleep(0)
                seen.append(dict(current_attribution()))
        assert current_attribution() == {"feature": "batch"}

    with attribute(feature="batch"):
        await asyncio.gather(*(work(str(number)) for number in range(50)))
    assert sorted(found["tenant"] for found in seen) == sorted(str(number) for number in range(50))
    assert all(found.keys() == {"feature", "team", "tenant"} for found in seen)


def test_threads_have_their_own_and_can_be_handed_the_callers() -> None:
    with attribute(tenant="acme"), ThreadPoolExecutor(1) as pool:
        assert dict(pool.submit(current_attribution).result()) == {}
        handed = contextvars.copy_context()
        assert dict(pool.submit(handed.run, current_attribution).result()) == {"tenant": "acme"}


def test_a_block_left_in_another_context_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    block = attribute(tenant="acme")
    contextvars.copy_context().run(block.__enter__)
    block.__exit__(None, None, None)
    assert current_attribution() == {}
    assert caplog.records == []


def test_a_block_holds_although_the_context_it_was_entered_in_is_taken_back() -> None:
    # As FastAPI enters its dependencies: inside a span of their own, which ends before the endpoint is called.
    with attribute(team="search"):
        for base in (context.get_current(), context.Context()):
            outer = context.attach(base)
            span = context.attach(context.set_value("span", "dependencies"))
            block = attribute(tenant="acme")
            block.__enter__()
            context.detach(span)
            assert current_attribution() == {"team": "search", "tenant": "acme"}
            with attribute(feature="chat"):
                assert current_attribution() == {"team": "search", "tenant": "acme", "feature": "chat"}
            assert attribute(tenant="other")(current_attribution)() == {"team": "search", "tenant": "other"}
            block.__exit__(None, None, None)
            context.detach(outer)
            assert current_attribution() == {"team": "search"}
    assert current_attribution() == {}


def test_a_context_from_elsewhere_comes_before_the_open_block() -> None:
    with attribute(tenant="acme"):
        job = context.get_current()
    with attribute(tenant="worker", feature="queue"):
        token = context.attach(job)
        assert current_attribution() == {"tenant": "acme"}
        context.detach(token)
        assert current_attribution() == {"tenant": "worker", "feature": "queue"}


async def test_a_block_left_in_a_copy_of_its_context_raises_nothing() -> None:
    async def numbers() -> AsyncGenerator[int]:
        with attribute(tenant="acme"):
            yield 1

    # A generator that is dropped half-way is closed by a task of the event loop, in a copy of this context.
    running = numbers()
    await anext(running)
    await asyncio.create_task(running.aclose())


# --- defaults ---------------------------------------------------------------------------------------
def test_explicit_over_baggage_over_environment(settings: Callable[..., None]) -> None:
    settings(TEAM="core", TENANT="default", FEATURE="default", BAGGAGE="tenant,feature")
    received = baggage.set_baggage("genai_meter.tenant", "acme")
    received = baggage.set_baggage("genai_meter.feature", "received", received)
    received = baggage.set_baggage("genai_meter.project", "not on the list", received)
    token = context.attach(received)
    try:
        with attribute(feature="search"):
            assert current_attribution() == {"team": "core", "tenant": "acme", "feature": "search"}
        assert current_attribution() == {"team": "core", "tenant": "acme", "feature": "received"}
    finally:
        context.detach(token)


def test_baggage_is_neither_written_nor_read_unless_configured() -> None:
    with attribute(tenant="acme"):
        assert dict(baggage.get_all()) == {}
    token = context.attach(baggage.set_baggage("genai_meter.tenant", "evil"))
    try:
        assert current_attribution() == {}
    finally:
        context.detach(token)


def test_received_values_are_bounded_and_cleaned(settings: Callable[..., None]) -> None:
    settings(BAGGAGE_IN="tenant")
    token = context.attach(baggage.set_baggage("genai_meter.tenant", "a\nb" + "x" * 1000))
    try:
        assert current_attribution() == {"tenant": "a b" + "x" * 253}
    finally:
        context.detach(token)


def test_only_listed_fields_are_written_and_cleared(settings: Callable[..., None]) -> None:
    settings(BAGGAGE_OUT="tenant")
    with attribute(tenant="acme", feature="secret"):
        assert dict(baggage.get_all()) == {"genai_meter.tenant": "acme"}
        with attribute(tenant=""):
            assert dict(baggage.get_all()) == {}


def test_users_are_hashed_before_anything_can_carry_them(settings: Callable[..., None]) -> None:
    settings(HASH_KEY="k:0123456789abcdef", HASH_USER="true", BAGGAGE="user")
    with attribute(user="alice@example.org"):
        found = current_attribution()["user"]
        assert found.startswith("k:")
        assert len(found) == 34
        assert dict(baggage.get_all()) == {"genai_meter.user": found}
        assert "alice" not in repr(dict(context.get_current()))


SENDER = """
    from opentelemetry import propagate
    from genai_meter import attribute

    carrier = {}
    with attribute(tenant="Zoë & Söhne; 100 %", feature="search", owner="not listed"):
        propagate.inject(carrier)
    print(carrier["baggage"])
"""
RECEIVER = """
    import sys
    from opentelemetry import context, propagate
    from genai_meter import attribute, current_attribution

    context.attach(propagate.extract({"baggage": sys.argv[1]}))
    print(dict(current_attribution()))
"""


def _python(code: str, *arguments: str, **variables: str) -> str:
    environ = {**os.environ, **variables}
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout.strip()


def test_from_one_process_to_another_by_w3c_baggage() -> None:
    header = _python(SENDER, GENAI_METER_BAGGAGE="tenant,feature")
    assert "owner" not in header
    received = _python(RECEIVER, header, GENAI_METER_BAGGAGE="tenant,feature", GENAI_METER_TEAM="core")
    assert received == str({"team": "core", "tenant": "Zoë & Söhne; 100 %", "feature": "search"})
    assert _python(RECEIVER, header) == "{}"


def test_defaults_from_the_resource_of_the_provider() -> None:
    code = """
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from genai_meter import current_attribution

        trace.set_tracer_provider(TracerProvider(resource=Resource({"genai_meter.team": "core", "user.id": "u"})))
        print(dict(current_attribution()))
    """
    told = literal_eval(_python(code, GENAI_METER_TENANT="acme"))
    assert told == {"team": "core", "user": "u", "tenant": "acme"}
    assert literal_eval(_python(code, GENAI_METER_TEAM="search")) == {"team": "search", "user": "u"}
    hashed = literal_eval(_python(code, GENAI_METER_HASH_USER="true", GENAI_METER_HASH_KEY="k:0123456789abcdef"))
    assert hashed["user"].startswith("k:")


def test_defaults_from_a_provider_that_is_set_after_the_first_look() -> None:
    code = """
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from genai_meter import current_attribution

        before = dict(current_attribution())
        trace.set_tracer_provider(TracerProvider(resource=Resource({"genai_meter.team": "core"})))
        print((before, dict(current_attribution())))
    """
    assert literal_eval(_python(code)) == ({}, {"team": "core"})


def test_reading_it_is_cheap_when_nothing_changed() -> None:
    import timeit

    with attribute(tenant="acme"):
        current_attribution()
        seconds = min(timeit.repeat(current_attribution, number=10_000, repeat=5)) / 10_000
    assert seconds < 50e-6  # 0.2 µs on an idle machine; what is looked for is work in proportion to the context
