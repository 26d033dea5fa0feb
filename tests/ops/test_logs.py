"""Logs: form, way, secrets, and readers that are slow or gone."""

import fcntl
import io
import json
import logging
import os
import pty
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

import pytest
import structlog

from bot.domain.units import NS_PER_S, Side
from bot.ops.logs import LINE_BYTES_MAX, Logs, set_up, timestamp

ROOT = Path(__file__).parents[2]
AT = 1_723_161_253 * NS_PER_S + 1
KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
WAIT_S = 20.0


@contextmanager
def logging_to(stream: TextIO | None, level: str = "info", **options: Any) -> Iterator[Logs]:
    logs = set_up(level, now=lambda: AT, stream=stream, **options)
    try:
        yield logs
    finally:
        logs.close()


class Told:
    """Logs into a file, read back as data."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text("utf-8").splitlines()]

    @property
    def line(self) -> dict[str, Any]:
        (line,) = self.lines
        return line


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    # pytest adds its own handlers for each phase of a test and finds them gone here.
    logging.getLogger().handlers = []
    path = tmp_path / "err"
    with path.open("w") as stream, logging_to(stream):
        yield Told(path)
    logging.getLogger().handlers = []


log = structlog.get_logger()


def test_a_line(told: Told) -> None:
    log.info("filled", price=Decimal("61800.20"), side=Side.BUY, lots=3, text="a\nb ü")
    raw = told.path.read_text("utf-8")
    assert raw.count("\n") == 1
    assert raw.startswith('{"timestamp": "2024-08-08T23:54:13.000000001Z", "level": "info", "e')
    assert "ü" in raw
    assert told.line == {
        "timestamp": "2024-08-08T23:54:13.000000001Z",
        "level": "info",
        "event": "filled",
        "price": "61800.20",
        "side": "BUY",
        "lots": 3,
        "text": "a\nb ü",
    }


def test_timestamps() -> None:
    assert timestamp(0) == "1970-01-01T00:00:00.000000000Z"
    assert timestamp(AT + 999) == "2024-08-08T23:54:13.000001000Z"


def test_fields_do_not_replace_the_head(told: Told) -> None:
    log.warning("tripped", level="PAUSED", timestamp=3)
    assert told.line["level"] == "warning"
    assert told.line["level_"] == "PAUSED"
    assert told.line["timestamp_"] == 3


def test_bound_fields_and_context(told: Told) -> None:
    with structlog.contextvars.bound_contextvars(task="feed"):
        log.bind(run="r1").error("lost", n=1)
    assert told.line.items() >= {"level": "error", "run": "r1", "task": "feed", "n": 1}.items()


@pytest.mark.parametrize(
    ("level", "shown"),
    [("debug", "diwec"), ("INFO", "iwec"), ("warning", "wec"), ("error", "ec"), ("critical", "c")],
)
def test_levels(tmp_path: Path, level: str, shown: str) -> None:
    path = tmp_path / "err"
    with path.open("w") as stream, logging_to(stream, level):
        for name in ("debug", "info", "warning", "error", "critical"):
            getattr(log, name)(name)
    assert "".join(line["event"][0] for line in Told(path).lines) == shown


def test_a_level_that_is_none() -> None:
    with pytest.raises(ValueError, match="'loud' is no log level: use one of debug, info, w"):
        set_up("loud", now=lambda: AT)


def test_an_exception_keeps_its_trace_and_not_its_secret(told: Told) -> None:
    try:
        raise ConnectionError(f"GET /order?signature={KEY}&a=1")
    except ConnectionError:
        log.exception("request failed")
    assert told.line["level"] == "error"
    assert "ConnectionError: GET /order?signature=[redacted]&a=1" in told.line["exception"]
    assert "Traceback (most recent call last)" in told.line["exception"]
    assert KEY not in told.path.read_text()


# --- the standard library's loggers -----------------------------------------------------------


def test_libraries_go_the_same_way_once(told: Told, capfd: pytest.CaptureFixture[str]) -> None:
    other = logging.getLogger("some.library")
    other.warning("dropped %s of %d, apiKey=%s", "x", 3, "abc")
    assert (
        told.line.items()
        >= {
            "level": "warning",
            "event": "dropped x of 3, apiKey=[redacted]",
            "logger": "some.library",
        }.items()
    )
    assert capfd.readouterr() == ("", "")


def test_libraries_are_quiet_below_warning(tmp_path: Path) -> None:
    path = tmp_path / "err"
    with path.open("w") as stream, logging_to(stream, "debug"):
        logging.getLogger("websockets.client").debug("< TEXT frame")
        logging.getLogger("websockets.client").info("connection open")
    assert Told(path).lines == []


def test_levels_of_libraries_own(told: Told) -> None:
    logging.getLogger("x").log(35, "between")
    logging.getLogger("x").log(99, "above")
    assert [line["level"] for line in told.lines] == ["warning", "critical"]


def test_a_library_with_a_broken_format(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "err"
    with path.open("w") as stream, logging_to(stream):
        text = "%d things, token=%s"
        logging.getLogger("x").error(text, "secret=abc")
    assert Told(path).line["event"].startswith("%d things, token=[redacted]")
    assert "abc" not in path.read_text()
    assert capfd.readouterr() == ("", "")


def test_an_exception_of_a_library(told: Told) -> None:
    try:
        raise OSError(f"X-MBX-APIKEY: {KEY}")
    except OSError:
        logging.getLogger("x").exception("failed", stack_info=True)
    assert "OSError: X-MBX-APIKEY: [redacted]" in told.line["exception"]
    assert "test_an_exception_of_a_library" in told.line["stack"]


def test_warnings_are_logged(told: Told) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old thing", DeprecationWarning, stacklevel=1)
    assert "DeprecationWarning: old thing" in told.line["event"]
    assert told.line["logger"] == "py.warnings"


def test_closing_leaves_logging_as_it_was(tmp_path: Path) -> None:
    root = logging.getLogger()
    before = root.handlers, root.level, structlog.is_configured()
    with (tmp_path / "err").open("w") as stream, logging_to(stream) as logs:
        assert repr(logs) == "<Logs lost=0>"
        assert root.handlers is not before[0]
    assert (root.handlers, root.level, structlog.is_configured()) == before


# --- secrets ----------------------------------------------------------------------------------

CANARY = "canary/pa ss-7f3a"


def test_a_canary_finds_no_way_out(tmp_path: Path) -> None:
    path = tmp_path / "err"
    ways: list[Callable[[], None]] = [
        lambda: log.info(CANARY),
        lambda: log.info("%s", CANARY),
        lambda: log.info("a", **{CANARY: 1}),
        lambda: log.info("a", b=[{"c": (CANARY,)}], d={CANARY}),
        lambda: log.info("a", error=RuntimeError(CANARY), raw=CANARY.encode()),
        lambda: log.bind(a=CANARY).error("b", exc_info=ValueError(CANARY)),
        lambda: logging.getLogger("x").error(CANARY),
        lambda: logging.getLogger("x").error("%s", CANARY, exc_info=ValueError(CANARY)),
        lambda: logging.getLogger(CANARY).error("%d", CANARY),
    ]
    for console in (False, True):
        with path.open("a") as stream, logging_to(stream, console=console) as logs:
            logs.hide(CANARY)
            for way in ways:
                way()
    text = path.read_text()
    assert text.count("[redacted]") >= 2 * len(ways)
    assert CANARY not in text
    assert "canary" not in text


# --- terminals --------------------------------------------------------------------------------


def test_a_terminal_gets_lines_for_people() -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream, logging_to(stream):
        log.warning("odd thing", text="\x1b[2Jgone\r\nfake", price=Decimal("1.50"))
        shown = os.read(ours, 4_096).decode()
    os.close(ours)
    assert "odd thing" in shown
    assert "1.50" in shown
    assert "{" not in shown
    assert "\x1b[2J" not in shown
    assert shown.count("\n") == 1


def test_a_trace_for_people_shows_no_variables(tmp_path: Path) -> None:
    path = tmp_path / "err"
    with path.open("w") as stream, logging_to(stream, console=True):
        hidden = "-".join(["value", "of", "a", "variable"])
        try:
            raise ValueError(len(hidden))
        except ValueError:
            log.exception("failed")
    text = path.read_text()
    assert "ValueError: 19" in text
    assert "value-of-a-variable" not in text


# --- readers that are slow or gone -------------------------------------------------------------


def test_a_closed_stream_stops_nobody(tmp_path: Path) -> None:
    stream = (tmp_path / "err").open("w")
    with logging_to(stream) as logs:
        stream.close()
        log.info("a")
        logging.getLogger("x").error("b")
        assert logs.lost == 2


def test_a_stream_that_was_closed_before(tmp_path: Path) -> None:
    stream = (tmp_path / "err").open("w")
    stream.close()
    with logging_to(stream) as logs:
        log.info("a")
        assert logs.lost == 1


def test_a_process_without_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with logging_to(None) as logs:
        log.info("a")
        assert logs.lost == 1


def test_a_stream_in_memory() -> None:
    stream = io.StringIO()
    with logging_to(stream) as logs:
        log.info("a")
        assert json.loads(stream.getvalue())["event"] == "a"
        stream.close()
        log.info("b")
        assert logs.lost == 1


def test_a_full_disk() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as stream, logging_to(stream) as logs:
        log.info("a")
        assert logs.lost == 1


def test_a_broken_pipe() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream, logging_to(stream) as logs:
        for _ in range(3):
            log.info("a")
        assert logs.lost == 3


def test_a_reader_that_has_stopped_reading() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream, logging_to(stream) as logs:
        sent = 0
        while logs.lost < 10:  # a blocking write would never come back from here
            log.info("line", n=sent, text="x" * 7_000, more="x" * 2_000)  # three pages of a pipe
            sent += 1
        lost = logs.lost
        read = drain(reader)
        log.info("again")
        text = (read + drain(reader)).decode()
    os.close(reader)
    whole, torn = [], 0
    for line in text.splitlines():
        try:
            whole.append(json.loads(line))
        except ValueError:
            torn += 1
    assert torn == 1
    assert [line["event"] for line in whole[-2:]] == ["log lines lost", "again"]
    assert whole[-2]["lines"] == lost
    assert whole[-2]["level"] == "warning"
    numbers = [line["n"] for line in whole[:-2]]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == sent - lost


def drain(reader: int) -> bytes:
    """What waits in a pipe."""
    flags = fcntl.fcntl(reader, fcntl.F_GETFL)
    fcntl.fcntl(reader, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    read = b""
    try:
        while chunk := os.read(reader, 65_536):
            read += chunk
    except BlockingIOError:
        pass
    return read


def test_a_line_has_an_end(told: Told) -> None:
    log.info("big", **{f"f{n}": "x" * 8_000 for n in range(100)})
    assert told.line["event"] == "big"
    assert told.line["cut"] > 800_000
    assert told.path.stat().st_size < LINE_BYTES_MAX


def test_text_that_is_no_text(told: Told) -> None:
    log.info("odd", name=os.fsdecode(b"a\xff"), big=10**40, nan=float("inf"))
    assert told.line.items() >= {"name": "a\udcff", "big": 10**40, "nan": "inf"}.items()


def test_threads_do_not_mix_their_lines(told: Told) -> None:
    def talk(name: int) -> None:
        for n in range(50):
            log.info("line", name=name, n=n, text="x" * 6_000)

    threads = [threading.Thread(target=talk, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    found = sorted((line["name"], line["n"]) for line in told.lines)
    assert found == [(name, n) for name in range(4) for n in range(50)]


PROGRAM = """
import logging, time, structlog
from bot.ops.logs import set_up
set_up("info", now=time.time_ns)
structlog.get_logger().info("ours", password="abc")
logging.getLogger("x").error("theirs")
print("result")
"""


def test_a_process_keeps_stdout_for_results() -> None:
    command = [sys.executable, "-c", PROGRAM]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=WAIT_S, check=True)
    assert run.stdout == b"result\n"
    lines = [json.loads(line) for line in run.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["ours", "theirs"]
    assert lines[0]["password"] == "[redacted]"  # noqa: S105 - what is left of it


def test_a_process_whose_log_reader_dies_ends_well() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", PROGRAM]
    try:
        run = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=writer, timeout=WAIT_S, check=False
        )
    finally:
        os.close(writer)
    assert (run.returncode, run.stdout) == (0, b"result\n")
