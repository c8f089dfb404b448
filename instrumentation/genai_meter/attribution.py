"""Who pays: `attribute(tenant=…, feature=…)`, carried by the OpenTelemetry context and by W3C baggage."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar, cast

from opentelemetry import baggage, trace
from opentelemetry.context import Context, attach, create_key, get_current, set_value

from genai_meter import environment, identity, schema

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")

_KEY: Final = create_key("genai_meter.attribution")
_FIELDS: Final = {f.name: f for f in schema.ATTRIBUTION}
_PREFIX: Final = "genai_meter."
_NOTHING: Final[Mapping[str, str]] = {}
_MARKS: Final = 15
"""Blocks inside one another that are told apart."""

_bound: object = None
"""Tracer provider given explicitly; None is the global one."""
_seen: tuple[object, object] = (None, None)
_default_values: Mapping[str, str] = _NOTHING
"""Defaults under the provider and the settings last seen."""


def baggage_key(name: str) -> str:
    """The baggage key that carries a field."""
    return _PREFIX + name


def use_provider(provider: object) -> None:
    """Take defaults from the resource of this tracer provider; of the global one when None."""
    global _bound, _last
    _bound = provider
    _last = (None, (), _NOTHING)


def _defaults() -> Mapping[str, str]:
    """Defaults of the process: the environment's, over those of the resource (`genai_meter.team` …)."""
    global _seen, _default_values
    provider, settings = _bound or trace.get_tracer_provider(), environment.settings()
    if _seen[0] is not provider or _seen[1] is not settings:
        attributes = getattr(getattr(provider, "resource", None), "attributes", _NOTHING)
        told = {f.name: attributes.get(f.attribute) for f in schema.ATTRIBUTION}
        told.update(settings.attribution)
        _default_values, _seen = cleaned(told), (provider, settings)
    return _default_values


class _Given(dict[str, str]):
    """What `attribute(...)` has said, over what had been said before."""

    __slots__ = ("marks",)

    def __init__(self, fields: Mapping[str, str], before: _Given | None) -> None:
        super().__init__(fields if before is None else {**before, **fields})
        self.marks: tuple[object, ...] = (*(before.marks[-_MARKS:] if before is not None else ()), object())
        """One for each of those that it is over, the last one its own."""


_Open: TypeAlias = "tuple[tuple[attribute, Token[Context], _Given], ...]"
_entered: Final[ContextVar[_Open]] = ContextVar("genai_meter.attribution.entered", default=())
"""The `with` blocks open in this task or thread: one `attribute` object may be entered by several."""


def _given(context: Context) -> _Given | None:
    """What `attribute(...)` says here.

    The context may be older than the last block: whoever entered it did so inside a span that has ended since, and took
    the context back, as FastAPI does with its dependencies. The block is open all the same.
    """
    found = cast("_Given | None", context.get(_KEY))
    entered = _entered.get()
    if entered:
        latest = entered[-1][2]
        if latest is not found and (found is None or found.marks[-1] in latest.marks):
            return latest
    return found


# --- reading ----------------------------------------------------------------------------------------
_last: tuple[Context | None, _Open, Mapping[str, str]] = (None, (), _NOTHING)
_frameworks: Callable[[], Mapping[str, str]] | None = None


def use_frameworks(source: Callable[[], Mapping[str, str]]) -> None:
    """Ask `source` what the agent and workflow frameworks say of a call made now: workflow, run, step, agent …"""
    global _frameworks
    _frameworks = source


def current() -> Mapping[str, str]:
    """Who pays for a call made now: field name of the schema → value. Not to be changed by the caller.

    `attribute(...)` wins over received baggage, which wins over what a framework says, which wins over the
    defaults of the process.
    """
    global _last
    context, entered = get_current(), _entered.get()
    known, known_entered, found = _last
    # A provider may come after the first look; the context can be the same one as before.
    if known is not context or known_entered is not entered or _seen[0] is not (_bound or trace.get_tracer_provider()):
        found = _resolve(context)
        _last = (context, entered, found)
    return found if _frameworks is None else _beneath(context, found, _frameworks())


def _resolve(context: Context, told: Mapping[str, str] = _NOTHING) -> Mapping[str, str]:
    given = _given(context) or _NOTHING
    received = _received(context)
    defaults = _defaults()
    merged = {**defaults, **told, **received, **given} if received or defaults or told else given
    return {name: value for name, value in merged.items() if value}


def _beneath(context: Context, found: Mapping[str, str], told: Mapping[str, str]) -> Mapping[str, str]:
    """What a framework says, under what the application says."""
    return _resolve(context, told) if told else found


def _received(context: Context) -> dict[str, str]:
    names = environment.settings().baggage_in
    if not names:
        return {}
    carried = baggage.get_all(context)
    found: dict[str, str] = {}
    for name in names:
        value = carried.get(_PREFIX + name)
        if value is not None:
            text = _value(name, value)
            if text:
                found[name] = text
    return found


# --- writing ----------------------------------------------------------------------------------------
def _value(name: str, value: object) -> str | None:
    text = environment.clean(value)
    return identity.user(text) if name == "user" and text else text


def cleaned(fields: Mapping[str, object]) -> dict[str, str]:
    """Fields as they may be stored; TypeError for a name the schema does not have."""
    found: dict[str, str] = {}
    for name, value in fields.items():
        if name not in _FIELDS:
            raise TypeError(_unknown(name))
        if value is None:
            continue
        text = _value(name, value)
        if text is not None:
            found[name] = text
    return found


def _unknown(name: str) -> str:
    import difflib  # only on the way to an exception

    closest = difflib.get_close_matches(name, _FIELDS, 1, 0.5)
    hint = f"; did you mean {closest[0]!r}?" if closest else ""
    return f"unknown field of attribution {name!r}{hint} (known: {', '.join(_FIELDS)})"


