from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from bot.domain.units import NS_PER_S, Side
from bot.shell.statements import ReadFailed
from bot.shell.takeover import AnotherInstance, Previous, Taken, Takeover, fees_in_base
from bot.venues.orderentry import Execution, Holdings
from tests.shell.account import BAD_KEY, LOST, T0, USDM, World, own, previous


def takeover(world: World, spot: bool = False, neutral: Decimal | None = None) -> Takeover:
    return Takeover(
        world.statements, world.bot, USDM, world.time, world.log,
        spot=spot, neutral=neutral, is_own=own, sleep=world.time.sleep,
    )  # type: ignore[arg-type]  # fmt: skip


async def take(world: World, past: Previous | None, **how: Any) -> Taken:
    await world.time.sleep(1)
    return await takeover(world, **how).take(past)


# --- sweep --------------------------------------------------------------------------------


async def test_orders_of_earlier_runs_are_cancelled_until_none_is_left() -> None:
    # F26
    world = World()
    for order_id in ("mm-old-1", "mm-old-2", "web_1"):
        world.venue.rest(order_id)
    await takeover(world).sweep(previous())
    assert sorted(set(world.bot.cancelled)) == ["mm-old-1", "mm-old-2"]
    left = [i for i, one in world.venue.orders.items() if one.status.value == "open"]
    assert left == ["web_1"]
    assert world.log.of("orders_left") == [{"orders": ["mm-old-1", "mm-old-2"]}]


async def test_a_cancel_is_repeated_but_not_at_every_look() -> None:
    world = World()
    world.venue.rest("mm-old-1")
    world.bot.heals = False
    world.time.plan(3, lambda: world.venue.end("mm-old-1"))
    await takeover(world).sweep(None)
    assert world.bot.cancelled == ["mm-old-1"] * 2


async def test_two_empty_lists_half_a_second_apart() -> None:
    world = World()
    await takeover(world).sweep(None)
    assert world.venue.asked == ["open", "open"]
    assert world.time.at - T0 >= 0.5 * NS_PER_S


async def test_a_failed_list_is_no_empty_one() -> None:
    # F55
    world = World()
    world.venue.rest("mm-old-1")
    world.venue.faults = {"open": [LOST, "garbage", LOST, LOST]}
    await takeover(world).sweep(None)
    assert world.bot.cancelled == ["mm-old-1"]
    assert [line["failures"] for line in world.log.of("account_unreadable")] == [3]


async def test_a_placement_that_was_on_its_way_is_still_caught() -> None:
    # the earlier run died with a request in the network: its order appears 1.2 s later
    world = World()
    world.time.plan(1.2, lambda: world.venue.rest("mm-old-9"))
    await takeover(world).sweep(previous(unfinished=("mm-old-9",)))
    assert world.bot.cancelled == ["mm-old-9"]


async def test_orders_that_appear_are_another_instance() -> None:
    # F29
    world = World()
    world.venue.rest("mm-other-1")
    world.time.plan(0.4, lambda: world.venue.rest("mm-other-2"))
    with pytest.raises(AnotherInstance, match="mm-other-2") as refusal:
        await takeover(world).sweep(previous())
    assert "BTCUSDT" in str(refusal.value)


async def test_a_bot_that_pauses_before_it_quotes_again_is_noticed() -> None:
    # F29: its orders were taken out, and it is careful
    world = World()
    world.venue.rest("mm-other-1")
    world.time.plan(6.5, lambda: world.venue.rest("mm-other-2"))
    with pytest.raises(AnotherInstance, match="mm-other-2"):
        await takeover(world).sweep(None)


async def test_orders_that_our_own_journal_knows_are_not_waited_for() -> None:
    world = World()
    world.venue.rest("mm-old-9")
    await takeover(world).sweep(previous(unfinished=("mm-old-9",)))
    assert world.time.at - T0 < 6 * NS_PER_S


async def test_a_refused_key_is_told_at_once() -> None:
    world = World()
    world.venue.faults = {"open": [BAD_KEY]}
    with pytest.raises(ReadFailed, match="bad_key"):
        await takeover(world).sweep(None)
    assert world.venue.asked == ["open"]


# --- take ---------------------------------------------------------------------------------


async def test_the_first_run_takes_what_a_derivative_holds() -> None:
    world = World()
    world.venue.position = Decimal("-0.007")
    world.venue.keep()
    taken = await take(world, None)
    assert taken == Taken(-7, None, Decimal(0))


async def test_the_first_run_on_a_spot_account_holds_nothing() -> None:
    world = World()
    world.venue.position = Decimal("1.2345678")
    world.venue.keep()
    assert await take(world, None, spot=True) == Taken(0, None, Decimal("1.2345678"))


