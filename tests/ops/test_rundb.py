"""The database of a run: real files, a real writer, real crashes."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from bot.domain.decisions import Cancel, Decision, Place, Trip
from bot.domain.events import Event, Filled, OrderCancelled, OrderOpened
from bot.domain.units import Side
from bot.journal.log import Decided, Learned, read_log
from bot.journal.run import Run
from bot.modes.enginerun import EngineRun
from bot.ops import rundb
from bot.ops.metrics import Metrics
from bot.ops.rows import SCHEMA_VERSION
from bot.ops.rundb import RunDb, RunDbError, connect, rebuild
from tests.ops.test_rows import BTC, VIEW
from tests.shell.test_pump import loaded, opened

ROOT = Path(__file__).parents[2]
WAIT_S = 20.0


def until(condition: Callable[[], bool]) -> None:
    """Wait until something becomes true in another thread or process."""
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(connect(path)) as db:
        return db.execute(query).fetchall()


def story(orders: int, first: int = 0) -> Iterator[tuple[int, Event | list[Decision]]]:
    """What a run with so many orders tells: half are filled, half cancelled, one trip."""
    for n in range(first, first + orders):
        at, name = 10 * n, f"o{n}"
        yield at, [Place(name, Side.BUY if n % 2 else Side.SELL, 1_000 + n, 3, n % 4)]
        yield at + 1, OrderOpened(at + 1, name)
        if n % 2:
            yield at + 2, Filled(at + 2, name, "1", Side.BUY, 1_000 + n, 3, True)
        else:
            yield at + 2, [Cancel(name)]
            yield at + 3, OrderCancelled(at + 3, name)
    yield 10 * (first + orders), [Trip("PAUSED", "depth", {"ratio": 0.5})]


def tell(db: RunDb, told: Iterator[tuple[int, Event | list[Decision]]]) -> None:
    for at, fact in told:
        if isinstance(fact, list):
            db.decided(at, fact)
        else:
            db.learned(fact)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


def test_what_is_told_is_there(path: Path) -> None:
    db = RunDb(path, BTC)
    tell(db, story(20))
    db.trust(4, True)
    db.trust(5, False)
    db.decided(6, [])
    db.sample(VIEW)
    db.note(8, "Config", {"q_max": BTC.lot})
    db.close()
    db.close()
    assert (db.healthy, db.dropped, db.waiting) == (True, 0, 0)
    assert repr(db) == "<RunDb healthy waiting=0 dropped=0>"
    assert rows(path, "SELECT state, count(*) FROM orders GROUP BY 1") == [
        ("CANCELLED", 10),
        ("FILLED", 10),
    ]
    assert rows(path, "SELECT price, qty, filled_qty FROM orders WHERE order_id = 'o3'") == [
        ("100.30", "0.003", "0.003")
    ]
    assert rows(path, "SELECT count(*) FROM fills") == [(10,)]
    assert rows(path, "SELECT at_ns, total, mid FROM equity") == [(7, "100", "61800.25")]
    assert rows(path, "SELECT at_ns, kind, detail FROM events ORDER BY at_ns") == [
        (4, "Trusted", "{}"),
        (5, "Distrusted", "{}"),
        (8, "Config", '{"q_max":"0.001"}'),
        (200, "Trip", '{"cause":"depth","evidence":{"ratio":0.5},"level":"PAUSED"}'),
    ]


def test_the_journal_gives_the_same_database(path: Path, tmp_path: Path) -> None:
    db = RunDb(path, BTC)
    tell(db, story(50))
    db.close()
    again = tmp_path / "again.db"
    rebuild(again, BTC, story(50))
    for table in ("orders", "fills", "equity", "events"):
        everything = f"SELECT * FROM {table}"  # noqa: S608 - a name from the line above
        assert rows(path, everything) == rows(again, everything)


def test_a_run_and_its_journal_agree(tmp_path: Path) -> None:
    """The eyes of a real pump on a market that trades, against what its journal tells."""
    market = opened()
    for i in range(120):
        market.depth(move=(-1) ** (i // 30) * 9)
        market.trade(market.mid - (i % 40) * 8, 0.5, sell=True)
        market.trade(market.mid + 1 + (i % 40) * 8, 0.5, sell=False)
    market.depth(crossed=True)  # trust is lost, and the quotes with it
    run = Run.create(tmp_path, "run")
    replay = EngineRun(loaded(), run)
    instrument = replay.loaded.instrument
    db, metrics = RunDb(tmp_path / "run.db", instrument), Metrics(instrument)
    replay.pump._eyes = Both(db, metrics)
    replay.feed_all([market.text()])
    view = replay.engine.view()
    db.sample(view)
    db.close()
    rebuild(tmp_path / "again.db", instrument, journalled(run))
    journalled_only = "kind NOT IN ('Trusted', 'Distrusted')"
    for query in (
        "SELECT * FROM orders",
        "SELECT * FROM fills",
        f"SELECT * FROM events WHERE {journalled_only}",  # noqa: S608 - from the line above
    ):
        told = rows(tmp_path / "run.db", query)
        assert told, query
        assert told == rows(tmp_path / "again.db", query)
    assert rows(tmp_path / "run.db", f"SELECT * FROM events WHERE NOT {journalled_only}")  # noqa: S608
    scraped = metrics.exposition()[0].decode()
    fills = rows(tmp_path / "run.db", "SELECT side, count(*) FROM fills GROUP BY 1")
    for side, count in fills:
        assert f'mmbot_fills_total{{liquidity="maker",side="{side}"}} {count}.0' in scraped
    working = "SELECT count(*) FROM orders WHERE ended_ns IS NULL"
    assert rows(tmp_path / "run.db", working) == [(len(view.orders),)]
    traded = rows(tmp_path / "run.db", "SELECT side, qty FROM fills")
    position = sum(Decimal(str(qty)) * (1 if side == "BUY" else -1) for side, qty in traded)
    assert position == instrument.quantity(view.position_lots)
    equity = rows(tmp_path / "run.db", "SELECT total FROM equity")
    assert equity == [(format(view.pnl.total, "f"),)]


class Both:
    """Several eyes on one pump."""

    def __init__(self, *eyes: RunDb | Metrics) -> None:
        self.eyes = eyes

    def trust(self, now: int, trusted: bool) -> None:
        for eye in self.eyes:
            eye.trust(now, trusted)

    def learned(self, event: Event, engine: object) -> None:
        for eye in self.eyes:
            eye.learned(event, engine)

    def decided(self, now: int, decisions: Sequence[Decision], engine: object) -> None:
        for eye in self.eyes:
            eye.decided(now, decisions, engine)


def journalled(run: Run) -> Iterator[tuple[int, Event | list[Decision]]]:
    for record in read_log(run.log):
        if isinstance(record, Learned):
            yield record.event.at, record.event
        elif isinstance(record, Decided):
            yield record.now, record.decisions


def test_rows_are_there_soon_and_while_the_run_goes_on(path: Path) -> None:
    db = RunDb(path, BTC)
    try:
        tell(db, story(3))
        with closing(connect(path)) as reader:
            until(lambda: reader.execute("SELECT count(*) FROM orders").fetchone() == (3,))
    finally:
        db.close()


def test_many_facts_wake_the_writer_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rundb, "COMMIT_EVERY_S", 3_600.0)
    db = RunDb(path, BTC)
    tell(db, story(rundb.BATCH_FACTS_MAX // 3))
    until(lambda: db.waiting < rundb.BATCH_FACTS_MAX // 3)
    db.close()
    assert rows(path, "SELECT count(*) FROM orders") == [(rundb.BATCH_FACTS_MAX // 3,)]


def test_a_full_queue_drops_counts_and_tells_once(path: Path) -> None:
    failures: list[RunDbError] = []
    db = RunDb(path, BTC, on_failure=failures.append, queue_max=5)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # the writer waits for this
        for n in range(50):
            db.trust(n, True)
        assert not db.healthy
        refused = db.dropped
        assert 40 <= refused <= 45
        assert len(failures) == 1
        assert "further ones are dropped" in str(failures[0])
        other.execute("ROLLBACK")
    until(lambda: db.waiting == 0)
    db.trust(99, False)
    assert not db.healthy, "a hole in the past stays a hole"
    with pytest.raises(RunDbError, match=f"lacks {refused} facts"):
        db.close()
    events = rows(path, "SELECT at_ns, kind, detail FROM events ORDER BY at_ns DESC LIMIT 2")
    assert sorted(events) == [
        (99, "Distrusted", "{}"),
        (99, "Dropped", f'{{"facts":{refused}}}'),
    ]
    assert rows(path, "SELECT count(*) FROM events") == [(50 - refused + 2,)]


def test_a_dead_writer_stops_no_run(path: Path) -> None:
    failures: list[RunDbError] = []
    db = RunDb(path, BTC, on_failure=failures.append)
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP TABLE events")
    db.trust(1, True)
    until(lambda: not db.healthy)
    until(lambda: not db._thread.is_alive())
    assert failures == []
    for n in range(3):
        db.learned(OrderOpened(n, "a"))
    assert [str(f) for f in failures] == [f"{path} cannot be written: no such table: events"]
    assert db.dropped == 4
    assert repr(db) == "<RunDb failed waiting=0 dropped=4>"
    with pytest.raises(RunDbError, match="no such table"):
        db.close()
    db.close()


def test_a_group_is_written_whole_or_not_at_all(path: Path) -> None:
    db = RunDb(path, BTC)
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP TABLE orders")
    db.decided(1, [Trip("PAUSED", "depth", {}), Place("a", Side.BUY, 1, 1, 0)])
    with pytest.raises(RunDbError, match="no such table: orders"):
        db.close()
    assert db.dropped == 1
    assert rows(path, "SELECT * FROM events") == []


def test_facts_after_the_end_are_counted(path: Path) -> None:
    failures: list[RunDbError] = []
    db = RunDb(path, BTC, on_failure=failures.append)
    db.close()
    db.trust(1, True)
    assert db.dropped == 1
    assert not db.healthy
    assert "is closed" in str(failures[0])


def test_a_note_unfit_for_json_is_the_callers_fault(path: Path) -> None:
    with closing(RunDb(path, BTC)) as db, pytest.raises(TypeError):
        db.note(1, "Config", {"a": object()})


async def test_a_slow_disk_does_not_stop_the_loop(path: Path) -> None:
    db = RunDb(path, BTC)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        tell(db, story(100))
        for n in range(100):
            db.trust(n, True)
            await asyncio.sleep(0)
        assert time.monotonic() - started < rundb.BUSY_S / 2
        other.execute("ROLLBACK")
    db.close()
    assert rows(path, "SELECT count(*) FROM events") == [(101,)]


CHILD = """
import itertools, sys, time
from pathlib import Path
from bot.ops.rundb import RunDb
from tests.ops.test_rundb import BTC, story, tell
db = RunDb(Path(sys.argv[1]), BTC)
for n in itertools.count():
    while db.waiting > 10_000:
        time.sleep(0.001)
    tell(db, story(1_000, 1_000 * n))
