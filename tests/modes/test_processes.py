"""What becomes of orders when processes end, in order or not (RISK 9, F23 to F29).

Real processes over real sockets: the venue is the test's own, the bots and the watchdog are
started as a user starts them.
"""

import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from bot.domain.events import FillRecovered, PositionAdopted
from bot.domain.units import Side
from bot.journal.run import Run
from bot.modes.audit import audit
from bot.modes.previous import previous_run
from bot.venues.binance.failures import PLACEMENTS
from tests.modes.children import (
    MANY_LEVELS,
    Child,
    Scenario,
    Yard,
    innermost,
    journal,
    places,
    side_by_side,
    yard,
)

SWEPT_S: Final = 10.0
DEAD_MAN_S: Final = 10.0
WATCHDOG_S: Final = 5.0
LATE_MS: Final = 800  # of a placement under way, which still is valid when it arrives
SLACK_S: Final = 1.0  # a venue's step, and a machine that does something else

TOOK: Final[dict[str, float]] = {}  # seconds that a scenario measured


async def restart_over_live_orders_then_sigterm(folder: Path) -> None:
    """F26, and F23 with the run that was started over them."""
    async with yard(folder) as found:
        first = await found.start("run", "execution.dead_man_s=60")
        await found.quoting(first)
        found.venue.fill(Side.BUY, 3)
        first.signal(signal.SIGKILL)
        await first.ended()
        left = {order.client_id for order in found.own()}
        assert left
        found.venue.fill(Side.BUY, 2)  # while it is dead
        found.venue.fill(Side.SELL, 4)
        second = await found.start("run", script=MANY_LEVELS)
        await quotes_again(found, second, left)
        equal_before_the_first_quote(found)
        await sigterm_with_ten_live_and_two_in_flight(found, second)


def equal_before_the_first_quote(found: Yard) -> None:
    """F26: what traded while nobody was there is recovered, and the position is the venue's."""
    records = journal(found.runs()[-1])
    before = records[: records.index(places(records)[0])]
    recovered = [one for one in before if isinstance(one, FillRecovered)]
    known = {trade_id for _, trade_id, _ in keys(found, 0)}
    assert {one.trade_id for one in recovered} == {
        str(trade.trade_id) for trade in found.venue.account.trades
    } - known
    assert recovered
    adopted = [one.lots for one in before if isinstance(one, PositionAdopted)]
    assert adopted[-1] == found.lots() == 1


async def sigterm_with_ten_live_and_two_in_flight(found: Yard, bot: Child) -> None:
    """F23: the venue is empty and that is confirmed within ten seconds; exit 0."""
    await found.quoting(bot, 12)
    found.faults.delay_request(PLACEMENTS, LATE_MS, times=None)
    since = found.venue.requests[-1].at + 1
    for side in Side:
        best = innermost(found, side)
        found.venue.fill(side, best.lots - best.filled)

    def sent() -> int:
        singles = found.venue.asked("POST", "/order", since)
        return len(singles) + 2 * len(found.venue.asked("POST", "/batchOrders", since))

    await found.until(lambda: sent() == 2, bot)
    assert len(found.own()) == 10
    before = len(found.venue.account.orders())
    at = bot.signal(signal.SIGTERM)
    assert await bot.ended() == 0, bot
    TOOK["F23"] = time.monotonic() - at
    assert not found.own()
    assert TOOK["F23"] <= SWEPT_S
    late = len(found.venue.account.orders()) - before
    assert late == 2, "both arrived after the signal, and were cancelled"
    assert bot.result()["reason"] == "SIGTERM"
    assert bot.logged("orders_unconfirmed") == []
    assert audit(found.runs()[-1])["ok"]


async def second_instances(folder: Path) -> None:
    """F29: refused by the lease; with another state folder by what happens at the venue."""
    async with yard(folder) as found:
        first = await found.start("run")
        await found.quoting(first)
        before = {order.client_id for order in found.own()}
        second = await found.start("run", runs="seconds")
        third = await found.start("run", state="elsewhere", runs="others")
        assert await second.ended() == 3
        assert f"process {first.process.pid} already is the bot" in second.stderr()
        assert not (folder / "seconds").exists()
        assert {order.client_id for order in found.own()} & before
        assert await third.ended() == 3, third
        assert "another bot places orders on BTCUSDT" in third.stderr()
        assert [places(journal(run)) for run in found.runs("others")] == [[]]
        await found.quoting(first)  # it goes on
        first.signal(signal.SIGTERM)
        assert await first.ended() == 0, first


async def sigkill_and_the_countdown(folder: Path) -> None:
    """F24: within the dead-man's time the venue has cancelled everything by itself."""
    async with yard(folder) as found:
        bot = await found.start("run")
        await found.quoting(bot)
        at = bot.signal(signal.SIGKILL)
        await bot.ended()
        assert found.own()
        TOOK["F24 countdown"] = await found.until(lambda: not found.own()) - at
        assert TOOK["F24 countdown"] <= DEAD_MAN_S + SLACK_S


async def quotes_again(found: Yard, bot: Child, left: set[str]) -> None:
    """Wait until a second run quotes, and none of the first's orders is there then."""

    def ours() -> set[str]:
        return {order.client_id for order in found.own()}

    await found.until(lambda: ours() - left, bot)
    assert not ours() & left
    await found.quoting(bot)


def keys(found: Yard, run: int) -> Mapping[tuple[str, str, Side], int]:
    """The executions that the journals of the runs up to one hold."""
    folder = found.folder / "earlier"
    folder.mkdir()
    path = found.runs()[run]
    (folder / path.name).symlink_to(path)
    name = str(Run(path).read_manifest()["account"])
    previous = previous_run(folder, found.venue.loaded, name, 2**62)
    assert previous is not None
    return previous.keys


async def sigkill_and_the_watchdog(folder: Path) -> None:
    """F24 where the venue has no countdown: the watchdog has it empty within five seconds."""
    async with yard(folder, "binance-spot") as found:
        watchdog = await found.start("watchdog")
        bot = await found.start("run")
        await found.quoting(bot)
        at = bot.signal(signal.SIGKILL)
        TOOK["F24 watchdog"] = await found.until(lambda: not found.own(), watchdog) - at
        assert TOOK["F24 watchdog"] <= WATCHDOG_S
        await bot.ended()
        watchdog.signal(signal.SIGTERM)
        assert await watchdog.ended() == 0
        assert watchdog.result()["rescues_confirmed"] == 1


SCENARIOS: Final[dict[str, Scenario]] = {
    "F26 restart over live orders, F23 SIGTERM": restart_over_live_orders_then_sigterm,
    "F29 second instance": second_instances,
    "F24 SIGKILL and the countdown": sigkill_and_the_countdown,
    "F24 SIGKILL and the watchdog": sigkill_and_the_watchdog,
}


@pytest.fixture(scope="module")
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Exception | None]:
    return side_by_side(request, SCENARIOS, tmp_path_factory.mktemp("processes"))


@pytest.mark.parametrize("name", SCENARIOS)
def test_process(name: str, found: Mapping[str, Exception | None]) -> None:
    error = found[name]
    for what, seconds in TOOK.items():
        if all(word in name for word in what.split()):
            sys.stdout.write(f"{what}: empty after {seconds:.2f} s\n")
    if error is not None:
        raise error
