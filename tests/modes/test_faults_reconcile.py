"""The bot beside a venue whose lists lie, whose history is short, and that others use too."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from bot.domain.account import AccountOrder, InForce, Kind, NewOrder
from bot.domain.events import (
    Cleared,
    FillRecovered,
    Obstructed,
    OutcomeLost,
    PositionAdopted,
)
from bot.domain.units import Side
from bot.sim.exchange import FLOW
from bot.venues.binance.failures import OPEN_ORDERS, POSITIONS, Matcher
from bot.venues.binance.reply import Refused, Reply, Request
from tests.modes.quietvenue import Venue, quiet_venue
from tests.modes.trading import Scenario, Stage, loaded_for, outcomes, running, trading

# Looks follow each other faster than as configured: that only takes time.
OFTEN: Final = (
    "execution.in_flight_ms=500",
    "execution.open_orders_ms=500",
    "execution.position_ms=1000",
)
STRANGER: Final = "web_by-hand"
EARLIER: Final = "mm0a1b2c-900"  # of a run that no journal tells of
NOTICED_S: Final = 12.0


def by_hand(
    venue: Venue, side: Side, tick: int, lots: int, *, order_id: str, post_only: bool = False
) -> AccountOrder:
    """Somebody places an order on the account; one that crosses trades at once."""
    in_force = InForce.GTX if post_only else InForce.GTC
    wanted = NewOrder(side, tick, lots, order_id, Kind.LIMIT, in_force)
    done = venue.account.place(venue.market.now, wanted)
    assert isinstance(done, AccountOrder), done
    return done


def trades_by_hand(venue: Venue, side: Side, lots: int) -> None:
    """Somebody trades so many lots on the account."""
    best = venue.market.exchange.best(Side(-side))
    assert best is not None
    assert best[1] >= lots
    done = by_hand(venue, side, best[0], lots, order_id="web_trade")
    assert done.filled == lots


@contextmanager
def undisturbed(stage: Stage) -> Iterator[None]:
    """No order is doubted and nothing obstructed meanwhile."""
    before = len(stage.witness.events)
    yield
    told = stage.witness.events[before:]
    assert not [one for one in told if isinstance(one, OutcomeLost | Obstructed)], told


def adopted(stage: Stage, reason: str) -> list[int]:
    """The positions that were taken from the venue, in lots."""
    found = stage.events(PositionAdopted)
    return [one.lots for one in found if isinstance(one, PositionAdopted) and one.reason == reason]


def obstructed(stage: Stage, since: int) -> bool:
    """Whether reconciliation stood in the way since so many events."""
    return any(
        isinstance(one, Obstructed) and one.what == "reconcile"
        for one in stage.witness.events[since:]
    )


# --- lists ------------------------------------------------------------------------------------


async def f54_lagging(folder: Path) -> None:
    """Lists that are two seconds old are no reason to doubt an order."""
    async with trading(folder, *OFTEN) as stage:
        stage.faults.lag(OPEN_ORDERS, 2_000)
        with undisturbed(stage):
            for side in (Side.BUY, Side.SELL, Side.BUY, Side.SELL):
                best = stage.venue.resting(side)[0]
                stage.venue.fill(side, best.lots - best.filled)
                await stage.pause(1.2)
        stage.faults.heal()
        await stage.converge()


async def f54_newest_forgotten(folder: Path) -> None:
    """An order that every list leaves out is asked about by name, and lives."""
    async with trading(folder, *OFTEN) as stage:
        newest = max(stage.witness.own_open(), key=lambda order: order.order_id).client_id
        placed = len(stage.witness.placed)
        stage.faults.forget_newest()
        await stage.until(
            lambda: stage.events(OutcomeLost, newest), NOTICED_S, "the order is doubted"
        )
        await stage.until(stage.quoting, NOTICED_S, "its word came")
        assert newest in {order.client_id for order in stage.witness.own_open()}
        assert len(stage.witness.placed) == placed  # nothing in its stead
        stage.faults.heal()
        await stage.converge()


async def f55_empty_orders(folder: Path) -> None:
    """An empty list is not believed; after three nothing may rest, and then it is true."""
    async with trading(folder, *OFTEN) as stage:
        stage.venue.fill(Side.BUY, 5)
        await stage.converge()
        since = len(stage.witness.events)
        stage.faults.answer_empty(OPEN_ORDERS)
        await stage.until(lambda: obstructed(stage, since), NOTICED_S, "nothing may rest")
        assert stage.faults.met("answer_empty") >= 3
        stage.faults.heal()
        await stage.converge(NOTICED_S)
        assert adopted(stage, "reconcile") == []


def f55_unreadable(where: Matcher, how: str) -> Scenario:
    """Three failures in a row, of either question, are a pause; never a flat account."""

    async def scenario(folder: Path) -> None:
        async with trading(folder, *OFTEN) as stage:
            stage.venue.fill(Side.SELL, 5)
            await stage.converge()
            since = len(stage.witness.events)
            if how == "empty":
                stage.faults.answer_empty(where)
            else:
                stage.faults.fail_before(where, how, times=None)
            await stage.until(lambda: obstructed(stage, since), NOTICED_S, "nothing may rest")
            await stage.until(lambda: not stage.witness.own_open(), NOTICED_S, "nothing rests")
            assert stage.engine.ledger.position_lots == -5
            stage.faults.heal()
            await stage.converge(NOTICED_S)
            told = stage.witness.events[since:]
            assert any(isinstance(one, Cleared) and one.what == "reconcile" for one in told)
            assert adopted(stage, "reconcile") == []

    return scenario


# --- history ------------------------------------------------------------------------------------


def again(stage: Stage) -> None:
    """This run did not begin with nothing, so that its money is not the account's."""
    stage.witness.money = list  # type: ignore[method-assign]