async def test_a_neutral_quantity_makes_the_rest_a_position() -> None:
    world = World()
    world.venue.position = Decimal("1.2345678")
    world.venue.keep()
    taken = await take(world, None, spot=True, neutral=Decimal("1.2"))
    assert taken == Taken(35, None, Decimal("1.2"))


async def test_executions_since_the_last_run_are_recovered() -> None:
    # F26: five lots were known, three traded while nobody listened
    world = World()
    world.venue.position = Decimal("0.005")
    world.venue.rest("mm-old-1", Side.SELL)
    world.venue.rest("web_1")
    await world.time.sleep(10)
    world.venue.fill("mm-old-1", 1)
    known = ("mm-old-1", "t1", Side.SELL)
    await world.time.sleep(10)
    world.venue.fill("mm-old-1", 2)
    world.venue.fill("mm-old-1", 1)
    past = previous(
        position=Decimal("0.004"),
        keys={known: world.time.at},
        last_at=world.time.at,
        unfinished=("mm-old-1",),
    )
    await world.time.sleep(100)
    taken = await take(world, past)
    assert [fill.trade_id for fill in taken.recovered] == ["t2", "t3"]
    assert all(fill.order_id == "mm-old-1" for fill in taken.recovered)
    assert (taken.lots, taken.expected_lots, taken.recovered_lots) == (1, 1, -3)


async def test_a_history_that_lags_is_asked_again() -> None:
    world = World()
    world.venue.rest("mm-old-1")
    world.venue.fill("mm-old-1", 5)
    world.venue.faults = {"fills": [[]]}
    taken = await take(world, previous(unfinished=("mm-old-1",)))
    assert (taken.lots, taken.expected_lots) == (5, 5)
    assert len(taken.recovered) == 1


async def test_a_position_that_no_execution_explains_is_the_venue_s() -> None:
    # F28
    world = World()
    world.venue.position = Decimal("0.009")
    world.venue.keep()
    taken = await take(world, previous(position=Decimal("0.004")))
    assert (taken.lots, taken.expected_lots) == (9, 4)
    assert world.venue.asked.count("fills") == 3


async def test_a_failed_page_of_executions_is_asked_again() -> None:
    # F56
    world = World()
    world.venue.rest("mm-old-1", lots=9)
    for _ in range(9):
        world.venue.fill("mm-old-1", 1)
        await world.time.sleep(0.01)
    world.venue.cut(4)
    world.venue.faults = {"fills": [None, LOST, None, "garbage"]}
    taken = await take(world, previous(unfinished=("mm-old-1",)))
    assert (taken.lots, taken.expected_lots, len(taken.recovered)) == (9, 9, 9)


async def test_holdings_count_when_read_twice() -> None:
    # F80: a lagging replica answers every other time
    world = World()
    read = [Holdings(Decimal(n), Decimal(0)) for n in (1, 2, 1, 3, 3)]
    world.venue.faults = {"holdings": list(read)}
    assert (await take(world, None)).lots == 3_000


async def test_fees_in_base_are_no_sale() -> None:
    world = World()
    world.venue.position = Decimal(1)
    world.venue.rest("mm-old-1", lots=5_000)
    world.venue.fill("mm-old-1", 5_000, Decimal("0.005"), "BTC")
    past = previous(neutral=Decimal(1), unfinished=("mm-old-1",))
    taken = await take(world, past, spot=True)
    assert (taken.lots, taken.expected_lots, taken.neutral) == (5_000, 5_000, Decimal(1))


async def test_dust_is_no_difference_on_a_spot_account() -> None:
    world = World()
    world.venue.position = Decimal("1.0049")
    world.venue.keep()
    past = previous(position=Decimal("0.004"), neutral=Decimal(1))
    taken = await take(world, past, spot=True)
    assert (taken.lots, taken.expected_lots) == (4, 4)


async def test_a_past_without_a_position_gives_none() -> None:
    world = World()
    world.venue.position = Decimal("0.003")
    world.venue.keep()
    assert await take(world, previous(position=None)) == Taken(3, None, Decimal(0))


async def test_executions_are_looked_for_a_week_at_most() -> None:
    world = World()
    world.venue.rest("mm-old-1")
    world.venue.fill("mm-old-1", 1)
    await world.time.sleep(8 * 24 * 3_600)
    taken = await take(world, previous(unfinished=("mm-old-1",)))
    assert (taken.lots, taken.expected_lots, taken.recovered) == (1, 0, ())


def test_only_fees_in_base_count() -> None:
    fill = Execution(0, "mm-1", "v1", "t1", Side.BUY, 100, 5, True)
    fills = [
        fill,
        replace(fill, fee=Decimal("0.3"), fee_currency="BNB"),
        replace(fill, fee=Decimal("0.002"), fee_currency="BTC"),
        replace(fill, fee=Decimal("-0.0005"), fee_currency="BTC"),
    ]
    assert fees_in_base(fills, "BTC") == Decimal("0.0015")
