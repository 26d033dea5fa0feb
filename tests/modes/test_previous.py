"""Earlier runs, read back from journals that were written for it."""

import os
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bot.core.fillkeys import REMEMBERED_NS
from bot.domain.decisions import Cancel, Place
from bot.domain.events import (
    Amended,
    Event,
    Filled,
    FillRecovered,
    OrderCancelled,
    OrderExpired,
    OrderOpened,
    OrderRejected,
    PositionAdopted,
)
from bot.domain.units import NS_PER_S, Side
from bot.journal.log import Closed, Decided, Header, Learned, LogWriter, read_log
from bot.journal.run import Run, run_name
from bot.modes import previous
from bot.modes.previous import previous_run, remember_account
from bot.modes.settings import Loaded, load

ROOT = Path(__file__).parents[2]
T = 1_700_000_000 * NS_PER_S
HOUR = 3_600 * NS_PER_S


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return load(ROOT / "config" / "paper-binance-usdm.yaml", env={})


class Runs:
    """Writes run folders."""

    def __init__(self, root: Path, loaded: Loaded) -> None:
        self.root = root
        self.loaded = loaded
        self.told: list[str] = []

    def write(
        self, at: int, *events: Event | Place, neutral: str | None = None, **other: Any
    ) -> Run:
        """One run that starts at `at`, with events and placements of which each has its time."""
        instrument = other.pop("instrument", self.loaded.instrument)
        account = other.pop("account", "desk-1")
        run = Run.create(self.root, run_name(at, instrument.venue, instrument.symbol))
        run.write_manifest({"version": "0"})
        remember_account(run, account, None if neutral is None else Decimal(neutral))
        header = Header(
            bot_version="0",
            mode="paper",
            started_at=at,
            seed=0,
            config_digest="",
            instrument=instrument,
            fees=self.loaded.fees,
            params=self.loaded.params,
            prefix="mm0a1b2c",
        )
        with closing(LogWriter(run.log)) as log:
            log.append(replace(header, **other))
            for event in events:
                if isinstance(event, Place):
                    log.append(Decided(0, at, 0, [event, Cancel("mm0a1b2c-99")]))
                else:
                    log.append(Learned(0, event))
        return run

    def read(self, now: int = T + 2 * HOUR) -> Any:
        return previous_run(self.root, self.loaded, "desk-1", now, self.told.append)


@pytest.fixture
def runs(tmp_path: Path, loaded: Loaded) -> Runs:
    return Runs(tmp_path / "runs", loaded)


def adopted(at: int, lots: int) -> PositionAdopted:
    return PositionAdopted(at, lots, 0, "start")


def filled(at: int, trade: str, lots: int = 1, side: Side = Side.BUY, **more: Any) -> Filled:
    return Filled(at, "mm0a1b2c-1", trade, side, 100, lots, True, **more)


def recovered(at: int, trade: str, lots: int = 1) -> FillRecovered:
    return FillRecovered(at, "mm0a1b2c-1", trade, Side.BUY, 100, lots, True)


def lots(n: int, loaded: Loaded) -> Decimal:
    return n * loaded.instrument.lot


def test_without_runs_there_is_no_past(runs: Runs) -> None:
    assert runs.read() is None
    runs.root.mkdir()
    assert runs.read() is None
    assert runs.told == []


def test_position_keys_and_time_of_one_run(runs: Runs) -> None:
    run = runs.write(
        T,
        adopted(T + 1, 5),
        filled(T + 2, "t1", 3, Side.SELL),
        recovered(T + 3, "t2", 2),
        OrderOpened(T + 9, "mm0a1b2c-1"),
    )
    found = runs.read()
    assert found.run == run.path.name
    assert found.position == lots(4, runs.loaded)
    assert found.neutral is None
    assert found.last_at == T + 9
    assert found.keys == {
        ("mm0a1b2c-1", "t1", Side.SELL): T + 2,
        ("mm0a1b2c-1", "t2", Side.BUY): T + 3,
    }
    assert runs.told == []


def test_a_fill_told_twice_counts_once(runs: Runs) -> None:
    # F19, F22: also when the run after repeats it
    runs.write(T, adopted(T, 0), filled(T + 1, "t1"), filled(T + 2, "t1"), recovered(T + 3, "t1"))
    runs.write(T + HOUR, adopted(T + HOUR, 1), recovered(T + HOUR + 1, "t1"))
    assert runs.read().position == lots(1, runs.loaded)


def test_two_fills_with_one_trade_id_count_both(runs: Runs) -> None:
    # F20
    runs.write(T, adopted(T, 0), filled(T + 1, "t1", 2), filled(T + 1, "t1", 5, Side.SELL))
    assert runs.read().position == lots(-3, runs.loaded)


