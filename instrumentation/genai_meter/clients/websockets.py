"""Sessions over websockets: one call for every answer and every transcription that tells its usage.

The messages of a session are looked at as the caller receives them, in whichever way; the few that matter
are parsed. Nothing is opened while an answer is on its way. One that was begun and never finished, because the
session was closed or dropped, is recorded as that: its usage is unknown, and the provider bills it.
"""

from __future__ import annotations

import json
import time
import weakref
from collections.abc import Mapping
from typing import Any, Final

from genai_meter import attribution, dialects, emit, identity
from genai_meter.call import Attempt, Call, Prepared, Target
from genai_meter.clients import lifecycle
from genai_meter.dialects.base import Dialect, Json, RequestView, fields
from genai_meter.safety import guarded

DELTA: Final = b'.delta"'
"""Nearly every message is a part of an answer; its type is among the first bytes."""
HEAD: Final = 256
MARKS: Final = (b'"usage"', b'"session.', b'"transcription_session.', b'"response.created"')
MOST_OPEN: Final = 64
"""Answers of one session that may be on their way at once."""
TRANSCRIBED: Final = "conversation.item.input_audio_transcription.completed"
SKUS: Final = {"-global-standard": "GlobalStandard", "-datazone-standard": "DataZoneStandard"}
"""What Azure's voice sessions add to the name of a model → how it is deployed."""
_RESPONSES_END: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})


class Session:
    """What is known of one session."""

    __slots__ = ("_attribution", "_begun", "_dialect", "_model", "_served", "_sku", "_target", "_transcriber")

    def __init__(self, target: Target, model: str | None, *, responses: bool) -> None:
        self._target = target
        self._model = model
        """Asked for."""
        self._served: str | None = None
        """As the session tells."""
        self._sku: str | None = None
        self._transcriber: str | None = None
        self._attribution: Mapping[str, str] = guarded(attribution.current) or {}
        self._begun: dict[str, int] = {}
        """Answers on their way → when they began, Unix ns."""
        self._dialect = dialects.by_name("openai_responses" if responses else "openai_realtime")
        """Of the answers."""

    def received(self, message: bytes | str) -> None:
        """Look at one message from the provider."""
        data = message.encode() if isinstance(message, str) else message
        if DELTA not in data[:HEAD] and any(mark in data for mark in MARKS):
            self._event(fields(json.loads(data)))

    def _event(self, told: Mapping[str, Json]) -> None:
        kind = told.get("type")
        if kind == "response.created":
            self._begin(fields(told.get("response")).get("id"))
        elif kind == "response.done":
            self._settle(dialects.by_name("openai_realtime"), told, fields(told.get("response")).get("id"))
        elif kind in _RESPONSES_END:
            self._settle(dialects.by_name("openai_responses"), told, fields(told.get("response")).get("id"))
        elif kind == TRANSCRIBED:
            self._settle(dialects.by_name("openai_transcriptions"), told, None)
        elif kind == "response.event":
            # The Live API hands on the events of a response that it ordered.
            self._event(fields(told.get("event")))
        elif type(kind) is str and kind.startswith(("session.", "transcription_session.")):
            self._configured(fields(told.get("session")))

    def _configured(self, session: Mapping[str, Json]) -> None:
        model = session.get("model")
        if type(model) is str and model:
            end = next((end for end in SKUS if model.endswith(end)), "")
            self._served, self._sku = model.removesuffix(end), SKUS.get(end)
        listening = fields(fields(session.get("audio")).get("input"))
        transcription = fields(listening.get("transcription") or session.get("input_audio_transcription"))
        transcriber = transcription.get("model")
        if type(transcriber) is str and transcriber:
            self._transcriber = transcriber

    def _begin(self, response_id: Json) -> None:
        if type(response_id) is str and len(self._begun) < MOST_OPEN:
            self._begun[response_id] = time.time_ns()

    def _settle(self, dialect: Dialect, told: Mapping[str, Json], response_id: Json) -> None:
        call = self._call(dialect, self._begun.pop(response_id, None) if type(response_id) is str else None)
        if dialect.operation == "transcription":
            dialect.response(call.reading, told)
        else:
            dialect.chunk(call.reading, told)
            call.reading.model = call.reading.model or self._served
            if self._sku:
                call.reading.context["sku"] = self._sku
        lifecycle.settle_read(call)

    def _call(self, dialect: Dialect, start_ns: int | None) -> Call:
        asked = self._transcriber if dialect.operation == "transcription" else self._model or self._served
        payer = {**self._attribution, **(guarded(attribution.current) or {})}
        request = RequestView(model=asked, stream=dialect.operation != "transcription")
        start_ns = start_ns or time.time_ns()
        call = Call(Prepared(self._target, dialect, request, payer, start_ns), identity.new_call_id(), start_ns)
        call.attempts.append(Attempt(start_ns))
        return call

    def abandon(self) -> None:
        """The connection is gone; what was on its way is billed, and nobody will tell how much."""
        while self._begun:
            response_id, start_ns = self._begun.popitem()
            call = self._call(self._dialect, start_ns)
            call.reading.response_id, call.reading.model = response_id, self._served
            lifecycle.settle(call, "abandoned", in_finalizer=True)


_sessions: Final[weakref.WeakKeyDictionary[Any, Session]] = weakref.WeakKeyDictionary()
"""Connection → its session."""


def opened(connection: Any, target: Target, model: str | None, *, responses: bool) -> None:
    """A session has begun."""
    session = Session(target, model, responses=responses)
    _sessions[connection] = session
    # Also at the end of the process.
    weakref.finalize(connection, guarded, session.abandon)
    emit.expect_drops()


def received(connection: Any, message: bytes | str) -> None:
    """The caller is about to be given a message."""
    session = _sessions.get(connection)
    if session is not None:
        session.received(message)
