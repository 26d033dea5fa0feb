"""Every conformance card on every venue, and that none is left out unsaid."""

import asyncio
from collections.abc import Mapping

import pytest

from tests.modes.conformance import VENUES, Card, cards
from tests.modes.conformancebench import bench_of

CARDS = cards()
TOGETHER_MAX = 8

Played = Mapping[tuple[str, int], BaseException | None]


async def play(card: Card, venue: str) -> None:
    async with bench_of(venue) as bench:
        await card.play(bench)


@pytest.fixture(scope="module")
def played(request: pytest.FixtureRequest) -> Played:
    """What the cards raised that are asked for: side by side, each on a venue of its own."""
    asked = {
        (item.callspec.params["venue"], item.callspec.params["card"].number)
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == test_card.__name__
    }
    wanted = [
        (venue, card)
        for venue in VENUES
        for card in CARDS
        if venue not in card.not_for and (venue, card.number) in asked
    ]
    free = asyncio.Semaphore(TOGETHER_MAX)

    async def one(venue: str, card: Card) -> None:
        async with free:
            await play(card, venue)

    async def all_of_them() -> list[BaseException | None]:
        jobs = (one(venue, card) for venue, card in wanted)
        return await asyncio.gather(*jobs, return_exceptions=True)

    found = asyncio.run(all_of_them())
    return {(venue, card.number): one for (venue, card), one in zip(wanted, found, strict=True)}


@pytest.mark.parametrize("card", CARDS, ids=str)
@pytest.mark.parametrize("venue", VENUES)
def test_card(venue: str, card: Card, played: Played) -> None:
    if venue in card.not_for:
        pytest.skip(f"{venue}: {card.not_for[venue]}")
    error = played[venue, card.number]
    if error is not None:
        raise error


def test_the_cards_are_numbered_without_a_gap_and_each_demands_something_else() -> None:
    assert [card.number for card in CARDS] == list(range(1, len(CARDS) + 1))
    assert len({card.name for card in CARDS}) == len({card.demands for card in CARDS}) == len(CARDS)


def test_what_does_not_apply_is_little_and_says_why() -> None:
    left_out = [(card.number, venue) for card in CARDS for venue in card.not_for]
    assert left_out == [(10, "binance-spot")]
    assert all(why for card in CARDS for why in card.not_for.values())
