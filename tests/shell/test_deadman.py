"""The countdown and the required watchdog, over a venue and files of the test's own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bot.domain.events import Cleared, Obstructed
from bot.shell.deadman import COUNTDOWN_MS_MIN, Countdown, WatchdogRequired
from bot.shell.heartbeat import Heartbeat, State
from bot.shell.wire import CallFailed
from bot.venues.orderentry import Call, Priority, Refusal, Verdict
from tests.shell.virtual import START, VirtualClock, seconds, virtually

UNKNOWN = Refusal(Verdict.UNKNOWN, "timeout")
T_S = 10.0


class Venue:
    """A venue with one countdown; `refusals` are used up one an attempt, `stuck` never answers.

    `asked` holds (second, countdown in ms), attempts that failed included.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[float, int]] = []
        self.refusals: list[Refusal] = []
        self.stuck = False
        self.away = False
        self.fires_at: float | None = None
        self.delay_s = 0.0

    def countdown(self, ms: int) -> Call:
        return Call("countdown", {"ms": ms}, Priority.CANCEL, weight=10)

    async def call(self, call: Call) -> dict[str, str]:
        ms = call.params["ms"]
        self.asked.append((seconds(), ms))
        if self.stuck:
            await asyncio.Event().wait()
        await asyncio.sleep(self.delay_s)
        if self.away or self.refusals:
            raise CallFailed(self.refusals.pop(0) if self.refusals else UNKNOWN)
        self.fires_at = seconds() + ms / 1_000 if ms else None
        return {"countdownTime": str(ms)}

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.asked]


class Bench:
    """A countdown of 10 s, what it said, and the health that it asks for."""

    def __init__(self) -> None:
        self.said: list[tuple[float, str]] = []
        self.details: list[str] = []
        self.healthy = True
        self.venue = Venue()
        self.dead_man = Countdown(
            self.venue.call,
            self.venue,
            self.put,
            VirtualClock(),
            lambda: self.healthy,
            time_ms=10_000,
        )

    def put(self, event: Obstructed | Cleared) -> None:
        assert event.what == "dead_man"
        assert event.at == START + round(seconds() * 1e9)
        self.said.append((seconds(), type(event).__name__))
        if isinstance(event, Obstructed):
            self.details.append(event.detail)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.dead_man.run())
        yield
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])


@virtually
async def test_it_obstructs_until_it_is_armed_and_then_refreshes_every_quarter() -> None:
    bench = Bench()
    assert bench.said == [(0.0, "Obstructed")]
    assert not bench.dead_man.armed
    async with bench.running():
        await asyncio.sleep(26)
    assert bench.said == [(0.0, "Obstructed"), (0.0, "Cleared")]
    assert bench.venue.asked == [(i * 2.5, 10_000) for i in range(11)]
    assert bench.dead_man.armed


@virtually
async def test_no_order_may_rest_before_the_venue_has_answered() -> None:
    bench = Bench()
    bench.venue.delay_s = 0.3
    async with bench.running():
        await asyncio.sleep(0.2)
        assert [name for _, name in bench.said] == ["Obstructed"]
        await asyncio.sleep(0.2)
    assert bench.said[1:] == [(0.3, "Cleared")]


@virtually
async def test_it_is_armed_when_it_becomes_healthy() -> None:
    bench = Bench()
    bench.healthy = False
    async with bench.running():
        await asyncio.sleep(5.1)
        assert bench.venue.asked == []
        bench.healthy = True
        await asyncio.sleep(0.25)
    assert bench.said[1:] == [(5.25, "Cleared")]


@virtually
async def test_one_failed_refresh_is_tolerated() -> None:
    # F49
    bench = Bench()
    async with bench.running():
        await asyncio.sleep(1)
        bench.venue.refusals = [UNKNOWN]
        await asyncio.sleep(9)
    assert bench.venue.times == [0.0, 2.5, 3.75, 6.25, 8.75]
    assert [name for _, name in bench.said] == ["Obstructed", "Cleared"]


