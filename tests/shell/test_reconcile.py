import asyncio
from decimal import Decimal

import pytest
from msgspec.structs import replace

from bot.core.reconcile import OVERDUE_NS, Standing
from bot.domain.events import Cleared, Filled, FillRecovered, Obstructed, PositionAdopted
from bot.domain.units import NS_PER_S, Side
from bot.shell.reconcile import Periods
from bot.shell.takeover import AnotherInstance
from bot.venues.orderentry import Holdings, Status
from tests.shell.account import LOST, T0, World, previous

NOTHING = Holdings(Decimal(0), Decimal(0))


def started(lots: int = 0, spot: bool = False) -> World:
    """A world in which `start` is long over and both sides are equal."""
    world = World(spot=spot, neutral=Decimal(1))
    world.venue.position = lots * Decimal("0.001") + (1 if spot else 0)
    world.venue.keep()
    world.bot.position_lots = lots
    return world


def obstacles(world: World) -> list[str]:
    """What became of the obstacle, in turns."""
    return [type(e).__name__ for e in world.bot.told if isinstance(e, Obstructed | Cleared)]


# --- start --------------------------------------------------------------------------------


async def test_start_obstructs_sweeps_recovers_adopts_and_clears() -> None:
    # F26
    world = World()
    world.venue.rest("mm-old-1")
    world.venue.fill("mm-old-1", 2)
    await world.reconciler.start(previous(unfinished=("mm-old-1",)))
    await world.time.sleep(0.1)
    assert world.kinds() == ["Obstructed", "FillRecovered", "PositionAdopted", "Cleared"]
    assert world.bot.position_lots == 2
    assert world.venue.orders["mm-old-1"].status is Status.CANCELLED
    assert not world.log.of("position_differs")
    assert not world.bot.obstructed


async def test_start_adopts_an_unexplained_position_with_a_warning() -> None:
    # F28
    world = World()
    world.venue.position = Decimal("0.009")
    world.venue.keep()
    await world.reconciler.start(previous(position=Decimal("0.004")))
    assert world.log.of("position_differs") == [{"expected_lots": 4, "venue_lots": 9}]
    (adopted,) = [e for e in world.bot.told if isinstance(e, PositionAdopted)]
    assert (adopted.lots, adopted.tick2, adopted.reason) == (9, 200, "start")


async def test_start_waits_for_a_price_to_value_the_difference_at() -> None:
    world = World()
    world.venue.position = Decimal("0.009")
    world.venue.keep()
    world.bot.tick2 = 0
    world.time.plan(20, lambda: setattr(world.bot, "tick2", 444))
    await world.reconciler.start(None)
    (adopted,) = [e for e in world.bot.told if isinstance(e, PositionAdopted)]
    assert adopted.tick2 == 444
    assert world.time.at >= T0 + 20 * NS_PER_S


async def test_start_needs_no_price_where_there_is_no_difference() -> None:
    world = World()
    world.bot.tick2 = 0
    await world.reconciler.start(None)
    assert world.kinds() == ["Obstructed", "PositionAdopted", "Cleared"]


async def test_start_tells_what_is_neutral() -> None:
    world = World(spot=True)
    world.venue.position = Decimal("1.5")
    world.venue.keep()
    await world.reconciler.start(None)
    assert world.reconciler.neutral == Decimal("1.5")


async def test_the_obstacle_stands_when_another_instance_is_found() -> None:
    # F29
    world = World()
    world.time.plan(0.3, lambda: world.venue.rest("mm-other-1"))
    with pytest.raises(AnotherInstance):
        await world.reconciler.start(None)
    assert world.kinds() == ["Obstructed"]


# --- orders while running -----------------------------------------------------------------


async def test_nothing_is_said_while_everything_is_equal() -> None:
    world = started()
    world.bot.place("mm-run-1")
    await world.run(60)
    assert world.kinds() == ["OrderOpened"]
    assert not world.bot.doubted
    assert world.venue.asked.count("open") == 12
    assert world.venue.asked.count("holdings") in (4, 5)


async def test_the_times_between_two_looks_can_be_chosen() -> None:
    world = started()
    world.reconciler._periods = Periods(orders=20 * NS_PER_S, position=3 * NS_PER_S)
    await world.run(59)
    assert world.venue.asked.count("open") == 3
    assert world.venue.asked.count("holdings") >= 17


async def test_a_missing_order_is_asked_about() -> None:
    world = started()
    world.bot.place("mm-run-1")
    world.bot.place("mm-run-2")
    world.venue.end("mm-run-1")
    await world.run(20)
    assert world.bot.doubted == ["mm-run-1"]
    assert [order.order_id for order in world.bot.working()] == ["mm-run-2"]


