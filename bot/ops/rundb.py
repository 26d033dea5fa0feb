"""The database of a run: orders, fills, equity and events, for questions asked in SQL.

Derived: the journal is the truth, and `rebuild` makes the same orders, fills and events from
its records. The event loop hands facts over without waiting; one thread turns them into rows
and commits them in groups. A crash loses at most the last group and leaves the file readable.
"""

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from bot.domain.decisions import Decision
from bot.domain.events import Event, FeedEvent
from bot.domain.instrument import Instrument
from bot.domain.view import View
from bot.ops.rows import (
    SCHEMA,
    SCHEMA_VERSION,
    Fact,
    Note,
    Record,
    Rows,
    derive,
    to_json,
)

COMMIT_EVERY_S: Final = 0.25
BATCH_FACTS_MAX: Final = 4_096  # in one transaction; so many waiting facts wake the writer
QUEUE_FACTS_MAX: Final = 65_536
BUSY_S: Final = 5.0  # how long somebody else's lock is waited for
CLOSE_S_MAX: Final = 15.0
TRUSTED: Final = Note("Trusted", "{}")
DISTRUSTED: Final = Note("Distrusted", "{}")
assert BATCH_FACTS_MAX < QUEUE_FACTS_MAX
assert CLOSE_S_MAX > COMMIT_EVERY_S + BUSY_S


class RunDbError(Exception):
    """The database cannot be made, read or written; one sentence says why."""


def rebuild(path: Path, instrument: Instrument, records: Iterable[Record]) -> None:
    """Make the database of a run again, from its journal. Raises `RunDbError`."""
    connection = _create(path)
    try:
        connection.execute("BEGIN")
        for statement, values in derive(instrument, records):
            connection.execute(statement, values)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise RunDbError(f"{path} cannot be written: {error}") from error
    finally:
        connection.close()


def connect(path: Path) -> sqlite3.Connection:
    """Open a run's database for reading, also while the run goes on or after a crash.

    Raises `RunDbError` when there is none or when its schema is of another version.
    """
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise RunDbError(f"{path} cannot be read: {error}") from error
    if version != SCHEMA_VERSION:
        connection.close()
        raise RunDbError(
            f"{path} has schema {version}, this program reads schema {SCHEMA_VERSION}:"
            " derive it again from the journal"
        )
    return connection


