"""A stand-in provider on loopback that speaks the OpenAI and Anthropic wire formats.

It answers every model name with canned text and counts tokens by a rule that can be checked by hand:
a prompt has one token for every four characters, an answer one token for every word. See `wire.py`.

    from examples.provider import Provider

    with Provider() as p:
        OpenAI(base_url=p.url + "/v1", api_key="any")
        Anthropic(base_url=p.url, api_key="any")
        p.served        # what was answered, with the usage that was reported

The request header `x-scenario` asks for trouble:

    500x2                   that status for the first two attempts of a call, then an answer (any status, any count)
    429, 400, 503 ...       that status for every attempt
    die                     the connection is closed in the middle of the answer
    die_before              the connection is closed before any answer
    error_event             an error event in the middle of a stream that began with status 200
    gzip                    a stream that is compressed
    slow, slow:0.5          a pause before each chunk (seconds; 0.05 when not given)
    no_id, same_id          answers without an id, or all with one id
    no_usage                answers that do not tell their usage
    done_with_last          the end of a chat stream comes in one piece with its last chunk
    reject_stream_options   400 for a request that has `stream_options`, as older servers answer
"""

from __future__ import annotations

from .server import Attempt, Provider
from .wire import Served

__all__ = ["Attempt", "Provider", "Served"]
