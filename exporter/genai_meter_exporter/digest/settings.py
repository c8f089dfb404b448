"""The section `digest` of the configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from genai_meter_exporter.budgets.model import Identity, ZoneName, known_dimensions, unique
from genai_meter_exporter.section import Section

_AT: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


class Entry(Section):
    """One message, sent again and again."""

    name: Identity
    """Unique; lower case, digits, `.`, `_`, `-`. What was sent is remembered under it."""
    every: Literal["day", "week"]
    """`day`: about yesterday, against the same day a week before. `week`: on Monday, about the week, against the one \
before."""
    at: str = "08:00"
    """When, in the time zone of the section."""
    url: str | None = None
    """Where it is posted to."""
    url_file: str | None = None
    """A file with that address, when it is a secret; relative to the configuration. Read at each message."""
    format: Literal["slack", "json"] = "slack"
    """`slack`: the text only, as Slack and Mattermost take it. `json`: the text and all numbers."""
    where: dict[str, str] = Field(default_factory=dict[str, str])
    """Dimension of the roll-ups → the value; all must fit. Empty: everything."""
    top: PositiveInt = 5
    """Tenants, workflows and movers that are named."""

    @field_validator("at")
    @classmethod
    def _is_time(cls, value: str) -> str:
        if not _AT.fullmatch(value):
            raise ValueError('must be a time in quotes, like "08:00"')
        return value

    @field_validator("where")
    @classmethod
    def _is_scope(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        known_dimensions(value)
        return value

    @model_validator(mode="after")
    def _has_one_address(self) -> Entry:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("give one of url and url_file")
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise ValueError("url must begin with http:// or https://")
        return self


class Digest(Section):
    """Messages with numbers, by webhook."""

    timezone: ZoneName = "UTC"
    """IANA name: whose days and weeks they are about, and whose clock they are sent by."""
    entries: list[Entry] = Field(default_factory=list[Entry])
    """The messages (docs/budgets.md)."""

    @model_validator(mode="after")
    def _are_unique(self) -> Digest:
        unique("digests", (entry.name for entry in self.entries))
        return self
