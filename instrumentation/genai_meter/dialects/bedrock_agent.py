"""Bedrock agents: one call, many models. What each used is in the trace, when the caller asks for one."""

from __future__ import annotations

from collections.abc import Mapping

from genai_meter.dialects.base import Dialect, Json, Reading, RequestView, fields
from genai_meter.dialects.bedrock_converse import tally
from genai_meter.dialects.requests import chars, text
from genai_meter.usage import Usage


class BedrockAgent(Dialect):
    """InvokeAgent and InvokeInlineAgent. Without `enableTrace` no usage is told."""

    name = "bedrock_agent"
    operation = "invoke_agent"
    id_family = "bedrock.agent"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        view = RequestView(model=text(body, "foundationModel"), message_count=1)
        view.conversation_id = text(body, "sessionId")
        view.chars_by_role["user"] = chars(body.get("inputText"), 1)
        return view

    def response(self, reading: Reading, payload: Json) -> None:
        """The result itself tells nothing: its stream does."""

    def chunk(self, reading: Reading, event: Json) -> None:
        told = fields(event)
        for step in fields(fields(told.get("trace")).get("trace")).values():
            _step(reading, fields(step))
        said = fields(told.get("chunk")).get("bytes")
        if isinstance(said, bytes):
            reading.output_chars += len(said)

    def billed(self, reading: Reading) -> list[Usage]:
        found: dict[str, Usage] = {}
        for model, usage in reading.scratch.get("invocations", ()):
            part = tally(fields(usage))
            if part is None:
                continue
            same = found.setdefault(model, Usage({}, None if model == reading.model else model or None))
            for bucket, amount in part.buckets.items():
                same.buckets[bucket] = same.buckets.get(bucket, 0) + amount
        return list(found.values())

    def apply(
        self, body: Mapping[str, Json], *, model: str | None = None, max_tokens: int | None = None
    ) -> dict[str, Json]:
        del max_tokens  # an agent's calls are its own
        return {**body, "foundationModel": model} if model is not None and "foundationModel" in body else dict(body)


def _step(reading: Reading, step: Mapping[str, Json]) -> None:
    """Note the model of an invocation when it begins, its usage when it is over."""
    asked = fields(step.get("modelInvocationInput"))
    model = text(asked, "foundationModel")
    if model is not None:
        reading.model = model.rpartition("/")[2]
        reading.scratch.setdefault("models", {})[asked.get("traceId")] = reading.model
    answered = fields(step.get("modelInvocationOutput"))
    usage = fields(answered.get("metadata")).get("usage")
    if usage is not None:
        by_trace = reading.scratch.get("models", {})
        served = by_trace.get(answered.get("traceId"), reading.model or "")
        reading.scratch.setdefault("invocations", []).append((served, usage))
        reading.fidelity = "final"
