"""Tokens of prompts by tiktoken: where it is installed, asked for, and has its encoding on this disk already.

tiktoken downloads an encoding it does not have. Nothing is downloaded here: the file must be in its cache, with the
content that is expected, before it is asked. It is loaded by a thread; until then, and for every other model, the
estimate is made from characters.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from genai_meter.dialects.base import Json, fields
from genai_meter.safety import guarded

_HOME: Final = "https://openaipublic.blob.core.windows.net/encodings/"
_FILES: Final = {
    "o200k_base": ("o200k_base", "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"),
    "o200k_harmony": ("o200k_base", "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"),
    "cl100k_base": ("cl100k_base", "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"),
}
"""Encoding → its file and the file's SHA-256."""

_PARTS: Final = ("instructions", "system", "messages", "input", "prompt")
_INSIDE: Final = ("text", "content", "output", "arguments")
_LONGEST: Final = 100_000
"""Characters of a prompt; a longer one would hold up the caller."""
_DEPTH: Final = 5
_MAX_MODELS: Final = 256

_encodings: dict[str, Any] = {}
"""Model → its encoding; None while it is loaded, and where there is none."""


def count(model: str | None, body: Mapping[str, Json]) -> int | None:
    """Tokens of all texts of a request; None when tiktoken cannot tell."""
    if model is None:
        return None
    if model not in _encodings:
        _start(model)
    encoding = _encodings.get(model)
    if encoding is None:
        return None
    texts = [text for part in _PARTS if part in body for text in _texts(body[part], _DEPTH)]
    if sum(map(len, texts)) > _LONGEST:
        return None
    return _tokens(encoding, texts)


def _tokens(encoding: Any, texts: list[str]) -> int | None:
    try:
        return sum(len(encoding.encode_ordinary(text)) for text in texts)
    except BaseException as error:
        # A panic of its native half is no Exception, and nothing the caller's program asked for.
        if type(error).__name__ != "PanicException":
            raise
        return None


def _texts(value: Json, depth: int) -> Iterator[str]:
    if type(value) is str:
        yield value
    elif depth and value.__class__ is list:
        for part in value:
            yield from _texts(part, depth - 1)
    elif depth and not isinstance(value, int | float | None):
        told = fields(value)
        for name in _INSIDE:
            if name in told:
                yield from _texts(told[name], depth - 1)


def _start(model: str) -> None:
    if len(_encodings) < _MAX_MODELS:
        _encodings[model] = None
        threading.Thread(target=guarded, args=(load, model), name="genai_meter-tiktoken", daemon=True).start()


def load(model: str) -> None:
    """Have the encoding of a model ready, when that needs no download."""
    try:
        names = importlib.import_module("tiktoken.model")
        registry = importlib.import_module("tiktoken.registry")
    except ImportError:
        return
    try:
        name: str = names.encoding_name_for_model(model.rsplit("/", 1)[-1])
    except KeyError:
        return
    if name in registry.ENCODINGS or _on_disk(name):
        _encodings[model] = registry.get_encoding(name)


def _on_disk(encoding: str) -> bool:
    """The file is where tiktoken will look for it, and is what tiktoken expects."""
    import hashlib  # not before it is asked for: OpenSSL costs milliseconds of start-up
    import tempfile

    if encoding not in _FILES:
        return False
    name, digest = _FILES[encoding]
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    if folder is None:
        folder = str(Path(tempfile.gettempdir(), "data-gym-cache"))
    if not folder:
        return False
    file = Path(folder, hashlib.sha1(f"{_HOME}{name}.tiktoken".encode(), usedforsecurity=False).hexdigest())
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == digest


def _after_fork() -> None:
    """The thread that was loading is not here: what it had not finished is begun again."""
    for model in [model for model, encoding in _encodings.items() if encoding is None]:
        del _encodings[model]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