@virtually
async def test_three_failed_refreshes_in_a_row_are_not() -> None:
    # F49
    bench = Bench()
    async with bench.running():
        await asyncio.sleep(1)
        bench.venue.refusals = [UNKNOWN] * 3
        await asyncio.sleep(10)
    assert bench.venue.times[:4] == [0.0, 2.5, 3.75, 5.0]
    assert bench.said[2:] == [(5.0, "Obstructed"), (7.5, "Cleared")]
    # It was said before the venue's own countdown could fire.
    assert bench.said[2][0] < 10.0


@virtually
@pytest.mark.parametrize("fault", ["stuck", "away"])
async def test_half_of_the_time_without_success_is_too_much(fault: str) -> None:
    # F53: nothing of ours arrives any more, whatever we still hear
    bench = Bench()
    async with bench.running():
        await asyncio.sleep(1)
        setattr(bench.venue, fault, True)
        await asyncio.sleep(30)
        assert bench.said[2:] == [(5.0, "Obstructed")]
        setattr(bench.venue, fault, False)
        await asyncio.sleep(3)
    assert [name for _, name in bench.said[3:]] == ["Cleared"]


@virtually
async def test_a_first_attempt_that_fails_leaves_the_obstacle() -> None:
    bench = Bench()
    bench.venue.refusals = [UNKNOWN] * 2
    async with bench.running():
        await asyncio.sleep(2)
        assert len(bench.said) == 1
        await asyncio.sleep(2)
    assert bench.said[1:] == [(2.5, "Cleared")]


@virtually
async def test_an_unhealthy_bot_lets_the_countdown_fire() -> None:
    # F50: killed is unhealthy
    bench = Bench()
    async with bench.running():
        await asyncio.sleep(3)
        bench.healthy = False
        await asyncio.sleep(60)
        assert bench.venue.times == [0.0, 2.5]
        assert bench.venue.fires_at == 12.5
        assert bench.said[2:] == [(7.5, "Obstructed")]
        bench.healthy = True
        await asyncio.sleep(0.5)
    assert [name for _, name in bench.said[3:]] == ["Cleared"]


@virtually
async def test_a_venue_that_wants_silence_gets_it() -> None:
    bench = Bench()
    async with bench.running():
        await asyncio.sleep(1)
        bench.venue.refusals = [Refusal(Verdict.REJECTED, "banned", limited_s=120.0, banned=True)]
        await asyncio.sleep(130)
    assert bench.venue.times[:3] == [0.0, 2.5, 122.5]
    assert bench.said[2:] == [(5.0, "Obstructed"), (122.5, "Cleared")]


@virtually
async def test_after_it_fired_it_is_set_again_and_orders_wait_for_quiet() -> None:
    # F51
    bench = Bench()
    async with bench.running():
        await asyncio.sleep(3)
        for _ in range(10):  # ten orders expired
            bench.dead_man.fired()
        await asyncio.sleep(2)
        bench.dead_man.fired()  # and one more
        await asyncio.sleep(10)
    assert bench.venue.times[:4] == [0.0, 2.5, 3.0, 5.0]
    assert bench.said[2:] == [(3.0, "Obstructed"), (10.0, "Cleared")]
    assert "fired" in bench.details[1]


@virtually
async def test_a_refresh_that_was_under_way_when_it_fired_proves_nothing() -> None:
    bench = Bench()
    bench.venue.delay_s = 0.5
    async with bench.running():
        await asyncio.sleep(2.6)
        bench.dead_man.fired()
        bench.venue.away = True
        await asyncio.sleep(20)
        assert bench.said[2:] == [(2.6, "Obstructed")]


@virtually
async def test_disarming_stops_the_countdown_and_the_refreshing() -> None:
    bench = Bench()
    async with bench.running():
        await asyncio.sleep(3)
        await bench.dead_man.disarm()
        await asyncio.sleep(60)
        assert bench.venue.asked[-1] == (3.0, 0)
        assert bench.venue.fires_at is None
        assert not bench.dead_man.armed
        await bench.dead_man.arm()
        await asyncio.sleep(5)
    assert [name for _, name in bench.said[2:]] == ["Obstructed", "Cleared"]
    assert bench.venue.times[-3:] == [3.0, 63.0, 65.5]