class RunDb:
    """Writes the database of one run; one of the eyes of the pump.

    No call waits for the disk, and none but `close` raises for the disk's sake: a run goes on
    without its database. What finds no room, or comes after a failure, is counted in
    `dropped`; the first call that drops something tells `on_failure`, on its own thread.
    """

    def __init__(
        self,
        path: Path,
        instrument: Instrument,
        *,
        on_failure: Callable[[RunDbError], None] | None = None,
        queue_max: int = QUEUE_FACTS_MAX,
    ) -> None:
        """Create the file; raises `RunDbError` when it exists or cannot be made."""
        assert queue_max > 0
        self.path = path
        self._connection = _create(path)
        self._rows = Rows(instrument)
        self._on_failure = on_failure
        self._queue_max = queue_max
        # A deque takes and gives without a lock: the loop never waits for the writer.
        self._queue: deque[Record] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._failure: RunDbError | None = None  # set by the writer, once
        self._told = False
        self._accepted = 0
        self._committed = 0  # counted by the writer
        self._refused = 0
        self._noted = 0  # of the refused, those that an event tells of
        self._thread = threading.Thread(target=self._write, name="rundb", daemon=True)
        self._thread.start()

    # --- what the run tells -------------------------------------------------------------

    def trust(self, now: int, trusted: bool) -> None:
        """The book became trusted, or stopped being so."""
        self._put(now, TRUSTED if trusted else DISTRUSTED)

    def learned(self, event: Event | FeedEvent, engine: object = None) -> None:
        """An event was applied."""
        self._put(event.at, event)

    def decided(self, now: int, decisions: Sequence[Decision], engine: object = None) -> None:
        """A decision was made; an empty one leaves no row."""
        if decisions:
            self._put(now, tuple(decisions))

    def sample(self, view: View) -> None:
        """One row of the equity curve."""
        self._put(view.now, view)

    def note(self, at: int, kind: str, detail: Mapping[str, object]) -> None:
        """One row of events; `detail` must be fit for JSON, else TypeError."""
        self._put(at, Note(kind, to_json(detail)))

    # --- health -------------------------------------------------------------------------

    @property
    def healthy(self) -> bool:
        """Nothing is missing from the database and the writer is at work (or done)."""
        at_work = self._thread.is_alive() or self._closing
        return self._failure is None and not self._refused and at_work

    @property
    def dropped(self) -> int:
        """Facts that are not in the database and never will be."""
        lost = 0 if self._thread.is_alive() else self._accepted - self._committed
        return self._refused + lost

    @property
    def waiting(self) -> int:
        """Facts that wait for the writer."""
        return len(self._queue)

    def close(self) -> None:
        """Write what waits and stop the thread; does nothing the second time.

        Waits, up to `CLOSE_S_MAX`. Raises `RunDbError` when facts are missing.
        """
        if self._closing:
            return
        self._closing = True
        self._wake.set()
        self._thread.join(CLOSE_S_MAX)
        if self._thread.is_alive():
            raise RunDbError(f"{self.path} is still being written after {CLOSE_S_MAX:g} s")
        if self._failure is not None:
            raise self._failure
        if self.dropped:
            raise RunDbError(f"{self.path} lacks {self.dropped} facts: derive it from the journal")

    # --- the loop's side ----------------------------------------------------------------

    def _put(self, at: int, fact: Fact) -> None:
        waiting = len(self._queue)
        if waiting >= self._queue_max or self._closing or not self._thread.is_alive():
            self._refused += 1
            self._tell()
            return
        if self._refused > self._noted:
            missing, self._noted = self._refused - self._noted, self._refused
            self._accepted += 1
            self._queue.append((at, Note("Dropped", to_json({"facts": missing}))))
        self._accepted += 1
        self._queue.append((at, fact))
        if waiting >= BATCH_FACTS_MAX and not self._wake.is_set():
            self._wake.set()

    def _tell(self) -> None:
        if self._told or self._on_failure is None:
            return
        self._told = True
        if self._failure is not None:
            why = self._failure
        elif self._closing:
            why = RunDbError(f"{self.path} is closed: later facts are dropped")
        elif self._thread.is_alive():
            why = RunDbError(
                f"{self.path}: {len(self._queue)} facts wait for the disk, further ones are dropped"
            )
        else:
            why = RunDbError(f"{self.path}: its writer has died, facts are dropped")
        self._on_failure(why)

    # --- the writer's side --------------------------------------------------------------

    def _write(self) -> None:
        try:
            done = False
            while not done:
                self._wake.wait(COMMIT_EVERY_S)
                self._wake.clear()
                done = self._closing  # read first: what was put before is in the queue
                while self._queue:
                    self._commit(min(len(self._queue), BATCH_FACTS_MAX))
        except sqlite3.Error as error:
            self._failure = RunDbError(f"{self.path} cannot be written: {error}")
        finally:
            self._connection.close()

    def _commit(self, count: int) -> None:
        # Statement by statement: each lets go of the interpreter, so that the event loop
        # waits for one row and never for a batch.
        execute = self._connection.execute
        execute("BEGIN")
        for _ in range(count):
            at, fact = self._queue.popleft()
            for statement, values in self._rows.of(at, fact):
                execute(statement, values)
        execute("COMMIT")
        self._committed += count

    def __repr__(self) -> str:
        state = "healthy" if self.healthy else "failed"
        return f"<RunDb {state} waiting={self.waiting} dropped={self.dropped}>"


def _create(path: Path) -> sqlite3.Connection:
    try:
        path.open("xb").close()  # a run's database is never overwritten
    except OSError as error:
        raise RunDbError(f"{path} cannot be created: {error.strerror}") from error
    try:
        # Made here and written by one other thread, never by both at a time.
        connection = sqlite3.connect(
            path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            # The version last: a file with a version has all of its tables.
            connection.executescript(
                f"BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
        except sqlite3.Error:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise RunDbError(f"{path} cannot be created: {error}") from error
    return connection