def _extended(context: Context, fields: Mapping[str, str]) -> Context:
    """`context` with `fields` over what it has; an empty value removes a field."""
    result = set_value(_KEY, _Given(fields, _given(context)), context)
    for name in environment.settings().baggage_out:
        if name in fields:
            if fields[name]:
                result = baggage.set_baggage(_PREFIX + name, fields[name], result)
            else:
                result = baggage.remove_baggage(_PREFIX + name, result)
    return result


def leave(token: Token[Context]) -> None:
    """Detach what `token` attached; nothing happens in an execution context that it was not attached in."""
    try:
        token.var.reset(token)
    except (ValueError, RuntimeError):
        # Closed from another task or thread (a generator's finalizer): there is nothing of ours there.
        return


def _named(init: Callable[P, None]) -> Callable[P, None]:
    """A TypeError that helps, at an `__init__` whose parameters type checkers know."""

    @functools.wraps(init)
    def checked(*args: P.args, **fields: P.kwargs) -> None:
        for name in fields:
            if name not in _FIELDS:
                raise TypeError(_unknown(name))
        init(*args, **fields)

    return checked


class attribute:
    """Charge every call made inside to the given owner: `with attribute(tenant="acme", feature="search"):`.

    Context manager (sync and async) and decorator (functions, coroutines, generators, async
    generators). Inner values win over outer ones, field by field. None leaves a field as it is, an
    empty string clears it. Values are cut to 256 characters, control characters become spaces. A
    name the schema does not have is a TypeError.
    """

    __slots__ = ("_fields",)

    @_named
    def __init__(
        self,
        *,
        tenant: object = None,
        tenant_segment: object = None,
        team: object = None,
        project: object = None,
        feature: object = None,
        route: object = None,
        owner: object = None,
        user: object = None,
        user_tier: object = None,
        priority: object = None,
        criticality: object = None,
        workflow: object = None,
        run_id: object = None,
        parent_run_id: object = None,
        step: object = None,
        agent: object = None,
        tool: object = None,
        conversation_id: object = None,
        session_id: object = None,
        experiment: object = None,
        variant: object = None,
        prompt_name: object = None,
        prompt_version: object = None,
        release: object = None,
    ) -> None:
        self._fields = cleaned({name: value for name, value in locals().items() if name in _FIELDS})

    def __enter__(self) -> attribute:
        context = _extended(get_current(), self._fields)
        _entered.set((*_entered.get(), (self, attach(context), cast("_Given", context[_KEY]))))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        stack = _entered.get()
        for at in range(len(stack) - 1, -1, -1):
            owner, token, _ = stack[at]
            if owner is self:
                _entered.set(stack[:at])
                leave(token)
                return

    async def __aenter__(self) -> attribute:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def _attach(self) -> Token[Context]:
        return attach(_extended(get_current(), self._fields))

    def __call__(self, function: F) -> F:
        """Decorate `function`: what it calls is charged to the owner."""
        if isinstance(function, type):
            raise TypeError(
                f"attribute(...) decorates functions; decorate the methods of class {function.__qualname__}"
            )
        if isinstance(function, classmethod | staticmethod):
            method = cast("classmethod[Any, Any, Any] | staticmethod[Any, Any]", function)
            return cast("F", type(method)(self(method.__func__)))
        if inspect.isasyncgenfunction(function):
            wrapper: Callable[..., Any] = self._async_generator(function)
        elif inspect.iscoroutinefunction(function):
            wrapper = self._coroutine(function)
        elif inspect.isgeneratorfunction(function):
            wrapper = self._generator(function)
        else:
            wrapper = self._function(function)
        return cast("F", functools.wraps(function)(wrapper))

    def _function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        called = self._step(function)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            result = called(*args, **kwargs)
            # What another decorator, or an object with an asynchronous `__call__`, has yet to run.
            if isinstance(result, types.CoroutineType):
                return self._coroutine(lambda: cast("Any", result))()
            if isinstance(result, types.GeneratorType):
                return self._generator(lambda: cast("Any", result))()
            if isinstance(result, types.AsyncGeneratorType):
                return self._async_generator(lambda: cast("Any", result))()
            return result

        return wrapper

    def _step(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            token = self._attach()
            try:
                return function(*args, **kwargs)
            finally:
                leave(token)

        return step

    def _coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            token = self._attach()
            try:
                return await function(*args, **kwargs)
            finally:
                leave(token)

        return wrapper

    def _generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        # Attached for each step only: between two steps the consumer runs, who must not see our values.
        def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            generator: Generator[Any, Any, Any] = function(*args, **kwargs)
            step: Callable[[], Any] = functools.partial(next, generator)
            while True:
                try:
                    item = self._step(step)()
                except StopIteration as stop:
                    return stop.value
                try:
                    step = functools.partial(generator.send, (yield item))
                except GeneratorExit:
                    self._step(generator.close)()
                    raise
                except BaseException as error:  # noqa: BLE001 - handed on to the generator
                    step = functools.partial(generator.throw, error)

        return wrapper

    def _async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            generator: AsyncGenerator[Any, Any] = function(*args, **kwargs)
            step: Callable[[], Any] = generator.__anext__
            while True:
                try:
                    item = await self._coroutine(step)()
                except StopAsyncIteration:
                    return
                try:
                    step = functools.partial(generator.asend, (yield item))
                except GeneratorExit:
                    await self._coroutine(generator.aclose)()
                    raise
                except BaseException as error:  # noqa: BLE001 - handed on to the generator
                    step = functools.partial(generator.athrow, error)

        return wrapper
