import asyncio
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from bot.domain.events import Cleared, Obstructed
from bot.domain.instrument import Fees, Instrument
from bot.shell.filters import FiltersWatch, differing
from bot.venues.orderentry import Call, NotTrading, Priority
from tests.shell.account import LOST, USDM, Log, Time

FEES = Fees(Decimal("0.0002"), Decimal("0.0005"))
RESTING = NotTrading("BTCUSDT does not trade: its status is BREAK")


class Listing:
    """What the venue lists; `answers` to "filters" come instead of it, with their delay."""

    def __init__(self) -> None:
        self.time = Time()
        self.instrument = USDM
        self.fees_now = FEES
        self.answers: list[Any] = []
        self.delays: list[float] = []
        self.asked: list[str] = []
        self.told: list[Obstructed | Cleared] = []
        self.changed: list[Instrument] = []
        self.log = Log()
        self.watch = FiltersWatch(
            self.ask, self, self.told.append, self.time, USDM, FEES, self.changed.append,
            sleep=self.time.sleep,
        )  # type: ignore[arg-type]  # fmt: skip
        self.watch._log = self.log

    def filters(self) -> Call:
        return Call("filters", {}, Priority.DATA)

    def fees(self) -> Call:
        return Call("fees", {}, Priority.DATA)

    def read_filters(self, body: Any) -> Any:
        if isinstance(body, ValueError):
            raise body
        return body

    def read_fees(self, body: Any) -> Any:
        return body

    async def ask(self, call: Call) -> Any:
        self.asked.append(call.method)
        if call.method == "fees":
            return self.fees_now
        answer = self.answers.pop(0) if self.answers else self.instrument
        for _ in range(int(self.delays.pop(0)) if self.delays else 0):
            await asyncio.sleep(0)
        if isinstance(answer, Exception) and not isinstance(answer, ValueError):
            raise answer
        return answer

    async def run(self, seconds: float) -> None:
        task = asyncio.create_task(self.watch.run())
        self.time.plan(seconds, task.cancel)
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def venue() -> Listing:
    return Listing()


async def test_nothing_is_said_while_nothing_changes(venue: Listing) -> None:
    venue.instrument = replace(USDM, tick=Decimal("0.10"), linear=False)
    await venue.run(301)
    assert venue.asked == ["filters", "fees"] * 6
    assert venue.told == []
    assert venue.changed == []
    assert venue.log.lines == []


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"tick": Decimal("0.01")}, "tick 0.1 -> 0.01"),
        ({"lot": Decimal("0.01")}, "lot 0.001 -> 0.01"),
        ({"min_qty_lots": 2}, "min_qty_lots 1 -> 2"),
        ({"min_notional": Decimal(100)}, "min_notional 0 -> 100"),
    ],
)
async def test_a_changed_rule_obstructs_and_is_told_once(
    venue: Listing, change: dict[str, Any], detail: str
) -> None:
    # F66
    await venue.run(30)
    venue.instrument = replace(USDM, **change)
    await venue.run(200)
    (obstructed,) = venue.told
    assert isinstance(obstructed, Obstructed)
    assert (obstructed.what, obstructed.detail) == ("filters", detail)
    assert venue.changed == [venue.instrument]


async def test_a_change_is_not_taken_back(venue: Listing) -> None:
    venue.answers = [replace(USDM, tick=Decimal("0.01"))]
    await venue.run(200)
    assert len(venue.told) == 1
    assert len(venue.changed) == 1


async def test_an_older_answer_after_a_newer_one_does_not_win(venue: Listing) -> None:
    # F66: the first question is answered last
    venue.answers = [RESTING, USDM]
    venue.delays = [5, 0]
    slow = asyncio.create_task(venue.watch.look())
    await asyncio.sleep(0)
    venue.time.at += 1
    await venue.watch.look()
    await slow
    assert venue.told == []


async def test_a_symbol_that_rests_obstructs_until_it_trades(venue: Listing) -> None:
    # F67
    venue.answers = [USDM, RESTING, RESTING]
    await venue.run(200)
    assert [(type(e).__name__, e.what) for e in venue.told] == [
        ("Obstructed", "venue"),
        ("Obstructed", "venue"),
        ("Cleared", "venue"),
    ]
    assert len(venue.log.of("venue_not_trading")) == 1
    assert venue.changed == []


async def test_a_rule_that_changed_in_the_pause_is_noticed(venue: Listing) -> None:
    venue.answers = [RESTING]
    venue.instrument = replace(USDM, lot=Decimal("0.01"))
    await venue.run(100)
    assert [e.what for e in venue.told] == ["venue", "venue", "filters"]
    assert len(venue.changed) == 1


@pytest.mark.parametrize("failure", [LOST, ValueError("garbage")])
async def test_a_failure_says_nothing(venue: Listing, failure: Exception) -> None:
    venue.answers = [failure] * 7
    await venue.run(500)
    assert venue.told == []
    assert [line["failures"] for line in venue.log.of("filters_unread")] == [3, 6]


async def test_new_fees_are_told_and_kept_for_the_next_run(venue: Listing) -> None:
    await venue.run(30)
    venue.fees_now = Fees(Decimal("0.0001"), Decimal("0.0004"))
    await venue.run(200)
    assert venue.watch.fees == venue.fees_now
    assert venue.log.of("fees_changed") == [{"maker": "0.0001", "taker": "0.0004"}]
    assert venue.told == []


def test_equal_numbers_are_no_difference() -> None:
    assert differing(USDM, replace(USDM, tick=Decimal("0.100"), lot=Decimal("1E-3"))) == []
