"""The seam of AWS: `botocore`, and `aiobotocore` on top of it. Bedrock's runtime and agents are metered.

Every AWS call of every service ends in `BaseClient._make_api_call`, and every HTTP exchange of it in
`Endpoint._get_response`. Both are patched on the classes, so that clients made before the patch are seen
as well; what is no call of a model costs one look at the service's name. Below them:

    _make_api_call     one call: who pays, the guard, the end
    _get_response      one attempt; the first one opens the span, and what came back is read or watched
    StreamingBody      gives its raw stream out (`with body as raw`): without our proxy around it

What meters hangs on the first call of a model: a program that only stores files in S3 never loads it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, cast

from genai_meter.clients.patches import Patches
from genai_meter.safety import guarded, logger

if TYPE_CHECKING:
    from genai_meter.clients.botocore_calls import Exchange

SERVICES: Final = {
    "bedrock-runtime": frozenset({"Converse", "ConverseStream", "InvokeModel", "InvokeModelWithResponseStream"}),
    "bedrock-agent-runtime": frozenset({"InvokeAgent", "InvokeInlineAgent", "Rerank"}),
}
"""Service → operations that are metered."""

NOT_METERED: Final = (
    ("bedrock-runtime", "CountTokens", "counts only: free"),
    ("bedrock-runtime", "ApplyGuardrail, InvokeGuardrailChecks", "guardrails: billed by text unit, not by token"),
    ("bedrock-runtime", "StartAsyncInvoke", "works in the background: the answer goes to S3, no usage is told"),
    ("bedrock-runtime", "InvokeModelWithBidirectionalStream", "botocore cannot send it"),
    ("bedrock-agent-runtime", "RetrieveAndGenerate, RetrieveAndGenerateStream", "no usage is told"),
    ("bedrock-agent-runtime", "Retrieve, AgenticRetrieveStream, GenerateQuery", "no usage is told"),
    ("bedrock-agent-runtime", "InvokeFlow, StartFlowExecution, OptimizePrompt", "no usage is told"),
    ("bedrock", "CreateModelInvocationJob", "batches: the cost is in the result files, hours later"),
    ("sagemaker-runtime", "InvokeEndpoint, InvokeEndpointWithResponseStream", "endpoints are billed by the hour"),
)
"""(service, operations, reason): what calls models and is deliberately not metered."""

CLIENTS: Final = {"botocore.client": "BaseClient", "aiobotocore.client": "AioBaseClient"}
ENDPOINTS: Final = {"botocore.endpoint": "Endpoint", "aiobotocore.endpoint": "AioEndpoint"}
BODIES: Final = {
    "botocore.response": (("StreamingBody", "__enter__"),),
    "aiobotocore.response": (("AioStreamingBodyBase", "raw_stream"),),
}
"""Module → what gives a raw stream out, where this version has it."""

current: Final[ContextVar[Exchange | None]] = ContextVar("genai_meter_botocore", default=None)
"""The call of a model whose request runs in this context."""


class Seam:
    """The patches of `botocore` and `aiobotocore`."""

    def __init__(self, package: str) -> None:
        self.package = package
        self._patches = Patches()

    def install(self, module: ModuleType) -> None:
        """Patch one of the modules. One that we do not understand is left alone."""
        name = module.__name__
        if name in CLIENTS:
            self._install(module, CLIENTS[name], "_make_api_call", ["operation_name", "api_params"], self._call)
        elif name in ENDPOINTS:
            parameters = ["request", "operation_model", "context"]
            self._install(module, ENDPOINTS[name], "_get_response", parameters, self._attempt)
        else:
            for owner, attribute in BODIES[name]:
                self._patches.put(getattr(module, owner, object), attribute, _gives_raw)

    def remove(self) -> None:
        """Put every original back. Where another one has wrapped our patch, it stays and lets pass."""
        self._patches.remove()

    def _install(
        self, module: ModuleType, owner: str, name: str, parameters: list[str], make: Callable[[Any], Any]
    ) -> None:
        found: Any = getattr(module, owner, object)
        members: dict[str, Any] = {**vars(found)}
        method = members.get(name)
        if method is None or list(inspect.signature(method).parameters)[1:] != parameters:
            reason = f"{owner}.{name} is missing or has other parameters"
            logger.warning("genai_meter: %s is installed but not metered: %s", module.__name__, reason)
            return
        self._patches.put(found, name, make)

    def _call(self, original: Any) -> Any:
        patches, layer = self._patches, self._patches.layer
        if not inspect.iscoroutinefunction(inspect.unwrap(original)):

            @wraps(original)
            def make_api_call(client: Any, *args: Any, **kwargs: Any) -> Any:
                bound = original.__get__(client, type(client))
                exchange = guarded(_exchange, client, args, kwargs) if patches.layer is layer else None
                if exchange is None:
                    return bound(*args, **kwargs)
                exchange.decide()
                with exchange:
                    result = bound(exchange.operation, exchange.params)
                guarded(exchange.returned)
                return result

            return make_api_call

        @wraps(original)
        async def make_api_call_async(client: Any, *args: Any, **kwargs: Any) -> Any:
            bound = original.__get__(client, type(client))
            exchange = guarded(_exchange, client, args, kwargs) if patches.layer is layer else None
            if exchange is None:
                return await bound(*args, **kwargs)
            await exchange.decide_async()
            with exchange:
                result = await bound(exchange.operation, exchange.params)
            guarded(exchange.returned)
            return result

        return make_api_call_async

    def _attempt(self, original: Any) -> Any:
        if not inspect.iscoroutinefunction(inspect.unwrap(original)):

            @wraps(original)
            def get_response(endpoint: Any, request: Any, operation_model: Any, context: Any) -> Any:
                bound = original.__get__(endpoint, type(endpoint))
                exchange = guarded(_sending, operation_model)
                if exchange is None:
                    return bound(request, operation_model, context)
                guarded(exchange.begin)
                answer = bound(request, operation_model, context)
                guarded(exchange.answered, answer)
                return answer

            return get_response

        @wraps(original)
        async def get_response_async(endpoint: Any, request: Any, operation_model: Any, context: Any) -> Any:
            bound = original.__get__(endpoint, type(endpoint))
            exchange = guarded(_sending, operation_model)
            if exchange is None:
                return await bound(request, operation_model, context)
            guarded(exchange.begin)
            answer = await bound(request, operation_model, context)
            guarded(exchange.answered, answer)
            return answer

        return get_response_async


def _exchange(client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Exchange | None:
    """What the client is about to do, when it is a call that is metered."""
    service: str = client.meta.service_model.service_name
    operations = SERVICES.get(service)
    if operations is None:
        return None
    operation = args[0] if args else kwargs["operation_name"]
    if operation not in operations:
        return None
    from genai_meter.clients.botocore_calls import prepare

    return prepare(client, operation, args[1] if len(args) > 1 else kwargs["api_params"])


def _sending(operation_model: Any) -> Exchange | None:
    """The call that this HTTP exchange belongs to; the client's own errands (credentials) are no part of it."""
    exchange = current.get()
    return exchange if exchange is not None and exchange.operation == operation_model.name else None


def _gives_raw(original: Any) -> Any:
    """A way to the raw stream of a body: the caller gets the one that was there before ours."""
    if isinstance(original, property):
        getter: Any = original.fget
        return property(lambda body: _unwrapped(getter(body)), original.fset, original.fdel, original.__doc__)

    @wraps(original)
    def enter(body: Any) -> Any:
        return _unwrapped(original(body))

    return enter


def _unwrapped(raw: Any) -> Any:
    kind = cast(type[Any], type(raw))
    return raw.__wrapped__ if getattr(kind, "genai_meter_proxy", False) else raw
