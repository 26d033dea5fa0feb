"""The inbox keeps order and limits, wakes its consumer, and loses nothing silently."""

import asyncio
import sys
import time

import pytest

from bot.domain.events import FeedLost, FeedOpened, OrderOpened
from bot.shell.clock import Clock
from bot.shell.inbox import Frame, Inbox, InboxFull

MS = 1_000_000


def make(frames_max: int = 100, bytes_max: int = 10_000, events_max: int = 100) -> Inbox:
    return Inbox(Clock(), frames_max=frames_max, bytes_max=bytes_max, events_max=events_max)


def test_items_come_out_in_arrival_order():
    inbox = make()
    inbox.put_frame(1, b"a")
    inbox.put_event(OrderOpened(2, "x"))
    inbox.put_frame(3, b"b")
    assert inbox.drain(2) == [Frame(1, b"a"), OrderOpened(2, "x")]
    assert inbox.drain(10) == [Frame(3, b"b")]
    assert inbox.drain(10) == []


@pytest.mark.parametrize("limits", [{"frames_max": 3}, {"bytes_max": 6}])
def test_frames_beyond_a_limit_become_one_marker(limits):
    inbox = make(**limits)
    for i in range(10):
        inbox.put_frame(i, b"ab")
    assert repr(inbox) == "<Inbox frames=3 bytes=6 events=0 overflown>"
    assert inbox.drain(100) == [
        Frame(0, b"ab"),
        Frame(1, b"ab"),
        Frame(2, b"ab"),
        FeedLost(3, "overflow"),
    ]
    assert (inbox.dropped, inbox.overflows) == (7, 1)
    assert repr(inbox) == "<Inbox frames=0 bytes=0 events=0>"


def test_nothing_is_accepted_between_a_loss_and_its_discovery():
    inbox = make(frames_max=2)
    for i in range(3):
        inbox.put_frame(i, b"a")
    assert len(inbox.drain(2)) == 2  # there is room again, but the marker is not taken yet
    inbox.put_frame(4, b"remnant")
    assert inbox.drain(10) == [FeedLost(2, "overflow")]
    inbox.put_frame(5, b"fresh")
    assert inbox.drain(10) == [Frame(5, b"fresh")]
    assert (inbox.dropped, inbox.overflows) == (2, 1)


def test_a_second_overflow_has_its_own_marker():
    inbox = make(frames_max=1)
    for at in (0, 10):
        inbox.put_frame(at, b"a")
        inbox.put_frame(at + 1, b"a")
        assert inbox.drain(10) == [Frame(at, b"a"), FeedLost(at + 1, "overflow")]
    assert inbox.overflows == 2


def test_events_pass_while_frames_overflow():
    inbox = make(frames_max=1)
    inbox.put_frame(0, b"a")
    inbox.put_frame(1, b"a")
    inbox.put_event(OrderOpened(2, "x"))
    assert inbox.drain(10)[-1] == OrderOpened(2, "x")


def test_too_many_events_raise_and_none_is_lost():
    inbox = make(events_max=3)
    events = [FeedOpened(i, "public") for i in range(3)]
    for event in events:
        inbox.put_event(event)
    with pytest.raises(InboxFull, match="3 events"):
        inbox.put_event(OrderOpened(9, "x"))
    assert inbox.drain(10) == events
    inbox.put_event(OrderOpened(9, "x"))


async def test_wait_returns_when_something_comes():
    inbox = make()
    waiting = asyncio.create_task(inbox.wait(None))
    await asyncio.sleep(0)
    assert not waiting.done()
    inbox.put_frame(1, b"a")
    inbox.put_frame(2, b"b")  # a second one before the consumer runs does no harm
    await asyncio.wait_for(waiting, 1)
    assert len(inbox) == 2


async def test_wait_returns_at_the_deadline():
    clock = Clock()
    inbox = Inbox(clock, frames_max=1, bytes_max=1)
    until = clock.now() + 20 * MS
    await asyncio.wait_for(inbox.wait(until), 1)
    assert until - 2 * MS <= clock.now() < until + 500 * MS
    assert len(inbox) == 0


async def test_a_deadline_in_the_past_returns_at_once():
    await asyncio.wait_for(make().wait(0), 1)


async def test_wait_lets_others_run_even_if_something_is_here():
    inbox = make()
    inbox.put_frame(1, b"a")
    ran = []
    asyncio.get_running_loop().call_soon(ran.append, 1)
    await inbox.wait(None)
    assert ran == [1]


async def test_a_cancelled_wait_leaves_a_usable_inbox():
    inbox = make()
    waiting = asyncio.create_task(inbox.wait(None))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    inbox.put_frame(1, b"a")
    await asyncio.wait_for(inbox.wait(None), 1)
    assert inbox.drain(1) == [Frame(1, b"a")]


async def test_a_second_consumer_is_refused():
    inbox = make()
    waiting = asyncio.create_task(inbox.wait(None))
    await asyncio.sleep(0)
    with pytest.raises(AssertionError, match="one consumer"):
        await inbox.wait(None)
    waiting.cancel()


async def test_a_deadline_far_away_does_not_outlive_its_wait():
    inbox = make()
    waiting = asyncio.create_task(inbox.wait(Clock().now() + 3_600_000 * MS))
    await asyncio.sleep(0)
    inbox.put_frame(1, b"a")
    await asyncio.wait_for(waiting, 1)
    inbox.drain(1)
    scheduled = getattr(asyncio.get_running_loop(), "_scheduled", [])
    assert all(handle.cancelled() for handle in scheduled)


def test_a_frame_costs_microseconds():
    inbox = make(frames_max=10**6, bytes_max=10**9)
    raw = b"x" * 300
    began = time.perf_counter_ns()
    for i in range(100_000):
        inbox.put_frame(i, raw)
    taken = 0
    while batch := inbox.drain(256):
        taken += len(batch)
    each = (time.perf_counter_ns() - began) / 100_000
    sys.stdout.write(f"\nput + drain: {each:.0f} ns a frame\n")
    assert taken == 100_000
    assert each < 20_000
