"""Payloads guided by coverage of the parsers and normalisers. Run by `make fuzz` in an environment with atheris."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris  # pyright: ignore[reportMissingImports]

with atheris.instrument_imports(include=["genai_meter_exporter.receive", "genai_meter_exporter.normalise"]):  # pyright: ignore
    from fuzz_kit import Ledger, seeds

_CHOICES = (("logs", "protobuf"), ("logs", "json"), ("traces", "protobuf"), ("traces", "json"), ("metrics", "json"))


def main() -> None:
    """Fuzz until the runs are done; whatever is raised is a finding."""
    ledger = Ledger(Path(tempfile.mkdtemp()) / "ledger.db")

    def one(data: bytes) -> None:
        if data:
            signal, encoding = _CHOICES[data[0] % len(_CHOICES)]
            ledger.put(signal, encoding, data[1:])  # pyright: ignore[reportArgumentType]

    corpus = Path(sys.argv[-1])
    for number, (signal, encoding, body) in enumerate(seeds()):
        if (signal, encoding) in _CHOICES:
            (corpus / str(number)).write_bytes(bytes((_CHOICES.index((signal, encoding)),)) + body)
    atheris.Setup(sys.argv, one)  # pyright: ignore
    atheris.Fuzz()  # pyright: ignore


if __name__ == "__main__":
    main()
