from collections.abc import Sequence

import pytest

from bot.domain.decisions import Cancel, Decision
from bot.domain.events import Event, FeedEvent, OrderOpened
from bot.ops.eyes import Eyes


class Witness:
    """Writes down what it is told, under its own name."""

    def __init__(self, name: str, book: list[tuple[object, ...]]) -> None:
        self.name = name
        self.book = book

    def trust(self, now: int, trusted: bool) -> None:
        self.book.append((self.name, "trust", now, trusted))

    def learned(self, event: Event | FeedEvent, engine: str) -> None:
        self.book.append((self.name, "learned", event, engine))

    def decided(self, now: int, decisions: Sequence[Decision], engine: str) -> None:
        self.book.append((self.name, "decided", now, decisions, engine))


def test_every_eye_is_told_everything_in_the_order_given() -> None:
    book: list[tuple[object, ...]] = []
    eyes = Eyes(Witness("a", book), Witness("b", book))
    opened, made = OrderOpened(2, "x-1"), [Cancel("x-1")]
    eyes.trust(1, True)
    eyes.learned(opened, "engine")
    eyes.decided(3, made, "engine")
    each = [("trust", 1, True), ("learned", opened, "engine"), ("decided", 3, made, "engine")]
    assert book == [(name, *told) for told in each for name in ("a", "b")]
    assert repr(eyes) == "<Eyes Witness, Witness>"


def test_no_eye_sees_nothing() -> None:
    Eyes[object]().trust(1, True)


def test_what_fails_in_an_eye_is_not_hidden() -> None:
    class Blind(Witness):
        def trust(self, now: int, trusted: bool) -> None:
            raise RuntimeError("blind")

    with pytest.raises(RuntimeError, match="blind"):
        Eyes(Blind("a", [])).trust(1, True)
