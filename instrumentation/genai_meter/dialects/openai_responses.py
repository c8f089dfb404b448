"""The Responses API, of OpenAI and of compatible providers (Azure, xAI, DeepSeek, Bedrock …)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from genai_meter.dialects import openai_usage
from genai_meter.dialects.base import Dialect, Json, Reading, RequestView, fields, read
from genai_meter.dialects.buckets import NONE, Tally, count
from genai_meter.dialects.openai_chat import note_error, parameters
from genai_meter.dialects.requests import (
    TEXT,
    WHOLE,
    Parameters,
    bound,
    by_role,
    for_model,
    items,
    read_parameters,
    text,
)
from genai_meter.usage import Usage

_END: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
_HEAD: Final = frozenset({"response.created", "response.in_progress", "response.queued"})
_PARAMETERS: Final[Parameters] = {
    "max_output_tokens": ("max_tokens", WHOLE),
    "previous_response_id": ("previous_response_id", TEXT),
    "background": ("background", (bool,)),
}
IMAGE_MODEL: Final = "image_generation"
"""Stands for the model of the image tool when nobody says which it is: it has no price."""
_PAGE_ACTIONS: Final = frozenset({"open_page", "find_in_page", "find"})
"""Actions of a web search call that open a page: no search, no fee."""


class OpenAIResponses(Dialect):
    """`POST /responses`."""

    name = "openai_responses"
    operation = "chat"
    id_family = "openai.response"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        view = parameters(body)
        read_parameters(view, body, _PARAMETERS)
        if "reasoning" in body:
            view.reasoning_level = text(fields(body["reasoning"]), "effort")
        if "conversation" in body:
            conversation = body["conversation"]
            view.conversation_id = conversation if type(conversation) is str else text(fields(conversation), "id")
        if "text" in body:
            wanted = text(fields(fields(body["text"]).get("format")), "type")
            view.output_type = "json" if wanted in ("json_object", "json_schema") else "text" if wanted else None
        instructions, given = body.get("instructions"), body.get("input")
        sizes = view.chars_by_role
        if type(instructions) is str:
            sizes["system"] = len(instructions)
        if type(given) is str:
            sizes["user"] = len(given)
            view.message_count = 1
        elif given is not None:
            several = items(body, "input") or []
            view.message_count = len(several)
            _items(several, sizes)
        return view

    def response(self, reading: Reading, payload: Json) -> None:
        answer = fields(payload)
        _head(reading, answer)
        usage = answer.get("usage")
        if usage is not None:
            reading.usage = usage
            reading.fidelity = "final"
            openai_usage.evidence(reading, usage)
        status = answer.get("status")
        if type(status) is str:
            reason = read(answer.get("incomplete_details"), "reason") if status == "incomplete" else None
            reading.finish_reasons = [reason if type(reason) is str else status]
        if answer.get("error") is not None:
            note_error(reading, answer)
        output = items(answer, "output")
        if output:
            _output(reading, output)
        hosted = answer.get("tool_usage")
        if hosted is not None or "images" in reading.scratch:
            _hosted(reading, fields(hosted), answer)
        reading.terminal = status not in ("queued", "in_progress")

    def chunk(self, reading: Reading, event: Json) -> None:
        told = event if event.__class__ is dict else event.__dict__
        kind = told.get("type")
        delta = told.get("delta")
        if type(delta) is str:
            reading.output_chars += len(delta)
        elif kind in _END:
            reading.output_chars, seen = 0, reading.output_chars
            self.response(reading, told.get("response"))
            reading.output_chars = max(seen, reading.output_chars)
            reading.terminal = True
        elif kind in _HEAD:
            _head(reading, fields(told.get("response")))
        elif kind == "error":
            code = told.get("code")
            reading.error_type = code[:64] if type(code) is str and code else "_OTHER"

    def billed(self, reading: Reading) -> list[Usage]:
        result = openai_usage.tally(reading.usage) if reading.usage is not None else None
        if result is None:
            return []
        tools = {**dict(openai_usage.hosted_tools(reading.usage)), **reading.scratch.get("tools", NONE)}
        for bucket, amount in tools.items():
            result.add(bucket, amount)
        return [result.usage(), *reading.scratch.get("beside", NONE)]

    def apply(
        self, body: Mapping[str, Json], *, model: str | None = None, max_tokens: int | None = None
    ) -> dict[str, Json]:
        changed = for_model(body, model)
        if max_tokens is not None:
            bound(changed, "max_output_tokens", max_tokens)
        return changed


class OpenAIBackground(OpenAIResponses):
    """The same of a response that works in the background: it also tells when it was made and was over."""

    def response(self, reading: Reading, payload: Json) -> None:
        super().response(reading, payload)
        _times(reading, fields(payload))

    def chunk(self, reading: Reading, event: Json) -> None:
        super().chunk(reading, event)
        if read(event, "type") in _HEAD:
            _times(reading, fields(read(event, "response")))


def _times(reading: Reading, answer: Mapping[str, Json]) -> None:
    for name in ("background", "created_at", "completed_at"):
        value = answer.get(name)
        if value is not None:
            reading.scratch[name] = value


def _head(reading: Reading, answer: Mapping[str, Json]) -> None:
    if not reading.response_id:
        reading.response_id = text(answer, "id") or None
    model = answer.get("model")
    if type(model) is str and model:
        reading.model = model
    openai_usage.served_tier(reading, answer.get("service_tier"))


def _items(given: list[Json], sizes: dict[str, int]) -> None:
    """Sizes of the input items: messages by role, output of tools as `tool`, the model's own as `assistant`."""
    for item in given:
        told = fields(item)
        if "role" in told:
            by_role((told,), sizes)
            continue
        output = told.get("output")
        role = "tool" if output is not None else "assistant"
        said = output if output is not None else told.get("arguments", told.get("summary"))
        length = len(said) if type(said) is str else 0
        if said.__class__ is list:
            length = sum(len(t) for part in said if type(t := fields(part).get("text")) is str)
        sizes[role] = sizes.get(role, 0) + length


