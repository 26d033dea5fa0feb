"""The numbered conformance cards, the same for every venue: what a venue must do for us to trade.

A card is data and a function over a `Bench`. One that does not apply to a venue says why, and is
reported as that; there is no other way around a card.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.modes.conformancebench import Bench

VENUES: Final = ("binance-usdm", "binance-spot")

Play = Callable[[Bench], Awaitable[None]]


@dataclass(frozen=True)
class Card:
    """One demand on a venue; `not_for` names the venues that cannot meet it, each with why."""

    number: int
    name: str
    demands: str
    play: Play
    not_for: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.number:02d} {self.name}"


_CARDS: Final[dict[int, Card]] = {}


def card(
    number: int, name: str, demands: str, not_for: Mapping[str, str] | None = None
) -> Callable[[Play], Play]:
    """Make a function the play of a card. ValueError for a number that is taken."""

    def keep(play: Play) -> Play:
        if number in _CARDS:
            raise ValueError(f"there is a card {number} already: {_CARDS[number].name}")
        _CARDS[number] = Card(number, name, demands, play, not_for or {})
        return play

    return keep


def cards() -> list[Card]:
    """All of them, by number."""
    from tests.modes import conformance_account, conformance_orders  # noqa: F401 - they are cards

    return [_CARDS[number] for number in sorted(_CARDS)]
