"""TLS of the listeners. Certificates that change on disk are used for the next connection."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any, Final

import grpc

from genai_meter_exporter.access.settings import Tls
from genai_meter_exporter.config import ConfigError

logger: Final = logging.getLogger("genai_meter_exporter")

_grpc: Any = grpc
"""The stubs do not know the credentials that change."""


class Certificates:
    """The files of the section `tls`, and what each kind of listener makes of them."""

    def __init__(self, settings: Tls, directory: Path) -> None:
        assert settings.certificate is not None
        assert settings.key is not None
        self._certificate = directory / settings.certificate
        self._key = directory / settings.key
        self._client_ca = directory / settings.client_ca if settings.client_ca else None
        self._seen = self._state()
        self._told = ""
        self.context = self._latest = self._context()
        """For HTTP; each connection is switched to what is the latest then."""
        self.context.sni_callback = self._switch

    def look(self) -> None:
        """Take files that have changed; those that cannot be used are named, and what is in use stays."""
        state = self._state()
        if state == self._seen:
            return
        try:
            # Whole: a certificate and another one's key would fail every handshake in between.
            self._latest = self._context()
        except ConfigError as error:
            if str(error) != self._told:
                logger.error("the certificates stay as they were: %s", error)
            self._told = str(error)
            return
        self._seen, self._told = state, ""
        logger.info("the certificates were read again")

    def _switch(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Called for each connection, also when the client names no server."""
        connection.context = self._latest

    def credentials(self) -> Any:
        """For gRPC, which asks for them at each connection."""
        return _grpc.dynamic_ssl_server_credentials(
            self._configuration(), self._fetch, require_client_authentication=self._client_ca is not None
        )

    def _fetch(self) -> Any:
        """Called by gRPC on threads of its own; None keeps what is in use."""
        try:
            return self._configuration()
        except OSError:
            return None

    def _configuration(self) -> Any:
        pair = self._key.read_bytes(), self._certificate.read_bytes()
        return _grpc.ssl_server_certificate_configuration(
            [pair], root_certificates=self._client_ca.read_bytes() if self._client_ca else None
        )

    def _context(self) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        made.set_alpn_protocols(["http/1.1"])
        try:
            # A callback, so that a key with a password is refused and not asked for on a terminal.
            made.load_cert_chain(self._certificate, self._key, password=_no_password)
            if self._client_ca is not None:
                made.load_verify_locations(self._client_ca)
                made.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            files = ", ".join(str(path) for path in (self._certificate, self._key, self._client_ca) if path)
            raise ConfigError(f"tls: {files}: {reason}") from None
        return made

    def _state(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(_stamp(path) for path in (self._certificate, self._key, self._client_ca) if path is not None)


def certificates(settings: Tls, directory: Path) -> Certificates | None:
    """Of the configuration; None without TLS. Raises `ConfigError`."""
    if settings.certificate is None and settings.key is None:
        if settings.client_ca is not None:
            raise ConfigError("tls.client_ca needs tls.certificate and tls.key")
        return None
    if settings.certificate is None or settings.key is None:
        raise ConfigError("tls.certificate and tls.key belong together; one is missing")
    return Certificates(settings, directory)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_ino


def _no_password() -> bytes:
    raise ValueError("the private key is encrypted; give one that is not, readable by this user only")