def _output(reading: Reading, output: list[Json]) -> None:
    """Generated text, tool calls and the built-in tools that are billed by the call."""
    tools: dict[str, int] = {}
    containers: set[str] = set()
    for item in output:
        told = fields(item)
        kind = told.get("type")
        if kind == "message":
            for part in told.get("content") or ():
                said = fields(part).get("text")
                reading.output_chars += len(said) if type(said) is str else 0
        elif kind in ("function_call", "custom_tool_call", "mcp_call"):
            reading.tool_call_count += 1
            said = told.get("arguments") or told.get("input")
            reading.output_chars += len(said) if type(said) is str else 0
        elif kind == "web_search_call":
            if fields(told.get("action")).get("type") not in _PAGE_ACTIONS:
                tools["web_search"] = tools.get("web_search", 0) + 1
        elif kind == "file_search_call":
            tools["file_search"] = tools.get("file_search", 0) + 1
        elif kind == "code_interpreter_call":
            # A session of the container is billed, not the calls in it.
            containers.add(str(told.get("container_id")))
        elif kind == "shell_call" and (container := read(told.get("environment"), "container_id")):
            containers.add(str(container))
        elif kind == "image_generation_call":
            reading.scratch["images"] = reading.scratch.get("images", 0) + 1
            if told.get("svg_usage") is not None:
                # Vector graphics are written by another model, whose usage is told with each.
                _beside(reading, openai_usage.tally(told["svg_usage"]), text(fields(told["svg_usage"]), "model"))
    if containers:
        tools["code_exec"] = len(containers)
    if tools:
        reading.scratch["tools"] = tools


def _hosted(reading: Reading, told: Mapping[str, Json], answer: Mapping[str, Json]) -> None:
    """What the tools of the provider have used beside the model: searches as billed, images by a model of its own."""
    searches = fields(told.get("web_search")).get("num_requests")
    if searches is not None:
        tools = {**reading.scratch.get("tools", NONE), "web_search": count(searches)}
        reading.scratch["tools"] = tools
    drawing = told.get("image_gen")
    images = reading.scratch.pop("images", 0)
    result = openai_usage.image_tally(drawing) if drawing is not None else None
    if result is None or not result.buckets:
        if not images:
            return
        # An older API tells how many, and not what they used.
        result = Tally()
        result.add("images", images)
    asked = (fields(tool) for tool in items(answer, "tools") or ())
    model = next((text(tool, "model") for tool in asked if tool.get("type") == "image_generation"), None)
    _beside(reading, result, model)


def _beside(reading: Reading, result: Tally | None, model: str | None) -> None:
    """Keep what another model than the answer's has used."""
    if result is not None:
        reading.scratch.setdefault("beside", []).append(result.usage(model or IMAGE_MODEL))
