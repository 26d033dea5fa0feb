"""Whether the witness notices a bot that does a thing wrong: each mutant must be caught.

Every provocation is also run on the bot as it is, which must stand it; and none of them asserts
anything itself: what catches a mutant are the invariants that hold of every run (RISK 9).
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from msgspec.structs import replace

from bot.core.orders import OrderTable
from bot.domain.events import Filled, OrderCancelled, OrderRejected
from bot.domain.units import Side
from bot.modes.run import EXIT_KILLED, LiveRun
from bot.shell.deadman import Countdown
from bot.shell.gateway import Gateway
from bot.shell.resolver import Resolver
from bot.venues.binance.failures import CANCELS, PLACEMENTS
from tests.modes.trading import PREPARE, Scenario, Stage, outcomes, trading

NEW: Final = b'"x":"NEW"'


# --- provocations -----------------------------------------------------------------------------


def trade_best(stage: Stage, side: Side = Side.BUY) -> None:
    """Somebody trades all of the innermost order: the bot places another one."""
    stage.venue.fill(side, stage.venue.resting(side)[0].lots)


async def reply_lost(stage: Stage) -> None:
    stage.venue.mute(NEW)
    stage.faults.lose_reply(PLACEMENTS)
    trade_best(stage)
    await stage.pause(2.0)


async def late_but_valid(stage: Stage) -> None:
    stage.execution.wire._timeout_s = 0.05
    stage.venue.mute(NEW)
    stage.faults.delay_request(PLACEMENTS, 1_500)
    trade_best(stage)
    await stage.pause(2.5)


async def cancels_lost(stage: Stage) -> None:
    stage.faults.lose_request(CANCELS, times=4)
    stage.obstruct()
    await stage.pause(0.5)
    stage.clear()
    await stage.pause(1.5)


async def told_twice(stage: Stage) -> None:
    stage.faults.events.duplicate(1)
    stage.venue.fill(Side.BUY, 4)
    await stage.pause(0.5)


async def one_trade_id(stage: Stage) -> None:
    stage.venue.fill(Side.BUY, 4)
    await stage.pause(0.2)
    stage.venue.market.fill(Side.SELL, 3, stage.venue.account.trades[-1].trade_id)
    await stage.pause(0.5)


async def trip_before_the_write(stage: Stage) -> None:
    """A placement waits for a connection when the bot trips, and gets it afterwards."""
    session = stage.execution.wire._session
    assert session is not None
    connector: Any = session.connector
    connect = connector.connect

    async def slowly(asked: Any, *args: Any, **options: Any) -> Any:
        if asked.method == "POST":
            await asyncio.sleep(0.3)
        return await connect(asked, *args, **options)

    connector.connect = slowly
    n = len(stage.witness.placed)
    trade_best(stage)
    await stage.until(lambda: len(stage.witness.placed) > n, 3.0, "a placement")
    stage.obstruct()
    await stage.pause(1.0)


async def near_the_limit(stage: Stage) -> None:
    trade_best(stage)
    await stage.pause(1.0)


async def killed(stage: Stage) -> None:
    """All bids trade, and the price is 300 lower: more than the day's budget is lost."""
    stage.code = EXIT_KILLED
    await stage.hurry()
    stage.venue.fill(Side.BUY, sum(order.lots for order in stage.venue.resting(Side.BUY)))
    stage.venue.market.shift(-3_000)
    await stage.pause(2.0)


# --- mutants ----------------------------------------------------------------------------------


def gateway_of(live: LiveRun) -> Gateway:
    assert live.execution is not None
    return live.execution.gateway


def timeout_is_a_refusal(live: LiveRun) -> None:
    gateway = gateway_of(live)

    def lose(entry: Any, why: str) -> None:
        gateway._put(OrderRejected(live.clock.now(), entry.order_id, why))

    gateway._lose = lose  # type: ignore[method-assign]


def absence_is_believed(live: LiveRun) -> None:
    gateway_of(live)._resolver.__class__ = type("Hasty", (Resolver,), {
        "__slots__": (), "_past_validity": lambda self, sent_at: True,
    })  # fmt: skip


def cancel_is_taken_for_done(live: LiveRun) -> None:
    gateway = gateway_of(live)
    lose = gateway._lose

    def lost(entry: Any, why: str) -> None:
        if entry.cancel_asked:
            gateway._put(OrderCancelled(live.clock.now(), entry.order_id))
        else:
            lose(entry, why)

    gateway._lose = lost  # type: ignore[method-assign]


