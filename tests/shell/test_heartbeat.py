"""Beats in files: what is written when, and what a reader makes of it."""

import os
import random
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from bot.shell.clock import Clock
from bot.shell.heartbeat import (
    RECORD_BYTES,
    Beat,
    Heartbeat,
    Pulse,
    State,
    pid_namespace,
    process_is_gone,
    read_beat,
)
from tests.shell import wire

MS = 1_000_000


class Told(Clock):
    """A clock that moves only when told."""

    __slots__ = ("at",)

    def __init__(self) -> None:
        super().__init__()
        self.at = wire.Clock()

    def now(self) -> int:
        return self.at()


@pytest.fixture
def clock() -> Told:
    return Told()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "x.bot"


def heartbeat(path: Path, clock: Clock, epoch: str = "mm1", symbol: str = "BTCUSDT") -> Heartbeat:
    return Heartbeat(
        path, clock, epoch=epoch, venue="binance-usdm", symbol=symbol, state=State.QUOTING
    )


def test_the_first_beat_is_there_before_the_loop_turns(path: Path, clock: Told) -> None:
    heart = heartbeat(path, clock)
    assert read_beat(path) == Beat(
        os.getpid(),
        pid_namespace(),
        "mm1",
        "binance-usdm",
        "BTCUSDT",
        0,
        clock.now(),
        State.QUOTING,
    )
    assert path.stat().st_size == RECORD_BYTES
    assert repr(heart) == "<Heartbeat quoting turns=0>"
    heart.close()


def test_it_does_not_beat_on_when_the_loop_does_not_turn(path: Path, clock: Told) -> None:
    heart = heartbeat(path, clock)
    clock.at.now += 1_000 * MS
    heart.beat(5, State.QUOTING)
    beaten = read_beat(path)
    for _ in range(100):
        clock.at.now += 1_000 * MS
        heart.beat(5, State.QUOTING)
    assert read_beat(path) == beaten
    with pytest.raises(AssertionError, match="4 turns after 5"):
        heart.beat(4, State.QUOTING)
    heart.close()


def test_a_busy_loop_is_written_ten_times_a_second(
    path: Path, clock: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = 0
    pwrite = os.pwrite

    def counted(fd: int, data: bytes, offset: int) -> int:
        nonlocal writes
        writes += 1
        return pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", counted)
    heart = heartbeat(path, clock)
    for turn in range(1, 10_001):
        clock.at.now += MS // 10
        heart.beat(turn, State.QUOTING)
    assert writes == 1 + 10
    heart.close()


def test_another_state_is_written_at_once_but_is_no_progress(path: Path, clock: Told) -> None:
    heart, pulse = heartbeat(path, clock), Pulse(path)
    pulse.look(0)
    heart.stop()
    pulse.look(1)
    assert pulse.beat is not None
    assert pulse.beat.state is State.STOPPED
    assert (pulse.moving, pulse.quiet_ns(1)) == (False, 1)
    heart.close()


def test_records_have_one_length_whatever_the_counter(path: Path, clock: Told) -> None:
    heart = heartbeat(path, clock, symbol="币安人生USDT")
    clock.at.now += 1_000 * MS
    heart.beat(10**15, State.STOPPED)
    assert path.stat().st_size == RECORD_BYTES
    beat = read_beat(path)
    assert beat is not None
    assert (beat.turns, beat.symbol) == (10**15, "币安人生USDT")
    heart.close()


def test_a_name_that_does_not_fit_is_our_mistake(path: Path, clock: Told) -> None:
    with pytest.raises(AssertionError, match="too long"):
        heartbeat(path, clock, epoch="x" * RECORD_BYTES)


def test_missing_torn_and_foreign_files_read_as_nothing(path: Path, clock: Told) -> None:
    assert read_beat(path) is None
    heart = heartbeat(path, clock)
    old = path.read_bytes()
    clock.at.now += 1_000 * MS
    heart.beat(987_654_321, State.STOPPED)
    new = path.read_bytes()
    assert read_beat(path) is not None
    for cut in range(RECORD_BYTES):
        path.write_bytes(new[:cut])
        assert read_beat(path) is None
        mixed = new[:cut] + old[cut:]
        path.write_bytes(mixed)
        assert (read_beat(path) is None) is (mixed not in (old, new))
    drawn = random.Random(1)
    for _ in range(500):
        path.write_bytes(drawn.randbytes(RECORD_BYTES))
        assert read_beat(path) is None
    path.unlink()
    path.mkdir()
    assert read_beat(path) is None
    heart.close()


def test_a_record_with_a_right_sum_and_wrong_words_reads_as_nothing(
    path: Path, clock: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(msgspec.json, "encode", lambda beat: b'{"pid":1}')
    heartbeat(path, clock).close()
    assert read_beat(path) is None


def test_a_pulse_counts_from_the_first_look_and_then_from_progress(path: Path, clock: Told) -> None:
    pulse = Pulse(path)
    pulse.look(10)
    assert pulse.beat is None
    heart = heartbeat(path, clock)
    pulse.look(20)
    assert (pulse.moving, pulse.quiet_ns(25)) == (False, 5)
    clock.at.now += 1_000 * MS
    heart.beat(1, State.QUOTING)
    pulse.look(30)
    assert (pulse.moving, pulse.quiet_ns(35)) == (True, 5)
    path.write_bytes(b"torn")
    pulse.look(40)
    path.unlink()
    pulse.look(50)
    assert (pulse.moving, pulse.quiet_ns(50)) == (True, 20)
    heart.close()
    again = heartbeat(path, clock, epoch="mm2")
    pulse.look(60)
    assert pulse.beat is not None
    assert (pulse.beat.epoch, pulse.moving, pulse.quiet_ns(60)) == ("mm2", False, 0)
    assert repr(pulse).startswith("<Pulse of x.bot moving=False Beat(")
    again.close()


def beat_of(pid: int, pids: int | None = None) -> Beat:
    pids = pid_namespace() if pids is None else pids
    return Beat(pid, pids, "mm1", "v", "S", 0, 0, State.QUOTING)


def test_whether_a_process_is_gone() -> None:
    assert not process_is_gone(beat_of(os.getpid()))
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    ) as child:
        assert not process_is_gone(beat_of(child.pid))
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet waited for
        assert process_is_gone(beat_of(child.pid))
    assert process_is_gone(beat_of(child.pid))
    assert not process_is_gone(beat_of(child.pid, pids=1))  # of another container


def test_a_process_of_somebody_else_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", forbidden)
    assert not process_is_gone(beat_of(1))
