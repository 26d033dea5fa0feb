"""`mmbot replay`: a capture through the live engine with paper fills, as fast as it goes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from bot.core.engine import Engine
from bot.domain.decisions import Decision
from bot.domain.instrument import Instrument
from bot.domain.tape import BOOK_CHANGED
from bot.domain.units import Side
from bot.journal.run import Run
from bot.market.book import Book
from bot.market.kernels import TRUSTED
from bot.modes.enginerun import new_run
from bot.modes.settings import Loaded
from bot.venues.binance.marketdata import MarketData
from bot.venues.binance.text import nanoseconds


def start_run(loaded: Loaded, root: Path, first_chunk: bytes) -> Run:
    """A new run folder named by the capture's first receive time, with its manifest."""
    stamp = first_chunk.split(b" ", 1)[0]
    first = nanoseconds(int(stamp)) if stamp.isdigit() and int(stamp) < 2**63 else 0
    return new_run(loaded, root, max(first, 0), "replay")


def first_and_rest(pieces: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first chunk, and an iterator that still yields it."""
    first = next(pieces, b"")

    def again() -> Iterator[bytes]:
        if first:
            yield first
        yield from pieces

    return first, again()


def exact(value: float, step: Decimal) -> str:
    """A displayed quantity with at least the step's decimals, and more where it has them."""
    text = Decimal(repr(value))
    return str(text.quantize(step)) if text == text.quantize(step) else f"{text:f}"


def bbo_lines(
    codec: MarketData, instrument: Instrument, pieces: Iterable[bytes]
) -> Iterator[bytes]:
    """`--emit bbo`: one JSON line per depth update applied while the book is trusted.

    The touch is the depth book's own, without the ticker.
    """
    book = Book()
    encode = msgspec.json.Encoder().encode
    for chunk in pieces:
        for tape in codec.read(chunk):
            for i in range(tape.n):
                book.learn(tape.rows, i, tape.ticks, tape.qtys)
                if tape.rows[i]["kind"] != BOOK_CHANGED:
                    continue
                h = book.read()
                if h.distrust != TRUSTED:
                    continue
                yield encode(
                    {
                        "recv_ns": int(tape.rows[i]["recv"]),
                        "u": h.book_id,
                        "bid": str(instrument.price(h.best_bid)),
                        "bid_qty": exact(book.quantity(Side.BUY, h.best_bid), instrument.lot),
                        "ask": str(instrument.price(h.best_ask)),
                        "ask_qty": exact(book.quantity(Side.SELL, h.best_ask), instrument.lot),
                    }
                )


def emitted(
    emit: str | None, instrument: Instrument, write: Callable[[bytes], object]
) -> Callable[[int, Any, Engine], None] | None:
    """What writes the lines of `--emit quotes|decisions` at each decision; None for no other."""
    encode = msgspec.json.Encoder().encode

    def quotes(now: int, _: Sequence[Decision], engine: Engine) -> None:
        sides: dict[str, list[list[str]]] = {"BUY": [], "SELL": []}
        for target in engine.targets:
            level = [str(instrument.price(target.tick)), str(instrument.quantity(target.lots))]
            sides[target.side.name].append(level)
        line = {"now_ns": now, "bids": sides["BUY"], "asks": sides["SELL"]}
        write(encode(line) + b"\n")

    def decisions(now: int, made: Sequence[Decision], _: Engine) -> None:
        for decision in made:
            write(encode({"now_ns": now, "decision": decision}) + b"\n")

    return {"quotes": quotes, "decisions": decisions}.get(emit or "")
