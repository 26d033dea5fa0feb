"""Every kernel compiled, or loaded from the cache, before anything is quoted.

A kernel compiles on its first call with new argument types, which takes seconds. `warm` makes
those first calls: a tiny market of every kind of frame goes through the codec, the book, the
lane, the paper venue and the engine, called as a run calls them. numba keeps its cache per CPU;
with NUMBA_CPU_NAME=generic one cache serves every CPU of an architecture.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, Final, NamedTuple

from numba.extending import is_jitted

from bot import KERNELS
from bot.domain.units import Side
from bot.market.book import Book
from bot.modes.enginerun import EngineRun
from bot.modes.replay import bbo_lines, first_and_rest
from bot.modes.settings import Loaded, load
from bot.venues.binance.marketdata import MarketData
from bot.venues.binance.text import nanoseconds

START_NS: Final = 1_700_000_000_000_000_000
STEP_NS: Final = 10_000_000
FRAMES: Final = (
    b'{"lastUpdateId":10,"bids":[["100.0","2.000"],["99.9","3.000"]],"asks":[["100.1","1.000"],["100.2","4.000"]]}',
    b'{"e":"depthUpdate","E":1700000000005,"T":1700000000004,"s":"BTCUSDT","U":8,"u":12,"pu":7,"b":[["100.0","2.500"]],"a":[["100.2","0.000"]]}',
    b'{"e":"bookTicker","u":13,"E":1700000000015,"T":1700000000014,"s":"BTCUSDT","b":"100.0","B":"2.000","a":"100.1","A":"1.500"}',
    b'{"e":"trade","E":1700000000025,"T":1700000000024,"s":"BTCUSDT","t":1,"p":"100.1","q":"0.100","X":"MARKET","m":false}',
    b'{"e":"depthUpdate","E":1700000000035,"T":1700000000034,"s":"BTCUSDT","U":14,"u":15,"pu":12,"b":[["99.8","1.000"]],"a":[]}',
)

Progress = Callable[[int, int, str], None]


class Warmth(NamedTuple):
    """How many kernels `warm` compiled, how many it loaded from the cache, and how long it took.

    A kernel counts once per combination of argument types. What a kernel calls is part of it:
    a loaded kernel does not load those anew.
    """

    compiled: int
    cached: int
    seconds: float


def kernels() -> dict[str, Any]:
    """Every kernel of the modules in `bot.KERNELS` by its dotted name; none when the JIT is off."""
    found = {}
    for path in KERNELS:
        name = "bot." + path.removesuffix(".py").replace("/", ".")
        for attribute, value in vars(import_module(name)).items():
            if is_jitted(value) and value.__module__ == name:
                found[f"{name}.{attribute}"] = value
    return found


def warm(progress: Progress | None = None) -> Warmth:
    """Call every kernel that Python calls, with the types of a run.

    `progress` gets (steps done, steps, what comes next) before each step and once at the end.
    """
    started = time.perf_counter()
    all_kernels = kernels().values()
    compiled, cached = _counts(all_kernels)
    for done, (what, step) in enumerate(STEPS):
        if progress is not None:
            progress(done, len(STEPS), what)
        step()
    if progress is not None:
        progress(len(STEPS), len(STEPS), "ready")
    compiled_now, cached_now = _counts(all_kernels)
    return Warmth(
        compiled_now - compiled, cached_now - cached, round(time.perf_counter() - started, 3)
    )


def _counts(dispatchers: Iterable[Any]) -> tuple[int, int]:
    stats = [dispatcher.stats for dispatcher in dispatchers]
    return (
        sum(s.cache_misses.total() for s in stats),
        sum(s.cache_hits.total() for s in stats),
    )


def _configuration() -> Loaded:
    return load(None, env={}, sets=["venue=binance-usdm", "symbol=BTCUSDT"])


def _chunk() -> bytes:
    """The frames as capture lines."""
    return b"".join(b"%d %b\n" % (START_NS + i * STEP_NS, frame) for i, frame in enumerate(FRAMES))


def _lines() -> None:
    """Capture lines through the codec, as a replay and an audit read them."""
    codec = MarketData(_configuration().instrument)
    rows = sum(tape.n for tape in codec.read(_chunk()))
    assert rows > len(FRAMES) - 2, "the frames must be read, or nothing behind them is warmed"
    nanoseconds(START_NS)


def _frames() -> None:
    """Single frames through codec and book, as a live run receives them; then every reading."""
    codec = MarketData(_configuration().instrument)
    book = Book()
    for i, frame in enumerate(FRAMES):
        for tape in codec.receive(START_NS + i * STEP_NS, frame):
            for row in range(tape.n):
                book.learn(tape.rows, row, tape.ticks, tape.qtys)
    assert book.trusted, "the frames must make a book, or its readings are not those of a run"
    book.depth(10.0)
    for side in Side:
        book.top(side, 3)


def _run() -> None:
    """The pump with engine and paper venue, and the lines of `--emit bbo`."""
    loaded = _configuration()
    replay = EngineRun(loaded)
    replay.feed_all([_chunk()])
    first, rest = first_and_rest(iter([_chunk()]))
    assert first
    for _ in bbo_lines(MarketData(loaded.instrument), loaded.instrument, rest):
        pass


STEPS: Final[tuple[tuple[str, Callable[[], None]], ...]] = (
    ("capture lines", _lines),
    ("live frames and the book", _frames),
    ("the lane, the paper venue and the engine", _run),
)


def summary(warmth: Warmth) -> str:
    """One line for people."""
    return (
        f"{warmth.compiled} kernels compiled, {warmth.cached} loaded from the cache, "
        f"{warmth.seconds:.1f} s"
    )


def main(arguments: list[str]) -> int:
    """`python -m bot.modes.warmup`: 0, or 1 where --cached was asked and something compiled."""
    parser = argparse.ArgumentParser(prog="python -m bot.modes.warmup", description=__doc__)
    parser.add_argument(
        "--cached", action="store_true", help="exit 1 if any kernel had to be compiled"
    )
    only_cached = parser.parse_args(arguments).cached
    warmth = warm(lambda done, of, what: _say(f"{done}/{of} {what}\n"))
    sys.stdout.write(summary(warmth) + "\n")
    return 1 if only_cached and (warmth.compiled or not warmth.cached) else 0


def _say(line: str) -> None:
    sys.stderr.write(line)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
