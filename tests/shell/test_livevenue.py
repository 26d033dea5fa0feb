"""A real venue as the pump sees it."""

from collections.abc import Sequence

from bot.domain.decisions import Cancel, Request
from bot.shell.livevenue import LiveVenue
from bot.sim.paper import NEVER


class Notes:
    """A gateway that only remembers."""

    def __init__(self) -> None:
        self.done: list[object] = []

    def perform(self, now: int, requests: Sequence[Request]) -> None:
        self.done.append((now, list(requests)))

    def tripped(self) -> None:
        self.done.append("tripped")


def test_requests_and_trips_reach_the_gateway_in_order() -> None:
    notes = Notes()
    venue = LiveVenue(notes)
    venue.tripped()
    venue.perform(7, [Cancel("mm-1")])
    assert notes.done == ["tripped", (7, [Cancel("mm-1")])]


def test_nothing_is_simulated() -> None:
    venue = LiveVenue(Notes())
    venue.collect(1)
    assert venue.due() == NEVER
    assert list(venue.release(NEVER)) == []
    assert venue.n_slots == 0