async def f56_pages(folder: Path) -> None:
    """Of a long history every page is read, and nothing is quoted while one is missing."""
    pairs, refusals = 505, 2
    async with quiet_venue(loaded_for("binance-usdm", folder)) as venue:
        async with running(venue, folder) as first:
            venue.fill(Side.BUY, 3)
            await first.converge()
        trade_in_pieces(venue, pairs)
        refused: list[Request] = []

        def answer(request: Request) -> Reply | None:
            if not request.path.endswith("/userTrades") or "fromId" not in request.query:
                return None
            assert not venue.account.open_orders(), "it quotes without knowing its position"
            if len(refused) == refusals:
                return None
            refused.append(request)
            return Refused(-1000, "Unknown error, please try again later.", 503).reply

        venue.answering(answer)
        async with running(venue, folder) as second:
            again(second)
            assert len(refused) == refusals
            recovered = second.events(FillRecovered)
            assert len(recovered) == 2 * pairs
            assert adopted(second, "start")[-1] == 3
            await second.converge()


def trade_in_pieces(venue: Venue, pairs: int) -> None:
    """Two orders of an earlier run trade lot by lot while nobody is there."""
    exchange, middle = venue.market.exchange, venue.market.middle
    for n, side in enumerate(Side):
        by_hand(
            venue, side, middle - side, pairs, order_id=f"{EARLIER}{n}", post_only=True
        )  # fmt: skip
    for _ in range(pairs):
        for side in Side:
            exchange.place(venue.market.now, FLOW, Side(-side), middle - side, 1, ioc=True)
    assert venue.account.open_orders() == []
    assert len(venue.account.trades) > 1_000


async def f28_history_lost(folder: Path) -> None:
    """A position without its fills is the venue's word: taken over, as an adjustment."""
    async with quiet_venue(loaded_for("binance-usdm", folder)) as venue:
        async with running(venue, folder) as first:
            venue.fill(Side.BUY, 5)
            await first.converge()
        trades_by_hand(venue, Side.BUY, 7)
        venue.account.trades.clear()
        left = by_hand(
            venue, Side.BUY, venue.market.middle - 500, 4, order_id=EARLIER, post_only=True
        )
        async with running(venue, folder) as second:
            again(second)
            assert adopted(second, "start")[-1] == second.witness.venue_position() == 12
            assert second.events(FillRecovered) == []
            order = venue.order(left.client_id)
            assert order is not None
            assert not order.is_open
            await second.converge()


# --- others ------------------------------------------------------------------------------------


async def f60_foreign(folder: Path) -> None:
    """A stranger's order is told and left alone; what he trades is found and taken over."""
    async with trading(folder, *OFTEN) as stage:
        again(stage)
        by_hand(
            stage.venue, Side.SELL, stage.venue.market.middle + 600, 4,
            order_id=STRANGER, post_only=True,
        )  # fmt: skip
        with undisturbed(stage):
            await stage.until(
                lambda: STRANGER in stage.execution.reconciler._foreign, NOTICED_S, "it is told"
            )
        since = len(stage.witness.events)
        trades_by_hand(stage.venue, Side.BUY, 7)
        await stage.until(lambda: obstructed(stage, since), NOTICED_S, "the difference is seen")
        await stage.converge(2 * NOTICED_S)
        assert adopted(stage, "reconcile") == [7]
        assert stage.events(FillRecovered) == []
        stranger = stage.venue.order(STRANGER)
        assert stranger is not None
        assert stranger.is_open
    assert stranger.is_open
    assert [order.client_id for order in stage.venue.account.open_orders()] == [STRANGER]


SCENARIOS: Final[dict[str, Scenario]] = {
    "F28 restart: history lost": f28_history_lost,
    "F54 lists: two seconds old": f54_lagging,
    "F54 lists: newest forgotten": f54_newest_forgotten,
    "F55 orders: empty": f55_empty_orders,
    "F55 orders: 503": f55_unreadable(OPEN_ORDERS, "503"),
    "F55 position: empty": f55_unreadable(POSITIONS, "empty"),
    "F55 position: 503": f55_unreadable(POSITIONS, "503"),
    "F56 history: a page missing": f56_pages,
    "F60 foreign order and position": f60_foreign,
}


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Exception | None]:
    return outcomes(request, SCENARIOS, tmp_path_factory.mktemp("reconcile"))


@pytest.mark.parametrize("name", SCENARIOS)
def test_reconcile(name: str, results: dict[str, Exception | None]) -> None:
    error = results[name]
    if error is not None:
        raise error
