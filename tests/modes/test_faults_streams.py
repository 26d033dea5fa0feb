"""The bot on the simulated exchange while its private stream misbehaves (RISK 9)."""

from pathlib import Path
from typing import Final

import pytest

from bot.core.orders import OrderState
from bot.domain.events import FillRecovered
from bot.domain.units import NS_PER_MS, Side
from bot.modes.run import LiveRun
from tests.modes.trading import (
    PREPARE,
    Scenario,
    Stage,
    loaded_for,
    outcomes,
    quiet_venue,
    running,
    trading,
)

SPOT: Final = "binance-spot"
USDM: Final = "binance-usdm"
STREAM: Final = "private_stream"
AWAY_S: Final = 5.0
BACK_S: Final = 20.0  # from the way back of a stream until all is equal and quoted


async def paused(stage: Stage, what: str = STREAM) -> None:
    """Wait until an obstacle stands and nothing rests because of it."""
    await stage.until(lambda: what in stage.engine.obstacles, AWAY_S, f"{what} noticed")
    await stage.until(lambda: not stage.venue.account.open_orders(), AWAY_S, "nothing rests")


def applied(stage: Stage) -> int:
    """Executions that the bot has booked."""
    return stage.engine.ledger.n_fills


def f09_fill_while_away(venue: str) -> Scenario:
    async def scenario(folder: Path) -> None:
        async with trading(folder, venue=venue) as stage:
            best = stage.venue.resting(Side.BUY)[0]
            stage.faults.events.cut(stay_shut=True)
            stage.venue.fill(Side.BUY, best.lots)  # nobody hears of it
            await paused(stage)
            placed = len(stage.witness.placed)
            await stage.pause(1.0)
            assert len(stage.witness.placed) == placed
            stage.faults.heal()
            await stage.converge(BACK_S)
            assert stage.engine.ledger.position_lots == best.lots
            assert applied(stage) == 1
            assert stage.order(best.client_id).state is OrderState.FILLED

    return scenario


def f10_silent(venue: str) -> Scenario:
    """Open, and answering pings; only events do not come."""

    async def scenario(folder: Path) -> None:
        async with trading(folder, venue=venue) as stage:
            stage.faults.events.silence()
            stage.obstruct()
            await stage.until(lambda: not stage.witness.believed(), 5.0, "nothing rests")
            stage.clear()
            await stage.until(stage.engine.orders.two_sided, 5.0, "quotes that nobody speaks of")
            best = stage.venue.resting(Side.SELL)[0]
            stage.venue.fill(Side.SELL, best.lots)
            await paused(stage)
            assert stage.execution.stream.losses == 1
            await stage.until(
                lambda: stage.engine.ledger.position_lots == -best.lots, BACK_S, "pulled"
            )
            stage.faults.heal()
            await stage.converge(BACK_S)
            assert applied(stage) == 1
            assert stage.order(best.client_id).state is OrderState.FILLED

    return scenario


def f11_key_expired(venue: str) -> Scenario:
    async def scenario(folder: Path) -> None:
        async with trading(folder, venue=venue) as stage:
            best = stage.venue.resting(Side.BUY)[0]
            stage.venue.server.expire_listen_key()
            stage.venue.fill(Side.BUY, 4)
            await paused(stage)
            await stage.converge(BACK_S)
            assert stage.execution.stream.losses == 1
            assert stage.order(best.client_id).filled_lots == 4
            assert applied(stage) == 1
            stage.venue.fill(Side.SELL, 1)  # and it is heard again
            await stage.until(lambda: applied(stage) == 2, 3.0, "a fill over the new stream")
            await stage.converge()

    return scenario


def extend_often(live: LiveRun) -> None:
    """Twice a second, instead of every half an hour."""
    assert live.execution is not None
    live.execution.wire._extend_s = 0.5


