"""What the tests of access share: files of tokens, requests with a token, certificates."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from exporter_kit import Answer, fetch
from genai_meter_exporter.access import tokens
from genai_meter_exporter.access.tokens import Scope

CREATED = datetime(2026, 11, 22, 9, tzinfo=UTC)


def make_token(
    path: Path, *scopes: Scope, tenants: Sequence[str] | None = None, name: str = "somebody", over: bool = False
) -> str:
    """A new token in the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    expires = CREATED - timedelta(days=1) if over else None
    _, token = tokens.create(path, name=name, scopes=scopes, tenants=tenants, created=CREATED, expires=expires)
    return token


def bearer(token: str | None) -> Mapping[str, str]:
    """The header of a request."""
    return {} if token is None else {"authorization": f"Bearer {token}"}


def get(url: str, token: str | None = None) -> Answer:
    """Read from the API."""
    return fetch(url, None, bearer(token))


class Authority:
    """Certificates made by `openssl`."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.certificate, self._key = directory / f"{name}.pem", directory / f"{name}.key"
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-keyout", str(self._key), "-out", str(self.certificate)),
        )

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of somebody on this machine."""
        certificate, key = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        request, more = self._directory / f"{name}.csr", self._directory / f"{name}.ext"
        more.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n", encoding="utf-8")
        self._openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", str(key), "-out", str(request)),
        )
        self._openssl(
            *("x509", "-req", "-in", str(request), "-CA", str(self.certificate), "-CAkey", str(self._key)),
            *("-CAcreateserial", "-days", "2", "-extfile", str(more), "-out", str(certificate)),
        )
        key.chmod(0o600)
        return certificate, key

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)
