"""Files of a spool directory: one record a line behind its checksum; a lock says that its writer lives.

A file is written by one process, which holds its lock as long as it appends. When the lock can be
taken, the writer has finished or died, and whoever takes it may ship the file and remove it.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import time
import zlib
from collections.abc import Callable, Generator, Mapping
from typing import Any, Final, NamedTuple

_fcntl: Any = None
with contextlib.suppress(ImportError):  # not on Windows
    import fcntl

    _fcntl = fcntl

EVENTS: Final = ".events"
NEW: Final = ".new"
"""Not yet begun: nobody reads it."""
REFUSED: Final = ".refused"
"""Events that the receiver called unreadable; kept, not sent again by themselves."""

SEGMENT_BYTES: Final = 1024 * 1024
"""When a file has reached this size, the next one is begun."""
_TROUBLE: Final = "trouble"
"""Why the last delivery failed, in words; gone after one that did not."""
_STALE_SECONDS: Final = 60
_EVENT_LENGTH: Final = 7
"""Of the list that is an event, see `Contents`."""

VERSION: Final = 1


class SpoolError(Exception):
    """There can be no spool; the text says why and what to do."""


_open: set[int] = set()
"""Descriptors of this process. A forked child closes them: a lock lasts until its last copy is closed."""


def _close(descriptor: int) -> None:
    if descriptor in _open:
        _open.discard(descriptor)
        os.close(descriptor)


def after_fork() -> None:
    """In the child: let go of what the parent has open, which keeps its locks."""
    for descriptor in tuple(_open):
        with contextlib.suppress(OSError):
            _close(descriptor)
    _open.clear()


def _lock(descriptor: int) -> bool:
    """Take the lock without waiting; False when another process (or descriptor) has it."""
    try:
        _fcntl.flock(descriptor, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def prepare(directory: str) -> None:
    """Make the directory, and prove that its files can be written and locked; raises `SpoolError`."""
    if _fcntl is None:
        raise SpoolError("a spool needs the file locks of POSIX (fcntl.flock), which this system does not have")
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        descriptors = [os.open(directory, os.O_RDONLY) for _ in range(2)]
    except OSError as error:
        raise SpoolError(f"{directory} cannot be used: {error.strerror}") from None
    try:
        if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
            raise SpoolError(f"{directory} cannot be used: this process may not write there")
        # Whoever else looks at this very moment proves by its lock that locks work.
        if _lock(descriptors[0]) and _lock(descriptors[1]):
            raise SpoolError(f"{directory} lies on a file system whose locks do not lock: choose a local one")
    except OSError as error:
        raise SpoolError(f"{directory} cannot be locked ({error.strerror}): choose a local file system") from None
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


# --- records ----------------------------------------------------------------------------------------
encode: Final = json.JSONEncoder(separators=(",", ":"), default=str).encode
"""Compact JSON in ASCII: what a line holds."""


def frame(data: bytes) -> bytes:
    """One line: the checksum in eight hex digits, and JSON, which has no line break."""
    return b"%08x %b\n" % (zlib.crc32(data), data)


def _unframed(line: bytes) -> Any:
    """What a line holds; None when it is damaged."""
    data = line[9:]
    try:
        return json.loads(data) if int(line[:8], 16) == zlib.crc32(data) else None
    except ValueError:
        return None


class Head(NamedTuple):
    """First line of a file: who wrote it."""

    resource: Mapping[str, Any]
    """Attributes of the OpenTelemetry resource."""
    scope: str
    scope_version: str

    def text(self) -> bytes:
        """As it is written."""
        return encode({"version": VERSION, **self._asdict()}).encode()


class Contents(NamedTuple):
    """What a file holds."""

    head: Head | None
    """None when its line is damaged."""
    events: list[Any]
    """`[name, time, observed time, trace id, span id, trace flags, attributes]`."""
    damaged: int
    """Lines that do not have their checksum, but for a last one that was cut short: its call never returned."""


FEW: Final = 8
"""Lines after which whoever reads or sends in the background gives way to others."""


def parse(data: bytes, breathe: Callable[[], None] = lambda: None) -> Contents:
    """Read the bytes of a file."""
    *lines, _torn = data.split(b"\n")
    head: Head | None = None
    events: list[Any] = []
    damaged = 0
    for number, line in enumerate(lines):
        if number % FEW == 0:
            breathe()
        told = _unframed(line)
        if number == 0:
            head = _head(told)
            damaged += head is None
        elif _is_event(told):
            events.append(told)
        else:
            damaged += 1
    return Contents(head, events, damaged)


def _is_event(told: Any) -> bool:
    try:
        return len(told) == _EVENT_LENGTH and type(told[-1]) is dict
    except (TypeError, KeyError):
        return False


def _head(told: Any) -> Head | None:
    try:
        return Head(told["resource"], told["scope"], told["scope_version"])
    except (TypeError, KeyError):
        return None


# --- the file of a writer ---------------------------------------------------------------------------
_number: Final = itertools.count(1)


class Segment:
    """A file that this process appends to."""

    def __init__(self, directory: str, head: Head, writer: str) -> None:
        """Begin it, the writer's name in its own. Raises OSError when the disk does not take it."""
        stem = f"{time.time_ns() // 1_000_000:013d}-{writer}-{next(_number)}"
        self.path = os.path.join(directory, stem + EVENTS)
        self.size = 0
        self.events = 0
        new = os.path.join(directory, stem + NEW)
        self._descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        _open.add(self._descriptor)
        try:
            if not _lock(self._descriptor):
                raise OSError(errno.EWOULDBLOCK, "another process has locked a file that is new")
            self._write(frame(head.text()))
            # Only now others may see it: whoever finds it unlocked may remove it.
            os.rename(new, self.path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(new)
            _close(self._descriptor)
            raise

    def append(self, data: bytes) -> int:
        """Add one record, whole or not at all; its bytes. Raises OSError."""
        size = self._write(frame(data))
        self.events += 1
        return size

    def _write(self, line: bytes) -> int:
        written = os.write(self._descriptor, line)
        if written != len(line):
            os.ftruncate(self._descriptor, self.size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.size += written
        return written

    def close(self) -> int:
        """Leave it to whoever ships; an empty one goes. How many of its events are lost."""
        # Whoever comes back from a finalizer with a closed file must not write into another one.
        descriptor, self._descriptor = self._descriptor, -1
        try:
            if not self.events:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.path)
            elif os.fstat(descriptor).st_nlink == 0:
                # Somebody has removed it under us; what was written is there as long as it is open.
                os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
                _put(self.path, os.pread(descriptor, self.size, 0))
        except OSError:
            return self.events
        finally:
            _close(descriptor)
        return 0


# --- files of others --------------------------------------------------------------------------------
def names(directory: str, suffix: str = EVENTS, writer: str = "") -> list[str]:
    """Files of a directory, of one writer or of all, oldest first."""
    return sorted(name for name in os.listdir(directory) if name.endswith(suffix) and writer in name)


def new_writer() -> str:
    """A name for one writer, unlike all others."""
    return f"{os.getpid()}-{os.urandom(4).hex()}"


def total(directory: str) -> int:
    """Bytes that the spool occupies, whoever wrote them."""
    size = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.endswith((EVENTS, REFUSED)):
                with contextlib.suppress(FileNotFoundError):
                    size += entry.stat().st_size
    return size


@contextlib.contextmanager
def adopted(path: str) -> Generator[bytes | None]:
    """The bytes of a file whose writer is through, for this process alone; None when it is in other hands."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, PermissionError):
        yield None
        return
    _open.add(descriptor)
    try:
        # Shipped and removed between our look and our lock, it has no name any more.
        if not _lock(descriptor) or os.fstat(descriptor).st_nlink == 0:
            yield None
            return
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read()
        yield data
    finally:
        _close(descriptor)


def set_aside(path: str, head: Head | None, events: list[Any]) -> None:
    """Keep events that the receiver cannot read, beside the file they came from."""
    stem = path.removesuffix(EVENTS).removesuffix(REFUSED)
    lines = [(head or Head({}, "", "")).text(), *(encode(event).encode() for event in events)]
    _put(stem + REFUSED, b"".join(map(frame, lines)))


def _put(path: str, data: bytes) -> None:
    """Write a file that nobody sees before it is whole."""
    new = os.path.splitext(path)[0] + NEW
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
    os.rename(new, path)


def sweep(directory: str) -> None:
    """Remove files whose writer died before it could begin them."""
    for name in names(directory, NEW):
        path = os.path.join(directory, name)
        with contextlib.suppress(OSError):
            if time.time() - os.stat(path).st_mtime > _STALE_SECONDS:
                os.unlink(path)


# --- trouble ----------------------------------------------------------------------------------------
def note(directory: str, trouble: str | None) -> None:
    """Leave word for whoever looks at the directory why it is not shipped; None: it is. Never raises."""
    path = os.path.join(directory, _TROUBLE)
    with contextlib.suppress(OSError):
        if trouble is None:
            os.unlink(path)
            return
        descriptor = os.open(path + NEW, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(trouble)
        os.replace(path + NEW, path)


def noted(directory: str) -> tuple[float, str] | None:
    """When the last delivery failed (Unix seconds), and why."""
    path = os.path.join(directory, _TROUBLE)
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return os.fstat(file.fileno()).st_mtime, file.read()
    return None
