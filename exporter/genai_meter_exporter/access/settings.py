"""The sections `tls` and `access` of the configuration."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt

from genai_meter_exporter.section import Section


class Tls(Section):
    """Encryption of all listeners. Files are relative to the configuration; changed ones are taken within seconds."""

    certificate: str | None = None
    """Certificate chain (PEM). With it and `tls.key`, all three listeners speak TLS and nothing else."""

    key: str | None = None
    """Private key (PEM) of the certificate, not encrypted; readable by the exporter's user only."""

    client_ca: str | None = None
    """Certificates (PEM) of the authorities of clients. With it, all listeners want a client certificate (mTLS)."""


class Access(Section):
    """Who may send and read."""

    tokens: str | None = None
    """File of tokens (`genai-meter token create`), relative to the configuration. With it, every request but \
`/healthz`, `/readyz` and the API's description needs one. Changes to the file hold within a second."""

    requests_per_second: PositiveFloat | None = None
    """Requests that one token (without tokens: one address) may make; beyond it, 429 with a time to wait."""

    burst: PositiveInt = Field(default=100)
    """Requests that may come at once before the rate counts."""
