"""Logs: JSON lines on stderr, or lines for people on a terminal; never on stdout.

structlog and the standard library's loggers go through the same steps, secrets are taken out
last, and the line is handed to the system only if that cannot wait: who reads our logs, or
has stopped reading them, changes nothing about trading.
"""

import json
import logging
import os
import select
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import structlog

from bot.domain.units import NS_PER_S
from bot.ops.redact import Redaction

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
# Libraries speak from here on at every level: below it some of them log each frame.
FOREIGN_LEVEL_MIN: Final = logging.WARNING
LINE_BYTES_MAX: Final = 65_536
CHUNK_BYTES: Final = 4_096  # a pipe that takes anything takes one page without waiting
HEAD: Final = ("timestamp", "level", "event")

# What could move a terminal's cursor or its title, or feign a line of ours.
CONTROL: Final = {n: f"\\x{n:02x}" for n in (*range(32), *range(127, 160)) if n not in (9, 10)}
CONTROL_AND_BREAKS: Final = {**CONTROL, 10: "\\n"}

Event = MutableMapping[str, Any]


def set_up(
    level: str = "info",
    *,
    now: Callable[[], int],
    stream: TextIO | None = None,
    console: bool | None = None,
) -> "Logs":
    """Send all logs from `level` up to `stream`, stderr by default.

    `now` gives ns since the epoch. `console` chooses lines for people, by default where the
    stream is a terminal. Raises ValueError for a level that is none.
    """
    threshold = LEVELS.get(level.lower())
    if threshold is None:
        raise ValueError(f"{level!r} is no log level: use one of {', '.join(LEVELS)}")
    if stream is None:
        stream = sys.stderr  # None itself in a process that was started without one
    if console is None:
        console = _is_terminal(stream)
    render = _render_console if console else _render_json
    sink = Sink(stream, lambda lines: render(_lost(now(), lines)))
    return Logs(threshold, Redaction(), sink, now, render)


class Logs:
    """The logs of this process, until `close`."""

    def __init__(
        self,
        threshold: int,
        redaction: Redaction,
        sink: "Sink",
        now: Callable[[], int],
        render: Callable[[Mapping[str, Any]], str],
    ) -> None:
        self._redaction = redaction
        self._sink = sink

        def head(_: object, method: str, event: Event) -> Event:
            return _with_head(now(), method, event)

        def finish(_: object, __: str, event: Event) -> str:
            return render(redaction.fields(event))

        self._before = structlog.get_config() if structlog.is_configured() else None
        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                head,
                structlog.processors.StackInfoRenderer(),
                structlog.processors.format_exc_info,
                finish,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(threshold),
            logger_factory=lambda *_: sink,
            cache_logger_on_first_use=False,
        )
        root = logging.getLogger()
        self._root_before = (root.handlers, root.level)
        root.handlers = [Bridge(structlog.get_logger())]
        root.setLevel(max(threshold, FOREIGN_LEVEL_MIN))
        logging.captureWarnings(True)

    def hide(self, secret: str) -> None:
        """Never log this value. Raises ValueError when it is too short to be a secret."""
        self._redaction.hide(secret)

    @property
    def lost(self) -> int:
        """Lines that nobody took."""
        return self._sink.lost

    def close(self) -> None:
        """Leave logging as it was found."""
        logging.captureWarnings(False)
        root = logging.getLogger()
        root.handlers, level = self._root_before
        root.setLevel(level)
        if self._before is None:
            structlog.reset_defaults()
        else:
            structlog.configure(**self._before)

    def __repr__(self) -> str:
        return f"<Logs lost={self.lost}>"


