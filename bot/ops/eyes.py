"""Many eyes on one run: what the pump tells one, it tells all."""

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from bot.domain.decisions import Decision
from bot.domain.events import Event, FeedEvent

Seen = TypeVar("Seen", contravariant=True)


class Eye(Protocol[Seen]):
    """Watches a run without taking part; `Seen` is what it wants of the engine."""

    def trust(self, now: int, trusted: bool) -> None:
        """The book became trusted, or stopped being so."""
        ...

    def learned(self, event: Event | FeedEvent, engine: Seen) -> None:
        """An event other than a market frame was learned."""
        ...

    def decided(self, now: int, decisions: Sequence[Decision], engine: Seen) -> None:
        """A decision was made."""
        ...


class Eyes(Generic[Seen]):
    """Passes everything on, in the order in which the eyes were given."""

    __slots__ = ("_eyes",)

    def __init__(self, *eyes: Eye[Seen]) -> None:
        self._eyes = eyes

    def trust(self, now: int, trusted: bool) -> None:
        """The book became trusted, or stopped being so."""
        for eye in self._eyes:
            eye.trust(now, trusted)

    def learned(self, event: Event | FeedEvent, engine: Seen) -> None:
        """An event other than a market frame was learned."""
        for eye in self._eyes:
            eye.learned(event, engine)

    def decided(self, now: int, decisions: Sequence[Decision], engine: Seen) -> None:
        """A decision was made."""
        for eye in self._eyes:
            eye.decided(now, decisions, engine)

    def __repr__(self) -> str:
        return f"<Eyes {', '.join(type(eye).__name__ for eye in self._eyes)}>"
