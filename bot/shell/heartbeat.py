"""Signs of life between the bot and its watchdog: one small file each, in the state folder.

    bot      -> bot_path       turns of its loop   -> read by the watchdog every 250 ms
    watchdog -> watchdog_path  looks at the bot    -> read by a bot that may not quote without it

A beat is progress, not time: the writer refuses to count on when the loop did not turn, and the
reader believes only a counter that it saw move, by its own clock. A file's age proves nothing,
and the clocks of two processes need not agree.
"""

import os
from enum import Enum
from pathlib import Path
from typing import Final
from zlib import crc32

import msgspec

from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.shell.clock import Clock

RECORD_BYTES: Final = 512
BODY_BYTES: Final = RECORD_BYTES - 10  # a space, 8 hex digits of crc32, a line's end
BEAT_NS_MIN: Final = 100 * NS_PER_MS  # between two writes: a busy loop turns thousands of times
LOST_NS: Final = 3 * NS_PER_S  # without progress


class State(Enum):
    """What a beat says of its process.

    QUOTING: orders may rest; it holds from the first beat on, for an earlier run may have left
    some. STOPPED: the venue was confirmed empty and nothing will be placed. WATCHING: the
    watchdog reached the venue lately. BLIND: it did not.
    """

    QUOTING = "quoting"
    STOPPED = "stopped"
    WATCHING = "watching"
    BLIND = "blind"


class Beat(msgspec.Struct, frozen=True, gc=False):
    """One sign of life. `epoch` names the run; `at` is the writer's time, ns.

    `pids` is the process-id namespace that `pid` belongs to, 0 where there are none.
    """

    pid: int
    pids: int
    epoch: str
    venue: str
    symbol: str
    turns: int
    at: int
    state: State


def bot_path(folder: Path, name: str) -> Path:
    """Where the bot beats; `folder` and `name` are of `lease.state_folder` and `state_name`."""
    return folder / f"{name}.bot"


def watchdog_path(folder: Path, name: str) -> Path:
    """Where its watchdog beats."""
    return folder / f"{name}.watchdog"


def pid_namespace() -> int:
    """A number for the namespace of this process's ids; containers have different ones."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


class Heartbeat:
    """Writes one process's beats to `path`; raises OSError when it cannot.

    Every record has the same length and goes out in one write, so that a reader finds an old
    one, a new one, or one whose checksum is wrong. Never synced: it must survive a killed
    process, and a machine that lost its power has no watchdog either.
    """

    __slots__ = ("_beat", "_clock", "_fd", "path")

    def __init__(
        self, path: Path, clock: Clock, *, epoch: str, venue: str, symbol: str, state: State
    ) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path
        self._clock = clock
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._beat = Beat(os.getpid(), pid_namespace(), epoch, venue, symbol, 0, clock.now(), state)
        self._write()

    def beat(self, turns: int, state: State) -> None:
        """Say how often the loop has turned.

        Nothing is written when it did not turn, nor within 100 ms of the last write, unless
        the state is another one.
        """
        last, now = self._beat, self._clock.now()
        assert turns >= last.turns, f"{turns} turns after {last.turns}"
        if state is last.state and (turns == last.turns or now - last.at < BEAT_NS_MIN):
            return
        self._beat = msgspec.structs.replace(last, turns=turns, at=now, state=state)
        self._write()

    def stop(self) -> None:
        """Say that nothing rests and nothing will: the watchdog may look away."""
        self._beat = msgspec.structs.replace(self._beat, at=self._clock.now(), state=State.STOPPED)
        self._write()

    def _write(self) -> None:
        body = msgspec.json.encode(self._beat).ljust(BODY_BYTES)
        assert len(body) == BODY_BYTES, "a beat has names that are too long"
        os.pwrite(self._fd, b"%b %08x\n" % (body, crc32(body)), 0)

    def close(self) -> None:
        """Leave the last record for readers."""
        os.close(self._fd)

    def __repr__(self) -> str:
        return f"<Heartbeat {self._beat.state.value} turns={self._beat.turns}>"


def read_beat(path: Path) -> Beat | None:
    """The beat in a file; None for a file that is missing, torn, foreign or unreadable."""
    try:
        record = path.read_bytes()
    except OSError:
        return None
    body = record[:BODY_BYTES]
    if record[BODY_BYTES:] != b" %08x\n" % crc32(body):
        return None
    try:
        return msgspec.json.decode(body, type=Beat)
    except msgspec.DecodeError:
        return None


class Pulse:
    """Another process's life, as its file tells it to one who looks every now and then.

    A look that reads nothing changes nothing: the last beat stands, and grows old.
    """

    __slots__ = ("_path", "_since", "beat", "moving")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._since = 0
        self.beat: Beat | None = None
        self.moving = False  # whether this run's counter was ever seen to move

    def look(self, now: int) -> None:
        """Read the file."""
        beat = read_beat(self._path)
        last, self.beat = self.beat, beat or self.beat
        if beat is None:
            return
        if last is None or beat.epoch != last.epoch:
            self._since, self.moving = now, False
        elif beat.turns != last.turns:
            self._since, self.moving = now, True

    def quiet_ns(self, now: int) -> int:
        """For how long no progress was seen; a run counts from the first look at it."""
        assert self.beat is not None, "nothing was read yet"
        return now - self._since

    def __repr__(self) -> str:
        return f"<Pulse of {self._path.name} moving={self.moving} {self.beat}>"


def process_is_gone(beat: Beat) -> bool:
    """Whether the process of a beat has surely ended; False where that cannot be known."""
    if beat.pids != pid_namespace():
        return False  # a number of another container means nothing here
    try:
        os.kill(beat.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    try:
        status = Path(f"/proc/{beat.pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return False
    # proc(5): the state follows the name in parentheses; killed, and not yet waited for.
    return status.rpartition(")")[2].split()[0] in ("Z", "X")