@virtually
async def test_a_refresh_that_waits_behind_the_disarming_does_not_arm_again() -> None:
    bench = Bench()
    await bench.dead_man.arm()
    bench.venue.delay_s = 0.2
    await asyncio.gather(bench.dead_man.disarm(), bench.dead_man.refresh())
    assert [ms for _, ms in bench.venue.asked] == [10_000, 0]
    assert bench.venue.fires_at is None


@virtually
async def test_a_disarming_that_fails_is_nobodys_concern() -> None:
    bench = Bench()
    await bench.dead_man.arm()
    bench.venue.away = True
    await bench.dead_man.disarm()
    assert not bench.dead_man.armed
    assert repr(bench.dead_man) == ("<Countdown 10000 ms failures=0 <Obstacle dead_man stands>>")


def test_a_short_countdown_is_a_mistake() -> None:
    async def call(call: Call) -> None: ...

    with pytest.raises(AssertionError, match="too short"):
        Countdown(
            call,
            Venue(),
            lambda event: None,
            VirtualClock(),
            lambda: True,
            time_ms=COUNTDOWN_MS_MIN - 1,
        )


class Watched:
    """A bot that requires a watchdog, and the watchdog's heartbeat."""

    def __init__(self, folder: Path) -> None:
        self.said: list[tuple[float, str]] = []
        self.path = folder / "x.watchdog"
        self.clock = VirtualClock()
        self.turns = 0
        self.dead_man = WatchdogRequired(
            self.path, self.put, self.clock, venue="binance-spot", symbol="BTCUSDT"
        )

    def put(self, event: Obstructed | Cleared) -> None:
        assert event.what == "watchdog"
        text = event.detail if isinstance(event, Obstructed) else "cleared"
        self.said.append((seconds(), text))

    def heart(self, symbol: str = "BTCUSDT") -> Heartbeat:
        return Heartbeat(
            self.path, self.clock, epoch="w", venue="binance-spot", symbol=symbol, state=State.BLIND
        )

    async def beats(self, heart: Heartbeat, for_s: float, state: State = State.WATCHING) -> None:
        for _ in range(round(for_s / 0.25)):
            self.turns += 1
            heart.beat(self.turns, state)
            await asyncio.sleep(0.25)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.dead_man.run())
        yield
        task.cancel()
        await asyncio.wait([task])


@virtually
async def test_the_watchdog_must_be_seen_to_move(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    heart = watched.heart()
    heart.beat(7, State.WATCHING)  # and then it died
    async with watched.running():
        await asyncio.sleep(5)
        assert len(watched.said) == 1
        watched.turns = 7
        await watched.beats(heart, 1)
        assert watched.said[1][0] in (5.0, 5.25)
        assert watched.said[1][1] == "cleared"
        await asyncio.sleep(10)
    ((at, text),) = watched.said[2:]
    assert "no sign of life" in text
    assert 8.75 <= at <= 9.25
    heart.close()


@virtually
async def test_a_watchdog_without_a_venue_or_for_another_symbol_is_none(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    async with watched.running():
        heart = watched.heart()
        await watched.beats(heart, 2, State.BLIND)
        assert len(watched.said) == 1
        await watched.beats(heart, 2)
        assert watched.said[-1][1] == "cleared"
        await watched.beats(heart, 2, State.BLIND)
        assert watched.said[-1][1] == "the watchdog cannot reach the venue"
        heart.close()
        heart = watched.heart("ETHUSDT")
        watched.turns = 0
        await watched.beats(heart, 2)
        assert len(watched.said) == 3
        heart.close()


@virtually
async def test_orders_that_ended_unrequested_are_waited_for_on_spot_too(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    heart = watched.heart()
    async with watched.running():
        await watched.beats(heart, 2)
        watched.dead_man.fired()
        await watched.beats(heart, 10)
        await watched.dead_man.disarm()
        await watched.beats(heart, 2)
    assert [(round(at), text) for at, text in watched.said[2:4]] == [
        (2, "orders ended as if the watchdog had cancelled them"),
        (7, "cleared"),
    ]
    assert watched.said[4][1] == "the watchdog is not asked for any longer"
    assert not watched.dead_man.armed
    assert "<Obstacle watchdog stands>" in repr(watched.dead_man)
    heart.close()