async def f11_key_deleted(folder: Path) -> None:
    """Another client deletes the key: nothing is said until it is to be extended (-1125)."""
    PREPARE.set(extend_often)
    async with trading(folder) as stage:
        await stage.until(lambda: len(stage.venue.asked("PUT", "/listenKey")) > 1, 3.0, "extended")
        assert stage.execution.stream.losses == 0
        best = stage.venue.resting(Side.BUY)[0]
        stage.venue.server.desk.seats[0].stream.end(stage.venue.clock() // NS_PER_MS)
        stage.venue.mute(b"ORDER_TRADE_UPDATE")  # nobody listens to that key any more
        stage.venue.fill(Side.BUY, 4)
        await paused(stage)
        stage.venue.mute()
        await stage.converge(BACK_S)
        assert stage.execution.stream.losses == 1
        assert stage.order(best.client_id).filled_lots == 4
        assert applied(stage) == 1


async def f19_everything_twice(folder: Path) -> None:
    async with trading(folder) as stage:
        stage.faults.events.duplicate(2)
        best = stage.venue.resting(Side.BUY)[0]
        stage.venue.fill(Side.BUY, 4)
        await stage.until(lambda: applied(stage) == 1, 5.0, "the fill")
        stage.execution.gateway.pull(best.client_id)  # and over REST
        stage.venue.fill(Side.BUY, best.lots - 4)
        await stage.until(lambda: applied(stage) == 2, 5.0, "the second fill")
        stage.execution.gateway.pull(best.client_id)
        await stage.pause(1.0)
        assert applied(stage) == 2
        assert stage.engine.ledger.position_lots == best.lots
        stage.faults.heal()
        await stage.converge()


async def f20_one_trade_id_twice(folder: Path) -> None:
    """Two executions of different orders, on both sides, under one id."""
    async with trading(folder) as stage:
        bid, ask = (stage.venue.resting(side)[0] for side in Side)
        stage.venue.fill(Side.BUY, 4)
        await stage.until(lambda: applied(stage) == 1, 5.0, "the first")
        trade_id = stage.venue.account.trades[-1].trade_id
        stage.venue.market.fill(Side.SELL, 3, trade_id)
        assert stage.venue.account.trades[-1].trade_id == trade_id
        await stage.until(lambda: applied(stage) == 2, 5.0, "the second")
        stage.venue.market.fill(Side.BUY, 2, trade_id + 1_000)
        await stage.until(lambda: applied(stage) == 3, 5.0, "the third")
        assert stage.order(bid.client_id).filled_lots == 6
        assert stage.order(ask.client_id).filled_lots == 3
        assert stage.engine.ledger.position_lots == 3
        await stage.converge()


def f21_any_order(seed: int) -> Scenario:
    """Fills, cancels and acks overtake each other."""

    async def scenario(folder: Path) -> None:
        async with trading(folder) as stage:
            stage.faults.events.shuffle(5, within_ms=120, seed=seed)
            for turn in range(4):
                side = Side.BUY if turn % 2 else Side.SELL
                stage.venue.fill(side, 3)
                stage.obstruct()
                stage.venue.fill(side, 2)
                await stage.until(lambda: not stage.witness.believed(), 6.0, "all ended")
                await stage.until(lambda: not stage.witness.differences(), 6.0, "all told")
                stage.clear()
                await stage.until(stage.engine.orders.two_sided, 6.0, "new quotes")
                await stage.pause(0.15)
            stage.faults.heal()
            await stage.converge(BACK_S)
            assert sum(trade.lots for trade in stage.venue.account.trades) == 20
            assert stage.engine.ledger.volume_lots == 20

    return scenario


def trade_of(stage: Stage, client_id: str) -> tuple[str, bytes]:
    """The event that told of an order's latest trade."""
    return next(
        (key, raw)
        for key, raw in reversed(stage.venue.told)
        if b'"x":"TRADE"' in raw and client_id.encode() in raw
    )


async def f22_told_again_much_later(folder: Path) -> None:
    async with trading(folder) as stage:
        best = stage.venue.resting(Side.BUY)[0]
        stage.venue.fill(Side.BUY, best.lots)
        await stage.until(lambda: applied(stage) == 1, 5.0, "the fill")
        await stage.converge()
        again = trade_of(stage, best.client_id)
        stage.venue.repeat(*again)
        await stage.pause(0.3)
        # Forty minutes of trading make the order one that nobody remembers.
        stage.engine.orders._ended_max = 1
        for _ in range(2):
            stage.obstruct()
            await stage.until(lambda: not stage.witness.believed(), 5.0, "all ended")
            stage.clear()
            await stage.converge()
        assert not stage.engine.orders.knows(best.client_id)
        heard = len(stage.events(FillRecovered))
        stage.venue.repeat(*again)
        await stage.pause(0.5)
        assert len(stage.events(FillRecovered)) == heard  # no news
        assert applied(stage) == 1
        await stage.converge()


async def f22_told_again_after_a_restart(folder: Path) -> None:
    async with quiet_venue(loaded_for(USDM, folder)) as venue:
        async with running(venue, folder) as stage:
            best = venue.resting(Side.BUY)[0]
            venue.fill(Side.BUY, best.lots)
            await stage.until(lambda: applied(stage) == 1, 5.0, "the fill")
            again = trade_of(stage, best.client_id)
        async with running(venue, folder) as stage:
            key = venue.server.desk.seats[0].stream.name
            position = stage.engine.ledger.position_lots
            assert position == best.lots
            venue.repeat(key, again[1])
            await stage.pause(0.5)
            assert stage.engine.ledger.position_lots == position
            assert not stage.events(FillRecovered)
            assert not stage.witness.differences()


SCENARIOS: Final[dict[str, Scenario]] = {
    "F09 fill while away": f09_fill_while_away(USDM),
    "F09 fill while away, spot": f09_fill_while_away(SPOT),
    "F10 silent": f10_silent(USDM),
    "F10 silent, spot": f10_silent(SPOT),
    "F11 key expired": f11_key_expired(USDM),
    "F11 key expired, spot": f11_key_expired(SPOT),
    "F11 key deleted": f11_key_deleted,
    "F19 everything twice": f19_everything_twice,
    "F20 one trade id twice": f20_one_trade_id_twice,
    "F21 any order, 1": f21_any_order(1),
    "F21 any order, 2": f21_any_order(2),
    "F21 any order, 3": f21_any_order(3),
    "F22 told again much later": f22_told_again_much_later,
    "F22 told again after a restart": f22_told_again_after_a_restart,
}


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Exception | None]:
    return outcomes(request, SCENARIOS, tmp_path_factory.mktemp("streams"))


@pytest.mark.parametrize("name", SCENARIOS)
def test_stream(name: str, results: dict[str, Exception | None]) -> None:
    error = results[name]
    if error is not None:
        raise error