def unknown_blocks_nothing(live: LiveRun) -> None:
    live.engine_run.engine.orders.__class__ = type("Lax", (OrderTable,), {
        "__slots__": (), "blocked": lambda self, side: False,
    })  # fmt: skip


def fills_count_every_time(live: LiveRun) -> None:
    engine = live.engine_run.engine
    apply, told = engine.apply, [0]

    def applied(event: Any) -> bool:
        if isinstance(event, Filled):
            told[0] += 1
            event = replace(event, trade_id=f"{event.trade_id}-{told[0]}")
        return apply(event)

    engine.apply = applied  # type: ignore[method-assign]


def fills_are_known_by_trade_id(live: LiveRun) -> None:
    engine = live.engine_run.engine
    apply, seen = engine.apply, set[str]()

    def applied(event: Any) -> bool:
        if isinstance(event, Filled):
            if event.trade_id in seen:
                return False
            seen.add(event.trade_id)
        return apply(event)

    engine.apply = applied  # type: ignore[method-assign]


def gate_is_asked_before_the_wait(live: LiveRun) -> None:
    gateway = gateway_of(live)
    gate = gateway._gate

    def early(*args: Any, **options: Any) -> Callable[[], bool]:
        ask = gate(*args, **options)
        says = ask()
        return lambda: says

    gateway._gate = early  # type: ignore[method-assign]


def gate_knows_no_position_limit(live: LiveRun) -> None:
    engine = live.engine_run.engine
    engine.gate.tighten(replace(live.loaded.params.risk, max_position_lots=10**6))


def switch_is_always_refreshed(live: LiveRun) -> None:
    assert live.execution is not None
    switch = live.execution.dead_man
    assert isinstance(switch, Countdown)
    switch._healthy = lambda: True


class Case(NamedTuple):
    """A provocation, what the bot does wrong, and which invariant must catch it."""

    provoke: Callable[[Stage], Awaitable[None]]
    mutate: Callable[[LiveRun], None]
    caught: str
    sets: tuple[str, ...] = ()


VALID: Final = ("execution.recv_window_ms=2000",)
BUDGET: Final = ("risk.loss_budget=1.0",)
LIMIT: Final = (
    "risk.max_order_qty=0.03",
    "risk.max_position_qty=0.03",
    "risk.inventory_one_sided=0.95",
)
CASES: Final = {
    "timeout is a refusal": Case(reply_lost, timeout_is_a_refusal, "I2 rests unknown"),
    "absence is believed": Case(late_but_valid, absence_is_believed, "I2 rests unknown", VALID),
    "cancel taken for done": Case(cancels_lost, cancel_is_taken_for_done, "I2 rests unknown"),
    "unknown blocks nothing": Case(reply_lost, unknown_blocks_nothing, "I18"),
    "fills count every time": Case(told_twice, fills_count_every_time, "I3 position"),
    "fills by trade id": Case(one_trade_id, fills_are_known_by_trade_id, "I3 position"),
    "gate before the wait": Case(trip_before_the_write, gate_is_asked_before_the_wait, "I7"),
    "no position limit": Case(near_the_limit, gate_knows_no_position_limit, "I4", LIMIT),
    "switch always refreshed": Case(killed, switch_is_always_refreshed, "I7 switch", BUDGET),
}


def sound(case: Case) -> Scenario:
    async def scenario(folder: Path) -> None:
        async with trading(folder, *case.sets) as stage:
            await case.provoke(stage)

    return scenario


def mutant(case: Case) -> Scenario:
    async def scenario(folder: Path) -> None:
        PREPARE.set(case.mutate)  # in the task of this scenario only
        try:
            await sound(case)(folder)
        except AssertionError as error:
            if re.search(case.caught, str(error)):
                return
            raise
        raise AssertionError("not caught")

    return scenario


SCENARIOS: Final[dict[str, Scenario]] = {
    f"{kind}: {name}": make(case)
    for name, case in CASES.items()
    for kind, make in (("sound", sound), ("mutant", mutant))
}


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Exception | None]:
    return outcomes(request, SCENARIOS, tmp_path_factory.mktemp("mutants"))


@pytest.mark.parametrize("name", SCENARIOS)
def test_mutant(name: str, results: dict[str, Exception | None]) -> None:
    error = results[name]
    if error is not None:
        raise error