def test_an_adopted_position_stands_for_all_before(runs: Runs) -> None:
    runs.write(
        T,
        adopted(T, 5),
        filled(T + 1, "t1"),
        PositionAdopted(T + 2, -7, 0, "reconcile"),
        filled(T + 3, "t2"),
    )
    assert runs.read().position == lots(-6, runs.loaded)


def test_the_latest_run_has_the_last_word(runs: Runs) -> None:
    runs.write(T, adopted(T, 5), filled(T + 1, "t1"))
    late = runs.write(T + HOUR, adopted(T + HOUR, 2), filled(T + HOUR + 1, "t2"))
    found = runs.read()
    assert found.run == late.path.name
    assert found.position == lots(3, runs.loaded)
    assert found.last_at == T + HOUR + 1
    assert len(found.keys) == 2


def test_runs_of_one_second_come_in_their_order(runs: Runs) -> None:
    for n in range(12):  # folders -2 to -12
        runs.write(T + n, adopted(T + n, n))
    assert runs.read().position == lots(11, runs.loaded)


def test_a_run_that_died_before_it_had_a_position_leaves_the_one_before_standing(
    runs: Runs,
) -> None:
    # F30: it had recovered one of two executions
    first = runs.write(T, adopted(T, 5), filled(T + 9, "t1"))
    runs.write(T + HOUR, recovered(T + HOUR, "t2"))
    found = runs.read()
    assert found.run == first.path.name
    assert found.position == lots(7, runs.loaded)
    assert found.last_at == T + 9  # executions are missing from there on
    assert ("mm0a1b2c-1", "t2", Side.BUY) in found.keys


def test_a_run_without_any_event_is_none(runs: Runs) -> None:
    # the folder of the run that is just about to start is there already
    runs.write(T)
    assert runs.read() is None
    assert runs.told == []


def test_without_a_position_the_keys_still_count(runs: Runs) -> None:
    runs.write(T, filled(T + 1, "t1"))
    found = runs.read()
    assert found.position is None
    assert list(found.keys) == [("mm0a1b2c-1", "t1", Side.BUY)]


def test_keys_expire_after_a_week(runs: Runs) -> None:
    runs.write(T, adopted(T, 0), filled(T + 1, "t1"), filled(T + HOUR, "t2"))
    found = runs.read(T + REMEMBERED_NS + 2)
    assert list(found.keys) == [("mm0a1b2c-1", "t2", Side.BUY)]
    assert found.position == lots(2, runs.loaded)


def test_orders_without_an_end_are_unfinished(runs: Runs) -> None:
    ids = [f"mm0a1b2c-{n}" for n in range(1, 8)]
    runs.write(
        T,
        adopted(T, 0),
        *(Place(order_id, Side.BUY, 100, 5, 0) for order_id in ids),
        filled(T + 1, "t1", 2),
        Filled(T + 2, ids[1], "t2", Side.BUY, 100, 5, True),
        OrderCancelled(T + 3, ids[2]),
        OrderExpired(T + 3, ids[3], "by the venue"),
        OrderRejected(T + 3, ids[4], "no funds"),
        Amended(T + 3, ids[5], 99, 2),
        Filled(T + 4, ids[5], "t3", Side.BUY, 99, 2, True),
    )
    assert runs.read().unfinished == (ids[0], ids[6])


def test_neutral_is_remembered_less_the_fees_in_base(runs: Runs) -> None:
    base = runs.loaded.instrument.base
    fee = {"fee": Decimal("0.001"), "fee_currency": base}
    other = {"fee": Decimal("0.5"), "fee_currency": "BNB"}
    runs.write(
        T,
        adopted(T, 0),
        filled(T + 1, "t1", **fee),
        filled(T + 1, "t1", **fee),
        filled(T + 2, "t2", **other),
        neutral="1.25",
    )
    assert runs.read().neutral == Decimal("1.249")
    # the next one started from that, and had not yet written it down
    runs.write(T + HOUR, adopted(T + HOUR, 2), filled(T + HOUR + 1, "t3", **fee))
    assert runs.read().neutral == Decimal("1.248")
    runs.write(T + HOUR + NS_PER_S, adopted(T + HOUR + NS_PER_S, 3), neutral="7")
    assert runs.read().neutral == Decimal(7)


def test_another_lot_does_not_change_the_position(runs: Runs) -> None:
    coarse = replace(runs.loaded.instrument, lot=10 * runs.loaded.instrument.lot)
    runs.write(T, adopted(T, 5), instrument=coarse)
    runs.write(T + HOUR, recovered(T + HOUR, "t1"))
    assert runs.read().position == lots(51, runs.loaded)


