"""Every conformance card on every venue, and that none is left out unsaid."""

import pytest

from tests.modes.conformance import VENUES, Card, cards
from tests.modes.conformancebench import bench_of

CARDS = cards()


@pytest.mark.parametrize("card", CARDS, ids=str)
@pytest.mark.parametrize("venue", VENUES)
async def test_card(venue: str, card: Card) -> None:
    if venue in card.not_for:
        pytest.skip(f"{venue}: {card.not_for[venue]}")
    async with bench_of(venue) as bench:
        await card.play(bench)


def test_the_cards_are_numbered_without_a_gap_and_each_demands_something_else() -> None:
    assert [card.number for card in CARDS] == list(range(1, len(CARDS) + 1))
    assert len({card.name for card in CARDS}) == len({card.demands for card in CARDS}) == len(CARDS)


def test_what_does_not_apply_is_little_and_says_why() -> None:
    left_out = [(card.number, venue) for card in CARDS for venue in card.not_for]
    assert left_out == [(10, "binance-spot")]
    assert all(why for card in CARDS for why in card.not_for.values())
