import asyncio
from contextlib import suppress
from typing import Any

import pytest

from bot.domain.events import Cleared, Obstructed
from bot.domain.units import NS_PER_MS
from bot.shell.venuetime import AGAIN_NS, SAMPLES, VenueTime
from bot.venues.orderentry import Call, Priority
from tests.shell.account import LOST, Time


class VenueClock:
    """A venue whose clock is off by `ahead_ms`, and whose answers take their time."""

    def __init__(self) -> None:
        self.time = Time()
        self.behind_ms = 0.0  # our clock is ahead by so much
        self.there_s, self.back_s = 0.01, 0.01
        self.answers: list[Any] = []  # instead of the next ones; None for the truth
        self.asked = 0
        self.told: list[Obstructed | Cleared] = []
        self.offsets: list[int] = []
        self.clock = VenueTime(
            self.ask, self, self.told.append, self.time, self.offsets.append,
            sleep=self.time.sleep,
        )  # type: ignore[arg-type]  # fmt: skip

    def server_time(self) -> Call:
        return Call("time", {}, Priority.DATA)

    def read_server_time(self, body: Any) -> int:
        if isinstance(body, str):
            raise ValueError(body)
        return int(body)

    async def ask(self, call: Call) -> Any:
        self.asked += 1
        await self.time.sleep(self.there_s)
        theirs = self.time.now() - round(self.behind_ms * NS_PER_MS)
        await self.time.sleep(self.back_s)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return theirs if answer is None else answer

    async def run(self, seconds: float) -> None:
        task = asyncio.create_task(self.clock.run())
        self.time.plan(seconds, task.cancel)
        with suppress(asyncio.CancelledError):
            await task

    def obstacles(self) -> list[str]:
        return [type(event).__name__ for event in self.told]


@pytest.fixture
def venue() -> VenueClock:
    return VenueClock()


@pytest.mark.parametrize("behind_ms", [0, 1_400, -1_400, 3_600_000])
async def test_the_offset_is_what_our_clock_is_ahead(venue: VenueClock, behind_ms: int) -> None:
    # F58: however far it is
    venue.behind_ms = behind_ms
    assert await venue.clock.compare()
    assert venue.offsets == [behind_ms]
    assert venue.clock.ahead_ns == behind_ms * NS_PER_MS
    assert venue.told == []
    assert venue.asked == SAMPLES


async def test_the_fastest_sample_counts(venue: VenueClock) -> None:
    venue.there_s = 0.5  # a slow way there, a quick one back: wrong by 240 ms
    venue.back_s = 0.02
    venue.time.plan(1.2, lambda: setattr(venue, "there_s", 0.02))
    assert await venue.clock.compare()
    assert venue.offsets == [0]
    assert venue.clock.round_trip_ns == 40 * NS_PER_MS


async def test_every_half_minute(venue: VenueClock) -> None:
    await venue.run(300)
    assert venue.asked == 10 * SAMPLES
    assert venue.obstacles() == []


async def test_samples_that_fail_are_left_out(venue: VenueClock) -> None:
    venue.answers = [LOST, "garbage", None, LOST]
    assert await venue.clock.compare()
    assert venue.offsets == [0]
    venue.answers = [LOST] * SAMPLES
    assert not await venue.clock.compare()
    assert venue.offsets == [0]


async def test_a_step_of_seconds_obstructs_until_right_twice(venue: VenueClock) -> None:
    # F58
    venue.time.plan(40, lambda: setattr(venue, "behind_ms", 2_000))
    await venue.run(65)
    assert venue.obstacles() == ["Obstructed"]
    assert venue.offsets == [0, 0, 2_000]
    await venue.run(20)
    assert venue.obstacles() == ["Obstructed", "Cleared"]
    assert venue.told[1].at - venue.told[0].at >= 2 * AGAIN_NS
    assert venue.offsets[3:] == [2_000] * len(venue.offsets[3:])


async def test_a_small_step_is_taken_over_and_looked_at_again(venue: VenueClock) -> None:
    await venue.run(29)
    venue.behind_ms = 200
    await venue.run(9)
    assert venue.offsets == [0, 200, 200]
    assert venue.obstacles() == []


async def test_a_clock_that_wanders_stays_obstructed(venue: VenueClock) -> None:
    for n in range(20):
        venue.time.plan(n * 3, lambda n=n: setattr(venue, "behind_ms", n * 500))
    await venue.run(60)
    assert venue.obstacles() == ["Obstructed"]
    await venue.run(20)
    assert venue.obstacles() == ["Obstructed", "Cleared"]


async def test_a_venue_that_does_not_tell_the_time_for_a_minute(venue: VenueClock) -> None:
    await venue.run(10)
    venue.answers = [LOST] * 1_000
    await venue.run(45)
    assert venue.obstacles() == []
    await venue.run(30)
    assert venue.obstacles() == ["Obstructed"]
    venue.answers = []
    await venue.run(15)
    assert venue.obstacles() == ["Obstructed", "Cleared"]


async def test_answers_too_slow_to_tell_a_step_are_none(venue: VenueClock) -> None:
    venue.there_s, venue.back_s = 0.5, 0.4
    assert not await venue.clock.compare()
    assert venue.offsets == []


async def test_a_refusal_leads_to_one_comparison(venue: VenueClock) -> None:
    await venue.run(10)
    venue.behind_ms = 300
    for _ in range(5):  # five requests were under way
        venue.clock.nudge()
    await venue.run(2)
    assert venue.offsets == [0, 300]
    assert venue.obstacles() == []


async def test_a_storm_of_refusals_pauses_instead_of_asking_for_ever(venue: VenueClock) -> None:
    # F59
    await venue.run(10)
    asked = venue.asked
    for n in range(200):
        venue.time.plan(0.1 + n / 10, venue.clock.nudge)
    await venue.run(20)
    assert venue.obstacles() == ["Obstructed"]
    assert venue.asked - asked <= 6 * SAMPLES
    await venue.run(30)
    assert venue.obstacles() == ["Obstructed", "Cleared"]


async def test_refusals_far_apart_are_each_the_first(venue: VenueClock) -> None:
    await venue.run(10)
    for _ in range(3):
        venue.clock.nudge()
        await venue.run(61)
    assert venue.obstacles() == []


def test_repr(venue: VenueClock) -> None:
    assert repr(venue.clock) == "<VenueTime right ahead_ns=None>"