@pytest.mark.parametrize("other", [{"mode": "testnet"}, {"prefix": "mm"}, {"prefix": "bot12345"}])
def test_other_kinds_of_runs_say_nothing(runs: Runs, other: dict[str, str]) -> None:
    runs.write(T, adopted(T, 5), **other)
    assert runs.read() is None
    assert runs.told == []


def test_another_symbol_or_venue_says_nothing(runs: Runs) -> None:
    runs.write(T, adopted(T, 5), instrument=replace(runs.loaded.instrument, symbol="ETHUSDT"))
    runs.write(T, adopted(T, 5), instrument=replace(runs.loaded.instrument, venue="binance-spot"))
    assert runs.read() is None
    assert runs.told == []


def test_another_account_says_nothing_but_is_told(runs: Runs) -> None:
    run = runs.write(T, adopted(T, 5), account="desk-2")
    assert runs.read() is None
    assert runs.told == [f"{run.path.name}: it traded the account desk-2, not desk-1"]


def test_a_journal_that_breaks_off_counts_up_to_there(runs: Runs) -> None:
    # F62
    run = runs.write(T, adopted(T, 5), filled(T + 1, "t1"), filled(T + 2, "t2"))
    run.log.write_bytes(run.log.read_bytes()[:-3])
    found = runs.read()
    assert (found.position, found.last_at) == (lots(6, runs.loaded), T + 1)
    assert runs.told == []


def test_a_damaged_journal_counts_up_to_the_damage_and_is_told(runs: Runs) -> None:
    run = runs.write(T, adopted(T, 5), filled(T + 1, "t1"), filled(T + 2, "t2"))
    text = bytearray(run.log.read_bytes())
    text[-3] ^= 1
    run.log.write_bytes(text)
    found = runs.read()
    assert (found.position, found.last_at) == (lots(6, runs.loaded), T + 1)
    assert len(runs.told) == 1
    assert "damaged at byte" in runs.told[0]


def test_folders_that_are_no_runs_are_told_and_left_out(runs: Runs) -> None:
    whole = runs.write(T, adopted(T, 5))
    empty = runs.write(T + NS_PER_S, adopted(T, 6))
    empty.log.write_bytes(b"")
    absent = runs.write(T + 2 * NS_PER_S, adopted(T, 7))
    absent.log.unlink()
    bare = runs.write(T + 3 * NS_PER_S, adopted(T, 8))
    bare.manifest.unlink()
    foreign = runs.write(T + 4 * NS_PER_S, adopted(T, 9))
    foreign.log.write_bytes(b"not a log at all, but something else that is long enough")
    (runs.root / "notes").mkdir()
    (runs.root / "run.txt").write_text("a file")
    found = runs.read()
    assert (found.run, found.position) == (whole.path.name, lots(5, runs.loaded))
    told = {line.partition(":")[0] for line in runs.told}
    assert told == {run.path.name for run in (empty, absent, bare, foreign)}


def test_runs_from_long_ago_are_only_read_for_a_position(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    oldest = runs.write(T, adopted(T, 1), filled(T + 1, "t1"))
    old = runs.write(T + HOUR, adopted(T + HOUR, 5))
    for run in (oldest, old):
        os.utime(run.log, ns=(T + HOUR, T + HOUR))
    now = T + HOUR + REMEMBERED_NS + 1
    assert runs.read(now).position == lots(5, runs.loaded)
    read: list[str] = []
    truth = previous.read_log
    monkeypatch.setattr(previous, "read_log", lambda path: (read.append(str(path)), truth(path))[1])
    assert runs.read(now).position == lots(5, runs.loaded)
    assert read == [str(old.log)]


def test_a_closed_run_ends_when_it_was_closed(runs: Runs) -> None:
    run = runs.write(T, adopted(T, 5))
    header, *_ = list(read_log(run.log))
    run.log.unlink()
    with closing(LogWriter(run.log)) as log:
        log.append(header)
        log.append(Learned(0, adopted(T, 5)))
        log.append(Decided(0, T + 7, 0, []))
        log.append(Closed(0, T + 9, "SIGTERM"))
    assert runs.read().last_at == T + 7  # nothing was learned after the last decision


def test_remembering_keeps_the_rest_of_the_manifest(runs: Runs) -> None:
    run = runs.write(T, adopted(T, 5))
    remember_account(run, "desk-1", Decimal("0.50"))
    assert run.read_manifest() == {"version": "0", "account": "desk-1", "neutral_qty": "0.50"}
