"""`python -m examples.provider --port 8099`: the stand-in until it is interrupted."""

from __future__ import annotations

import argparse
import signal

from .server import Provider


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.provider", description="A stand-in provider on loopback.")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; a free one when not given")
    arguments = parser.parse_args()
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with Provider(arguments.port) as provider:
        print(f"OpenAI: {provider.url}/v1   Anthropic: {provider.url}", flush=True)
        signal.sigwait(signals)


if __name__ == "__main__":
    main()