async def test_a_lagging_list_makes_nobody_doubt() -> None:
    # F54: orders come and go, the list is two seconds old
    world = started()
    world.venue.lag_s = 2.0
    for n in range(60):
        world.time.plan(n, lambda n=n: world.bot.place(f"mm-run-{n}"))
        world.time.plan(n + 0.7, lambda n=n: end_here_and_there(world, f"mm-run-{n}"))
    await world.run(62)
    assert not world.bot.doubted
    assert not world.bot.cancelled
    assert not obstacles(world)


def end_here_and_there(world: World, order_id: str) -> None:
    world.venue.end(order_id)
    world.bot._resolve(order_id)


async def test_an_order_that_differs_is_asked_about() -> None:
    world = started()
    world.bot.place("mm-run-1")
    world.venue.orders["mm-run-1"] = replace(world.venue.orders["mm-run-1"], tick=99)
    world.venue.keep()
    await world.run(12)
    assert "mm-run-1" in world.bot.doubted


async def test_a_stray_is_cancelled() -> None:
    world = started()
    world.venue.rest("mm-run-7")
    await world.run(12)
    assert world.bot.cancelled == ["mm-run-7"]
    assert world.log.of("stray_cancelled") == [{"order": "mm-run-7"}]


async def test_strays_of_another_run_time_and_again_are_another_instance() -> None:
    # F29
    world = started()
    for n in range(3):
        world.time.plan(20 * n, lambda n=n: world.venue.rest(f"mm-other-{n}"))
    with pytest.raises(AnotherInstance):
        await world.run(100)
    assert world.bot.cancelled == ["mm-other-0", "mm-other-1", "mm-other-2"]


async def test_a_foreign_order_is_reported_once_and_left_alone() -> None:
    # F60
    world = started()
    world.venue.rest("web_1")
    await world.run(60)
    assert world.log.of("foreign_order") == [{"order": "web_1"}]
    assert not world.bot.cancelled
    assert world.venue.orders["web_1"].status is Status.OPEN


async def test_doubts_are_asked_ten_at_a_time() -> None:
    world = started()
    world.bot.heals = False
    for n in range(25):
        world.bot.place(f"mm-run-{n}")
        world.venue.end(f"mm-run-{n}")
    world.venue.rest("web_1")  # the list is not empty
    await world.run(11)  # two readings that are not too early
    assert len(world.bot.doubted) == 10


async def test_a_nudge_brings_the_next_look_forward() -> None:
    world = started()
    for at in (0.5, 0.6, 1.0):
        world.time.plan(at, world.reconciler.nudge)
    await world.run(4.5)
    assert world.venue.asked.count("open") == 2


async def test_a_request_without_an_answer_is_asked_about() -> None:
    world = started()
    world.bot.place("mm-run-1")
    world.bot.orders.cancel_sent("mm-run-1", world.time.at)
    await world.run(OVERDUE_NS / NS_PER_S + 2.5)
    assert world.bot.doubted[0] == "mm-run-1"


@pytest.mark.parametrize("answer", [LOST, "garbage", []])
async def test_three_bad_lists_in_a_row_obstruct_until_a_good_one(answer: object) -> None:
    # F55: an error, garbage, or nothing although an order rests
    world = started()
    world.bot.place("mm-run-1")
    world.venue.rest("web_1")
    world.venue.faults = {"open": [answer] * 2}
    await world.run(13)
    assert not obstacles(world)
    world.venue.faults = {"open": [answer] * 3}
    await world.run(18)
    assert obstacles(world) == ["Obstructed", "Cleared"]
    assert not world.bot.cancelled


# --- position while running ---------------------------------------------------------------


async def test_a_missed_fill_is_pulled_and_booked() -> None:
    # F09 without a reconnect: the stream swallowed one event
    world = started()
    world.bot.place("mm-run-1")
    world.venue.fill("mm-run-1", 5)
    await world.run(60)
    assert world.bot.position_lots == 5
    assert world.bot.doubted
    assert "PositionAdopted" not in world.kinds()


async def test_a_position_that_nothing_explains_is_adopted_with_an_alert() -> None:
    # F60: somebody trades by hand
    world = started(lots=4)
    world.time.plan(16, lambda: setattr(world.venue, "position", Decimal("-0.002")))
    world.time.plan(16.001, world.venue.keep)
    await world.run(60)
    assert world.bot.position_lots == -2
    (adopted,) = [e for e in world.bot.told if isinstance(e, PositionAdopted)]
    assert (adopted.lots, adopted.reason) == (-2, "reconcile")
    assert obstacles(world) == ["Obstructed", "Cleared"]
    assert world.log.of("position_adopted") == [{"believed_lots": 4, "venue_lots": -2}]
    assert ("error", "position_mismatch", {"off_lots": -6}) in world.log.lines


