"""The file of tokens: who may do what. Of a token itself only the SHA-256 is kept.

A token is 256 random bits, so that a plain hash is as good as a slow one; its id is no secret.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import tempfile
from collections.abc import Generator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias, get_args

from pydantic import AwareDatetime, Field, ValidationError, field_validator

from genai_meter_exporter.section import Section

Scope: TypeAlias = Literal["ingest", "read", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)

MAX_TENANTS: Final = 100
"""Tenants of one token: each is a report of its own."""

_PREFIX: Final = "gmt"
_ID: Final = r"[0-9a-f]{12}"
_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Tenants = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=MAX_TENANTS)]


class TokenError(Exception):
    """The file of tokens cannot be used; the message says which and why."""


class Grant(Section):
    """What one token allows."""

    id: Annotated[str, Field(pattern=f"^{_ID}$")]
    """Names the token in lists, logs and errors."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    """Who has it."""

    scopes: Annotated[list[Scope], Field(min_length=1)]
    """`ingest`: send; `read`: the API and `/metrics`; `admin`: both, and what concerns all tenants."""

    tenants: _Tenants | None = None
    """Only these tenants; None: all."""

    created: AwareDatetime
    expires: AwareDatetime | None = None
    sha256: _Digest
    """Of the token, in hex."""

    @field_validator("tenants")
    @classmethod
    def _once(cls, tenants: list[str] | None) -> list[str] | None:
        return sorted(set(tenants)) if tenants else tenants


class Tokens(Section):
    """The whole file."""

    version: Literal[1] = 1
    tokens: list[Grant] = Field(default_factory=list[Grant])


def read(path: Path) -> list[Grant]:
    """The tokens of a file; raises `TokenError`."""
    try:
        found = Tokens.model_validate_json(path.read_bytes()).tokens
    except OSError as error:
        raise TokenError(f"{path} cannot be read: {error.strerror}; make it with `genai-meter token create`") from None
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise TokenError(f"{path} is no file of tokens: {where or 'the file'}: {first['msg']}") from None
    ids = [grant.id for grant in found]
    if twice := next((one for one in ids if ids.count(one) > 1), None):
        raise TokenError(f"{path}: the token {twice} is there twice")
    return found


def create(
    path: Path,
    *,
    name: str,
    scopes: Sequence[Scope],
    tenants: Sequence[str] | None,
    created: datetime,
    expires: datetime | None,
) -> tuple[Grant, str]:
    """Add a token to the file, which is made when it is not there: what it allows, and the token itself."""
    with _changing(path):
        found = read(path) if path.exists() else []
        identifier = secrets.token_hex(6)
        token = f"{_PREFIX}_{identifier}_{secrets.token_urlsafe(32)}"
        try:
            grant = Grant(
                id=identifier,
                name=name,
                scopes=list(scopes),
                tenants=None if tenants is None else list(tenants),
                created=created,
                expires=expires,
                sha256=digest(token),
            )
        except ValidationError as error:
            first = error.errors()[0]
            raise TokenError(f"the token's {first['loc'][0]}: {first['msg']}; got {first['input']!r}") from None
        _write(path, [*found, grant])
    return grant, token


def revoke(path: Path, identifier: str) -> Grant:
    """Remove a token from the file; raises `TokenError` when it is not there."""
    with _changing(path):
        found = read(path)
        revoked = next((grant for grant in found if grant.id == identifier), None)
        if revoked is None:
            raise TokenError(f"{path} has no token {identifier}; `genai-meter token list` shows which there are")
        _write(path, [grant for grant in found if grant is not revoked])
    return revoked


def digest(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def id_of(token: str) -> str:
    """The id in a token; empty when it is none."""
    prefix, _, rest = token.partition("_")
    return rest.partition("_")[0] if prefix == _PREFIX else ""


@contextlib.contextmanager
def _changing(path: Path) -> Generator[None]:
    """Two commands at a time must not lose each other's change."""
    try:
        descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise TokenError(f"{path} cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, grants: Sequence[Grant]) -> None:
    """Whole or not at all, and for the owner's eyes only; a reader never sees half of it."""
    text = Tokens(tokens=list(grants)).model_dump_json(indent=2, exclude_none=True)
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            if path.exists():
                # Who may read it has been decided: an exporter under another user must still be able to.
                known = path.stat()
                os.chmod(temporary, known.st_mode & 0o777)
                with contextlib.suppress(PermissionError):
                    os.chown(temporary, known.st_uid, known.st_gid)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise TokenError(f"{path} cannot be written: {error.strerror}") from None
