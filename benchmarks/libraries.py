"""Each client library over a transport in the process: one chat, and one stream of it.

The stand-in provider answers, without its server: what it would send is made once for each request.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final

from benchmarks.frames import frames_of
from benchmarks.workers import Case, Run
from examples.provider.server import reply_to
from examples.provider.wire import Memory, Reply, Request

QUESTION: Final = "Which shelves are still empty, and where should the next delivery go?"
MESSAGES: Final[list[Any]] = [{"role": "user", "content": QUESTION}]
GPT: Final = "gpt-4.1-mini"
CLAUDE: Final = "claude-haiku-4-5"
ON_BEDROCK: Final = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
ASKING: Final = {"stream": True, "stream_options": {"include_usage": True}}
HOST: Final = "http://bench.test"
CHAT, STREAM = "chat", "chat stream"

Ask = Callable[[], Any]

_memory: Final = Memory()
_known: Final[dict[tuple[str, bytes], Reply]] = {}


def reply(path: str, body: bytes) -> Reply:
    """What the stand-in provider would answer; made once for each request."""
    known = _known.get((path, body))
    if known is None:
        request = Request("POST", path, {}, body, _memory)
        request.parse()
        found = reply_to(request)
        if found is None:
            raise LookupError(f"the stand-in provider has no {path}")
        known = _known[path, body] = found
    return known


def transport(http: ModuleType) -> Any:
    """A transport of `httpx` or `httpx2`, whichever the library is built on."""
    frames = frames_of(http)

    def handle(request: Any) -> Any:
        found = reply(request.url.path, request.content)
        headers = {"x-request-id": "req_bench", "content-type": found.content_type}
        if found.frames is None:
            return http.Response(200, headers=headers, content=found.content)
        if found.content_type == "application/json":
            headers["content-type"] = "text/event-stream; charset=utf-8"
        return http.Response(200, headers=headers, stream=frames(found.frames))

    return http.MockTransport(handle)


def http_of(*modules: str) -> ModuleType:
    """The HTTP library that the first of these modules that exists is built on."""
    for name in modules:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        found: ModuleType = getattr(module, "httpx2", None) or module.httpx
        return found
    raise ImportError(modules[0])


def client_of(http: ModuleType) -> Any:
    """An HTTP client over the transport."""
    return http.Client(transport=transport(http))


def _cases(chat: Ask, stream: Ask) -> list[Case]:
    def once(calls: int) -> None:
        for _ in range(calls):
            chat()

    def streamed(calls: int) -> None:
        for _ in range(calls):
            for _part in stream():
                pass

    runs: tuple[tuple[str, Run, int], ...] = ((CHAT, once, 30), (STREAM, streamed, 10))
    return [Case(*told) for told in runs]


def _stainless(name: str, kind: str, model: str, path: str = "", **asking: Any) -> list[Case]:
    """A library of the family of `openai`."""
    library = importlib.import_module(name)
    http = http_of(f"{name}._base_client")
    client = getattr(library, kind)(api_key="any", base_url=HOST + path, http_client=client_of(http))
    create = client.chat.completions.create
    return _cases(
        lambda: create(model=model, messages=MESSAGES, max_tokens=100),
        lambda: create(model=model, messages=MESSAGES, **(asking or {"stream": True})),
    )


def openai() -> list[Case]:
    return _stainless("openai", "OpenAI", GPT, "/v1", **ASKING)


def groq() -> list[Case]:
    return _stainless("groq", "Groq", "llama-3.3-70b-versatile", stream=True, extra_body=_asked())


def together() -> list[Case]:
    return _stainless("together", "Together", "meta-llama/Llama-3-70b", stream=True, extra_body=_asked())


def _asked() -> dict[str, Any]:
    return {"stream_options": ASKING["stream_options"]}


def anthropic() -> list[Case]:
    library = importlib.import_module("anthropic")
    http = http_of("anthropic._base_client")
    create = library.Anthropic(api_key="any", base_url=HOST, http_client=client_of(http)).messages.create
    return _cases(
        lambda: create(model=CLAUDE, messages=MESSAGES, max_tokens=100),
        lambda: create(model=CLAUDE, messages=MESSAGES, max_tokens=100, stream=True),
    )


def google_genai() -> list[Case]:
    library = importlib.import_module("google.genai")
    http = http_of("google.genai._api_client")
    types = importlib.import_module("google.genai.types")
    options = types.HttpOptions(base_url=HOST, client_args={"transport": transport(http)})
    client = library.Client(api_key="any", http_options=options)
    asked: dict[str, Any] = {"model": "gemini-2.5-flash", "contents": QUESTION}
    # The client closes its connections when it is dropped.
    return _cases(
        lambda: client.models.generate_content(**asked),
        lambda: client.models.generate_content_stream(**asked),
    )


class _Raw(io.BytesIO):
    """The body of an answer as `urllib3` gives it to botocore; of a stream, frame by frame."""

    def __init__(self, found: Reply) -> None:
        super().__init__(found.content)
        self._frames = [found.content] if found.frames is None else found.frames

    def stream(self, *_amount: Any, **_options: Any) -> Iterator[bytes]:
        """The parts."""
        return iter(self._frames)


def botocore() -> list[Case]:
    response = importlib.import_module("botocore.awsrequest").AWSResponse
    # Others see clients that are made by boto3 or botocore alike.
    client: Any = importlib.import_module("boto3").client(
        service_name="bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=HOST,
        aws_access_key_id="AKIANONE",
        aws_secret_access_key="none",
    )

    def send(request: Any, **_: Any) -> Any:
        path = request.url.removeprefix(HOST)
        found = reply(path, request.body)
        headers = {"content-type": found.content_type, "x-amzn-requestid": "bench", **found.headers}
        if found.frames is None:
            headers["content-length"] = str(len(found.content))
        return response(request.url, 200, headers, _Raw(found))

    client.meta.events.register("before-send.*", send)
    asked: dict[str, Any] = {
        "modelId": ON_BEDROCK,
        "messages": [{"role": "user", "content": [{"text": QUESTION}]}],
        "inferenceConfig": {"maxTokens": 100},
    }
    return _cases(lambda: client.converse(**asked), lambda: client.converse_stream(**asked)["stream"])


def mistralai() -> list[Case]:
    http = http_of("mistralai.client.basesdk", "mistralai.basesdk")
    try:
        sdk = importlib.import_module("mistralai.client.sdk")
    except ImportError:
        sdk = importlib.import_module("mistralai.sdk")
    client = sdk.Mistral(api_key="any", server_url=f"{HOST}/mistral", client=client_of(http))
    asked: dict[str, Any] = {"model": "mistral-large-latest", "messages": MESSAGES}
    return _cases(lambda: client.chat.complete(**asked), lambda: client.chat.stream(**asked))


def cohere() -> list[Case]:
    library = importlib.import_module("cohere")
    http = importlib.import_module("httpx")
    client = library.ClientV2(api_key="any", base_url=f"{HOST}/cohere", httpx_client=client_of(http))
    asked: dict[str, Any] = {"model": "command-a-03-2025", "messages": MESSAGES}
    return _cases(lambda: client.chat(**asked), lambda: client.chat_stream(**asked))


def ollama() -> list[Case]:
    library = importlib.import_module("ollama")
    client = library.Client(host=f"{HOST}:11434", transport=transport(http_of("ollama._client")))
    asked: dict[str, Any] = {"model": "llama3.2", "messages": MESSAGES}
    return _cases(lambda: client.chat(**asked), lambda: client.chat(**asked, stream=True))


def huggingface_hub() -> list[Case]:
    library = importlib.import_module("huggingface_hub")
    http = http_of("huggingface_hub.utils._http")
    library.set_client_factory(lambda: client_of(http))
    client = library.InferenceClient(base_url=f"{HOST}/v1", api_key="hf_none")
    asked: dict[str, Any] = {"model": GPT, "messages": MESSAGES}
    return _cases(lambda: client.chat_completion(**asked), lambda: client.chat_completion(**asked, **ASKING))


def litellm() -> list[Case]:
    library = importlib.import_module("litellm")
    handler = importlib.import_module("litellm.llms.custom_httpx.http_handler").HTTPHandler
    client = handler(client=client_of(importlib.import_module("httpx")))
    asked: dict[str, Any] = {
        "model": f"anthropic/{CLAUDE}",
        "messages": MESSAGES,
        "api_base": HOST,
        "api_key": "any",
        "client": client,
        "max_tokens": 100,
    }
    return _cases(lambda: library.completion(**asked), lambda: library.completion(**asked, stream=True))