async def test_a_fill_of_an_ended_order_is_recovered() -> None:
    world = started()
    world.venue.rest("mm-old-1", Side.SELL)
    world.venue.fill("mm-old-1", 5)
    await world.run(40)
    assert world.bot.position_lots == -5
    assert [type(e) for e in world.bot.told if isinstance(e, Filled | FillRecovered)] == [
        FillRecovered
    ]


async def test_one_lagging_reading_is_no_mismatch() -> None:
    # F80
    world = started(lots=4)
    stale = Holdings(Decimal("0.001"), Decimal(0))
    world.venue.faults = {"holdings": [stale, None, stale, None, stale, None, stale]}
    await world.run(120)
    assert not world.bot.told


async def test_a_busy_account_is_made_quiet_before_it_is_judged() -> None:
    world = started(lots=4)
    world.venue.position = Decimal("0.001")
    world.venue.keep()
    for n in range(600):
        world.time.plan(n / 10, lambda: world.bot.obstructed or act(world))
    await world.run(60)
    assert world.bot.position_lots == 1
    assert obstacles(world) == ["Obstructed", "Cleared"]


def act(world: World) -> None:
    world.bot.active_at = world.time.at


async def test_an_empty_account_after_a_fill_obstructs_and_is_not_believed() -> None:
    # F55
    world = started(lots=4)
    world.bot.filled_at = world.time.at + 15 * NS_PER_S
    world.venue.faults = {"holdings": [NOTHING] * 3}
    await world.run(30)
    assert obstacles(world) == ["Obstructed", "Cleared"]
    assert world.bot.position_lots == 4


async def test_failed_readings_of_the_position_obstruct_until_a_good_one() -> None:
    world = started(lots=4)
    world.venue.faults = {"holdings": [LOST] * 3}
    await world.run(30)
    assert obstacles(world) == ["Obstructed", "Cleared"]
    assert world.bot.position_lots == 4


async def test_a_balance_less_its_fees_is_equal() -> None:
    world = started(spot=True)
    world.bot.place("mm-run-1", lots=2_000)
    world.venue.fill("mm-run-1", 2_000, Decimal("0.002"), "BTC")
    world.bot.apply(
        Filled(T0, "mm-run-1", "t1", Side.BUY, 100, 2_000, True, 2_000, Decimal("0.002"), "BTC")
    )
    await world.run(60)
    assert world.venue.position == Decimal("2.998")
    assert "PositionAdopted" not in world.kinds()
    assert not obstacles(world)


# --- a private stream that was away -------------------------------------------------------


async def test_after_a_reconnect_fills_are_pulled_before_anything_rests() -> None:
    # F09, F11
    world = started()
    world.bot.place("mm-run-1")
    world.bot.place("mm-run-2")
    await world.time.sleep(30)
    world.venue.fill("mm-run-1", 3)
    world.venue.fill("mm-run-2", 5)
    await world.reconciler.reconnected()
    await world.time.sleep(0.1)
    assert obstacles(world) == ["Obstructed", "Cleared"]
    cleared = world.kinds().index("Cleared")
    assert not [e for e in world.bot.told[cleared:] if isinstance(e, Filled)]
    assert world.bot.position_lots == 8
    assert not world.bot.working()  # the obstacle took the rest out
    assert not world.log.of("position_adopted")


async def test_a_reconnect_asks_for_orders_executions_and_the_position_twice() -> None:
    world = started()
    await world.reconciler.reconnected()
    assert world.venue.asked == ["open", "fills", "holdings", "holdings"]
    assert world.kinds() == ["Obstructed", "Cleared"]


async def test_a_cancel_whose_answer_is_lost_does_not_hold_a_reconnect_for_ever() -> None:
    # F12
    world = started()
    world.bot.withdraws = False
    world.bot.place("mm-run-1")
    await world.time.sleep(0.1)
    world.bot.orders.cancel_sent("mm-run-1", world.time.at)
    world.venue.end("mm-run-1")
    settling = asyncio.create_task(world.reconciler.reconnected())
    world.time.plan(30, settling.cancel)
    await settling
    await world.time.sleep(0.1)
    assert not world.bot.working()
    assert world.bot.doubted == ["mm-run-1"]
    assert obstacles(world) == ["Obstructed", "Cleared"]


