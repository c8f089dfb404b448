"""Errors of the API as RFC 9457 tells them."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson

CONTENT_TYPE: Final = b"application/problem+json"


class Problem(Exception):
    """A request is answered with an error status."""

    def __init__(self, status: int, detail: str, *, parameter: str | None = None, retry: int = 0) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.parameter = parameter
        """The one that is wrong."""
        self.retry = retry
        """Seconds to wait before it is asked again."""

    @property
    def body(self) -> bytes:
        """`application/problem+json`."""
        told: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.parameter is not None:
            told["parameter"] = self.parameter
        return orjson.dumps(told)

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """Beside the content type."""
        headers: list[tuple[bytes, bytes]] = []
        if self.retry:
            headers.append((b"retry-after", str(self.retry).encode()))
        if self.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if self.status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        return headers
