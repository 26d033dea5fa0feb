"""The kernels as plain Python and as machine code: the same book from the same frames."""

import gzip
import json
import os
import random
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

from bot.domain.instrument import Instrument
from bot.domain.tape import BOOK_CHANGED, BOOK_RESET, NOTHING, TOUCH_CHANGED
from bot.domain.units import Side
from bot.market.book import Book
from bot.market.levels import WINDOW
from bot.venues.binance.marketdata import MarketData

ROOT = Path(__file__).resolve().parents[2]
# Reads lines from a file and prints the book; the path of this very file is the first argument.
CHILD = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("here", sys.argv[1])
here = importlib.util.module_from_spec(spec)
spec.loader.exec_module(here)
import numba
assert numba.config.DISABLE_JIT
print(here.summary(open(sys.argv[2], "rb").read()))
"""


def summary(text: bytes) -> str:
    """Everything that a reader of the book can see after `text`, as JSON."""
    instrument = Instrument(
        "binance-usdm", "BTCUSDT", "BTC", "USDT", Decimal("0.10"), Decimal("0.001")
    )
    codec, book = MarketData(instrument), Book()
    kinds = []
    flags = []
    for tape in codec.read(text):
        for i in range(tape.n):
            kinds.append(int(tape.rows[i]["kind"]))
            flags.append(book.learn(tape.rows, i, tape.ticks, tape.qtys))
    levels = [sorted(book.levels(side).items()) for side in Side]
    depth = [book.depth(bps) for bps in (0.1, 1.0, 10.0)]
    return json.dumps([book.read(), levels, depth, kinds, flags, codec.counts(), codec.gaps])


def plain(text: bytes, folder: Path) -> str:
    path = folder / "lines"
    path.write_bytes(text)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, __file__, str(path)],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def synthetic() -> bytes:
    """A short market: all kinds of frames, a moving window, far levels, a gap and nonsense."""
    draw = random.Random(5)
    lines = []
    recv, last, middle = 1_723_161_255_000_000_000, 100, 600_000

    def send(frame: str) -> None:
        nonlocal recv
        recv += 1_000_000
        lines.append(f"{recv} {frame}")

    def side(sign: int, start: int) -> str:
        ticks = [start + sign * draw.choice([0, 1, 5, 90, 70_000, 400_000]) for _ in range(4)]
        found = [[f"{max(t, 1) / 10:.1f}", f"{draw.randrange(4) / 8}"] for t in ticks]
        return json.dumps(found, separators=(",", ":"))

    def depth() -> None:
        nonlocal last
        first, before = last + 2, last
        last = first + draw.randrange(5)
        send(
            f'{{"e":"depthUpdate","E":{recv // 10**6 + 7},"T":{recv // 10**6},"s":"BTCUSDT",'
            f'"U":{first},"u":{last},"pu":{before},'
            f'"b":{side(-1, middle)},"a":{side(1, middle + 1)}}}'
        )

    def snapshot() -> None:
        send(
            f'{{"lastUpdateId":{last},"bids":[["{middle / 10}","1.5"],["0.1","9"]],'
            f'"asks":[["{middle / 10 + 0.1:.1f}","2.5"],["{middle / 5}","1"]]}}'
        )

    depth()
    snapshot()
    for i in range(60):
        depth()
        send(
            f'{{"e":"bookTicker","u":{last + draw.randrange(-3, 4)},"s":"BTCUSDT",'
            f'"b":"{middle / 10}","B":"1.5","a":"{middle / 10 + 0.1:.1f}","A":"2"}}'
        )
        send(
            f'{{"e":"trade","E":{recv // 10**6},"T":{recv // 10**6},"s":"BTCUSDT","t":{i},'
            f'"p":"{middle / 10}","q":"0.5","X":"MARKET","m":{"true" if i % 2 else "false"}}}'
        )
        if i % 20 == 10:
            middle += WINDOW // 3
        if i == 30:
            last += 5  # lost on the way
        if i == 33:
            snapshot()
            depth()
        if i == 40:
            send('{"e":"trade","p":"NaN"}')
    return "\n".join(lines).encode() + b"\n"


def test_a_synthetic_market(tmp_path: Path) -> None:
    text = synthetic()
    compiled = summary(text)
    head, _, _, kinds, flags, counts, gaps = json.loads(compiled)
    assert plain(text, tmp_path) == compiled
    assert {NOTHING, BOOK_CHANGED, BOOK_RESET, TOUCH_CHANGED} <= set(kinds)
    assert (counts["snapshots"], gaps, counts["unreadable"]) == (2, 1, 1)
    assert any(flags)
    assert head[Book().read()._fields.index("synced")] == 1


def test_a_real_stream(usdm_capture: Path, tmp_path: Path) -> None:
    with gzip.open(usdm_capture) as file:
        text = b"".join(file.readlines()[:300])
    compiled = summary(text)
    assert '"snapshots": 1' in compiled
    assert plain(text, tmp_path) == compiled