async def test_executions_that_appear_late_are_recovered_and_not_adopted() -> None:
    world = started()
    world.venue.rest("mm-old-1", Side.SELL)
    world.venue.fill("mm-old-1", 5)
    world.venue.faults = {"fills": [[]]}
    await world.reconciler.reconnected()
    await world.time.sleep(0.1)
    assert world.bot.position_lots == -5
    assert world.kinds() == ["Obstructed", "FillRecovered", "Cleared"]


async def test_executions_are_found_though_the_venue_s_clock_is_behind() -> None:
    world = started()
    world.venue.rest("mm-old-1", Side.SELL)
    await world.run(20)
    world.venue.fill("mm-old-1", 5)
    world.venue.fills[0] = replace(world.venue.fills[0], at=world.time.at - 40 * NS_PER_S)
    await world.reconciler.reconnected()
    await world.time.sleep(0.1)
    assert world.bot.position_lots == -5
    assert "PositionAdopted" not in world.kinds()


async def test_a_position_that_moves_while_it_is_asked_for_is_not_compared() -> None:
    world = started(lots=4)
    told = FillRecovered(T0, "mm-old-1", "t1", Side.BUY, 100, 5, True)
    world.time.plan(0.01, lambda: world.bot.apply(told))
    assert await world.reconciler._stand() is Standing.UNDECIDED
    assert world.reconciler._position.before is None


async def test_two_reasons_are_one_obstacle() -> None:
    world = started(lots=4)
    world.venue.faults = {"open": [LOST] * 5, "holdings": [LOST] * 5}
    await world.run(40)
    assert obstacles(world) == ["Obstructed", "Cleared"]
    cleared = next(e for e in world.bot.told if isinstance(e, Cleared))
    assert cleared.at - T0 >= 25 * NS_PER_S  # not before the orders could be read


async def test_a_reconnect_lasts_as_long_as_the_venue_does_not_answer() -> None:
    world = started()
    world.venue.rest("mm-old-1")
    world.venue.fill("mm-old-1", 5)
    world.venue.faults = {"open": [LOST] * 2, "fills": [LOST, "garbage"], "holdings": [LOST] * 2}
    await world.reconciler.reconnected()
    await world.time.sleep(0.1)
    assert obstacles(world) == ["Obstructed", "Cleared"]
    assert world.bot.position_lots == 5


async def test_an_unknown_order_keeps_everything_obstructed() -> None:
    world = started()
    world.bot.heals = False
    world.bot.place("mm-run-1", at_venue=False)
    await world.time.sleep(0.1)
    world.bot.orders.cancel_sent("mm-run-1", world.time.at)
    settling = asyncio.create_task(world.reconciler.reconnected())
    world.time.plan(30, settling.cancel)
    with pytest.raises(asyncio.CancelledError):
        await settling
    assert obstacles(world) == ["Obstructed"]


async def test_a_reconnect_and_the_comparison_take_turns() -> None:
    world = started(lots=4)
    world.venue.position = Decimal("0.001")
    world.venue.keep()
    task = asyncio.create_task(world.reconciler.reconnected())
    await world.run(60)
    await task
    assert world.bot.position_lots == 1
    assert obstacles(world) == ["Obstructed", "Cleared"]
    assert len([e for e in world.bot.told if isinstance(e, PositionAdopted)]) == 1


async def test_nothing_is_booked_twice_whoever_tells_of_it() -> None:
    # F22: the stream repeats what was pulled
    world = started()
    world.bot.place("mm-run-1")
    world.venue.fill("mm-run-1", 3)
    await world.reconciler.reconnected()
    await world.reconciler.reconnected()
    await world.time.sleep(0.1)
    assert world.bot.position_lots == 3


async def test_what_traded_before_the_first_run_is_in_its_position() -> None:
    # the journals are lost, and the stream breaks within the overlap of the histories
    world = World()
    world.venue.rest("mm-old-1")
    world.venue.fill("mm-old-1", 3)
    await world.reconciler.start(None)
    await world.time.sleep(5)
    await world.reconciler.reconnected()
    await world.time.sleep(0.1)
    assert world.bot.position_lots == 3
    assert "FillRecovered" not in world.kinds()


async def test_what_earlier_journals_hold_is_not_recovered_after_a_reconnect() -> None:
    # F22
    world = World()
    world.venue.rest("mm-old-1")
    world.venue.fill("mm-old-1", 3)
    keys = {("mm-old-1", "t1", Side.BUY): T0}
    past = previous(position=Decimal("0.003"), keys=keys, last_at=T0)
    await world.reconciler.start(past)
    await world.reconciler.reconnected()
    await world.time.sleep(0.1)
    assert world.bot.position_lots == 3
    assert "FillRecovered" not in world.kinds()