"""


def test_a_killed_run_leaves_a_readable_database(path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], cwd=ROOT)
    try:
        until(path.exists)
        until(lambda: _count(path) > 500)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait(WAIT_S)
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    # Whole groups only: no order is missing before the last, and every fill has its order.
    ((orders, last),) = rows(path, "SELECT count(*), max(placed_ns) FROM orders")
    assert isinstance(last, int)
    assert orders == last / 10 + 1
    filled = "SELECT count(*) FROM orders WHERE state = 'FILLED' AND filled_qty = '0.003'"
    assert rows(path, filled) == rows(path, "SELECT count(*) FROM fills")


def _count(path: Path) -> int:
    try:
        with closing(connect(path)) as db:
            return int(db.execute("SELECT count(*) FROM orders").fetchone()[0])
    except RunDbError:
        return 0  # not made yet


def test_a_database_is_never_overwritten(path: Path) -> None:
    RunDb(path, BTC).close()
    with pytest.raises(RunDbError, match=r"run\.db cannot be created: File exists"):
        RunDb(path, BTC)
    with pytest.raises(RunDbError, match=r"run\.db cannot be created: File exists"):
        rebuild(path, BTC, [])


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunDbError, match="No such file or directory"):
        RunDb(tmp_path / "no" / "run.db", BTC)
    with pytest.raises(RunDbError, match="cannot be read"):
        connect(tmp_path / "run.db")


def test_a_file_of_another_kind_or_version(path: Path) -> None:
    path.write_bytes(b"no database at all, just some text that is long enough" * 40)
    with pytest.raises(RunDbError, match="file is not a database"):
        connect(path)
    path.unlink()
    RunDb(path, BTC).close()
    assert rows(path, "PRAGMA user_version") == [(SCHEMA_VERSION,)]
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(RunDbError, match="has schema 99, this program reads schema 1"):
        connect(path)


def test_readers_cannot_write(path: Path) -> None:
    RunDb(path, BTC).close()
    with closing(connect(path)) as db, pytest.raises(sqlite3.OperationalError, match="readonly"):
        db.execute("DELETE FROM events")