class Bridge(logging.Handler):
    """Hands the records of the standard library's loggers to structlog."""

    def __init__(self, logger: Any) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Log `record` under its nearest standard level, with the name of its logger."""
        try:
            text = record.getMessage()
        except (TypeError, ValueError, LookupError):  # a library's format and arguments differ
            text = f"{record.msg} {record.args}"
        fields: dict[str, object] = {"logger": record.name}
        if record.exc_info and record.exc_info[0] is not None:
            fields["exc_info"] = record.exc_info
        if record.stack_info:
            fields["stack"] = record.stack_info
        reached = [name for name, level in LEVELS.items() if level <= record.levelno]
        getattr(self._logger, reached[-1] if reached else "debug")(text, **fields)


class Sink:
    """Writes whole lines to a stream without ever waiting or raising.

    A line that cannot be written at once is counted in `lost`: the reader of a pipe is slow
    or gone, a terminal is stopped, the disk is full. `notice` makes the line that tells of
    them once there is room again.
    """

    def __init__(self, stream: TextIO | None, notice: Callable[[int], str]) -> None:
        self._stream = stream
        self._fd = _descriptor(stream)
        self._notice = notice
        self._lock = threading.Lock()
        self._torn = False  # the last line has no end
        self._unsaid = 0
        self.lost = 0

    def write(self, line: str) -> None:
        """Write one line."""
        with self._lock:
            if self._unsaid and self._put(self._notice(self._unsaid)):
                self._unsaid = 0
            if not self._put(line):
                self.lost += 1
                self._unsaid += 1

    # The names by which structlog calls the logger that it wraps.
    debug = info = warning = error = critical = exception = msg = log = write

    def _put(self, line: str) -> bool:
        try:
            if self._fd is not None:
                return self._put_bytes(f"{line}\n".encode("utf-8", "backslashreplace"))
            if self._stream is None:
                return False
            self._stream.write(f"{line}\n")
            self._stream.flush()
        except (OSError, ValueError):  # the reader is gone; the stream is closed
            return False
        return True

    def _put_bytes(self, data: bytes) -> bool:
        assert self._fd is not None
        if self._torn:
            data = b"\n" + data
        at = 0
        while at < len(data):
            if not select.select([], [self._fd], [], 0)[1]:
                break
            at += os.write(self._fd, data[at : at + CHUNK_BYTES])
            self._torn = at < len(data)
        return at == len(data)

    def __repr__(self) -> str:
        return f"<Sink fd={self._fd} lost={self.lost}>"


def timestamp(ns: int) -> str:
    """ISO 8601 in UTC with nanoseconds, like `2024-08-08T23:54:13.000000001Z`."""
    seconds, rest = divmod(ns, NS_PER_S)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def _with_head(at: int, method: str, event: Event) -> Event:
    # A breaker has a level too: fields that are called like the head's get an underscore.
    fields = {f"{k}_" if k in ("timestamp", "level") else k: v for k, v in event.items()}
    text = fields.pop("event")
    level = "error" if method == "exception" else method
    return {"timestamp": timestamp(at), "level": level, "event": text, **fields}


def _lost(at: int, lines: int) -> Event:
    return _with_head(at, "warning", {"event": "log lines lost", "lines": lines})


def _render_json(event: Mapping[str, Any]) -> str:
    line = json.dumps(event, ensure_ascii=False, allow_nan=False)
    if len(line) > LINE_BYTES_MAX // 4:  # a character has up to four bytes
        line = json.dumps({**{k: event[k] for k in HEAD}, "cut": len(line)}, ensure_ascii=False)
    return line


_console: Final = structlog.dev.ConsoleRenderer(
    colors="NO_COLOR" not in os.environ,
    sort_keys=False,
    exception_formatter=structlog.dev.plain_traceback,  # others show the values of variables
)


def _render_console(event: Mapping[str, Any]) -> str:
    long = ("exception", "stack")
    tame = {
        key.translate(CONTROL_AND_BREAKS): (
            value.translate(CONTROL if key in long else CONTROL_AND_BREAKS)
            if isinstance(value, str)
            else value
        )
        for key, value in event.items()
    }
    return str(_console(None, "", tame))[: LINE_BYTES_MAX // 4]


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def _descriptor(stream: TextIO | None) -> int | None:
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError):  # it lives in memory, or is closed
        return None
