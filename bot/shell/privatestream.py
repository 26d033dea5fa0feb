"""The private stream held open: while it is not, no order may rest.

    open -> pull what was missed -> clear        Cleared
    lost -> obstruct -> back off -> open          Obstructed

A message that cannot be read ends the stream: what it said is then pulled like anything missed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final, Protocol

import structlog

from bot.domain.events import Cleared, Obstructed
from bot.shell.clock import Clock
from bot.shell.inbox import Inbox
from bot.shell.outbox import Tasks
from bot.shell.wire import StreamLost

OBSTACLE: Final = "private_stream"
BACK_OFF_S: Final = 0.25  # the first wait; doubled up to the longest, less up to half by chance
BACK_OFF_S_MAX: Final = 8.0


class Line(Protocol):
    """As much of a `Wire` as the stream needs."""

    def listen(
        self, heard: Callable[[Mapping[str, Any]], None], opened: Callable[[], None]
    ) -> Coroutine[Any, Any, None]: ...

    def end_stream(self, why: str) -> None: ...


class PrivateStream:
    """Runs for as long as the bot trades.

    `heard` learns a message and says whether more will come. `opened` pulls what was missed;
    it is awaited before the obstacle is cleared. `guard` calls what must not fail unseen.
    """

    def __init__(
        self,
        line: Line,
        heard: Callable[[Mapping[str, Any]], bool],
        opened: Callable[[], Awaitable[None]],
        inbox: Inbox,
        clock: Clock,
        tasks: Tasks,
        guard: Callable[[Callable[[], None]], None],
    ) -> None:
        self._line = line
        self._heard = heard
        self._on_open = opened
        self._inbox = inbox
        self._clock = clock
        self._tasks = tasks
        self._guard = guard
        self._log = structlog.get_logger()
        self._session = 0  # counts openings
        self._failures = 0  # in a row
        self.open = False
        self.losses = 0
        self.messages = 0

    async def run(self) -> None:
        """Hold the stream open until cancelled."""
        while True:
            try:
                await self._line.listen(self._hear, self._opened)
            except StreamLost as lost:
                self._lost(str(lost))
            wait = min(BACK_OFF_S_MAX, BACK_OFF_S * 2.0**self._failures)
            self._failures += 1
            await asyncio.sleep(wait * (1.0 - 0.5 * self._clock.jitter()))

    def restart(self, why: str) -> None:
        """End the stream and open it anew: it is alive but not to be believed."""
        self._line.end_stream(why)

    def _lost(self, why: str) -> None:
        self._session += 1
        self.losses += self.open
        self.open = False
        self._log.warning("private_stream_lost", why=why)
        self._inbox.put_event(Obstructed(self._clock.now(), OBSTACLE, why[:200]))

    def _opened(self) -> None:
        self._failures = 0
        self.open = True
        self._tasks.start(self._catch_up(self._session), "catch up")

    async def _catch_up(self, session: int) -> None:
        await self._on_open()
        if self.open and session == self._session:
            self._inbox.put_event(Cleared(self._clock.now(), OBSTACLE))

    def _hear(self, message: Mapping[str, Any]) -> None:
        self._guard(lambda: self._learn(message))

    def _learn(self, message: Mapping[str, Any]) -> None:
        self.messages += 1
        try:
            more = self._heard(message)
        except ValueError as error:
            self._log.error("private_message_unreadable", error=str(error))
            more = False
        if not more:
            self.restart("ended")

    def __repr__(self) -> str:
        return f"<PrivateStream {'open' if self.open else 'shut'} losses={self.losses}>"
