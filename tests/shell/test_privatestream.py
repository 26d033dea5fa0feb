"""The private stream: nothing may rest before it is open and what was missed is pulled."""

import asyncio
from collections.abc import Mapping
from typing import Any

from bot.domain.events import Cleared, Obstructed
from bot.shell.inbox import Inbox
from bot.shell.outbox import Tasks
from bot.shell.privatestream import PrivateStream
from tests.shell.fakevenue import FakeStream
from tests.shell.virtual import VirtualClock, virtually


class Scene:
    """A stream over a fake line, with a log of what happened."""

    def __init__(self) -> None:
        clock = VirtualClock()
        self.inbox = Inbox(clock, frames_max=10, bytes_max=10)
        self.line = FakeStream()
        self.log: list[str] = []
        self.broken: list[Exception] = []
        self.unreadable = False
        self.more = True
        self.pull_s = 0.1
        self.tasks = Tasks(self.broken.append)
        self.stream = PrivateStream(
            self.line,
            self.heard,
            self.opened,
            self.inbox,
            clock,
            self.tasks,
            lambda work: work(),
        )
        self.running = asyncio.create_task(self.stream.run())

    def heard(self, message: Mapping[str, Any]) -> bool:
        if self.unreadable:
            raise ValueError("no price")
        self.log.append(str(message["e"]))
        return self.more

    async def opened(self) -> None:
        self.log.append("pull")
        await asyncio.sleep(self.pull_s)
        self.log.append("pulled")

    def events(self) -> list[str]:
        """What reached the inbox since the last look."""
        found = []
        for one in self.inbox.drain(1_000):
            assert isinstance(one, Obstructed | Cleared)
            assert one.what == "private_stream"
            found.append(type(one).__name__)
        return found

    async def close(self) -> None:
        self.running.cancel()
        await asyncio.wait([self.running])
        await self.tasks.close()
        assert self.broken == []


@virtually
async def test_an_opened_stream_clears_behind_what_it_missed() -> None:
    scene = Scene()
    await asyncio.sleep(0.05)
    assert scene.stream.open
    assert scene.events() == []  # the pull is under way
    await asyncio.sleep(0.1)
    assert scene.log == ["pull", "pulled"]
    assert scene.events() == ["Cleared"]
    await scene.close()


@virtually
async def test_a_lost_stream_obstructs_at_once_and_comes_back() -> None:
    scene = Scene()
    await asyncio.sleep(1.0)
    scene.events()
    scene.line.end_stream("cut")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert scene.events() == ["Obstructed"]
    assert not scene.stream.open
    await asyncio.sleep(1.0)
    assert scene.events() == ["Cleared"]
    assert (scene.line.openings, scene.stream.losses) == (2, 1)
    await scene.close()


@virtually
async def test_a_stream_lost_while_it_is_pulled_is_not_cleared() -> None:
    scene = Scene()
    scene.pull_s = 5.0
    await asyncio.sleep(1.0)
    scene.line.end_stream("cut")
    await asyncio.sleep(4.9)  # the first pull has ended, the second has not
    assert scene.events() == ["Obstructed"]
    await asyncio.sleep(5.0)
    assert scene.events() == ["Cleared"]
    await scene.close()


@virtually
async def test_refusals_are_waited_out_longer_and_longer() -> None:
    scene = Scene()
    scene.line.refusals = 6
    await asyncio.sleep(3.0)
    assert scene.line.openings == 0
    assert 2 <= scene.events().count("Obstructed") <= 5
    await asyncio.sleep(20.0)
    assert scene.line.openings == 1
    assert scene.events()[-1] == "Cleared"
    await scene.close()


@virtually
async def test_messages_are_heard_in_order() -> None:
    scene = Scene()
    await asyncio.sleep(1.0)
    assert scene.line.heard is not None
    for name in "abc":
        scene.line.heard({"e": name})
    assert scene.log[2:] == ["a", "b", "c"]
    assert scene.stream.messages == 3
    await scene.close()


@virtually
async def test_an_unreadable_message_ends_the_stream() -> None:
    scene = Scene()
    await asyncio.sleep(1.0)
    scene.unreadable = True
    assert scene.line.heard is not None
    scene.line.heard({"e": "x"})
    await asyncio.sleep(0.01)
    assert scene.events() == ["Cleared", "Obstructed"]
    await scene.close()


@virtually
async def test_the_venues_last_word_ends_the_stream() -> None:
    scene = Scene()
    await asyncio.sleep(1.0)
    scene.more = False
    assert scene.line.heard is not None
    scene.line.heard({"e": "listenKeyExpired"})
    await asyncio.sleep(1.0)
    assert scene.line.openings == 2
    assert scene.events() == ["Cleared", "Obstructed", "Cleared"]
    await scene.close()
