"""Measures the bot, beside a peer in the same run where there is one; `make bench` runs it.

Machines differ and are noisy: every figure is the median over rounds in which all
measurements take turns, and only the ratios to a peer mean something elsewhere.
"""

import argparse
import asyncio
import gc
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bot.core.engine import ANYWHERE, Engine  # noqa: E402 - run as a script: the path comes first
from bot.domain.decisions import Decision, Place  # noqa: E402
from bot.journal.capture import chunks  # noqa: E402
from bot.journal.log import DecisionDigest  # noqa: E402
from bot.market.book import Book  # noqa: E402
from bot.modes.enginerun import EngineRun, new_engine, paper_venue  # noqa: E402
from bot.modes.replay import start_run  # noqa: E402
from bot.modes.settings import Loaded, load  # noqa: E402
from bot.ops.summary import Summary  # noqa: E402
from bot.shell.lane import advance  # noqa: E402
from bot.shell.pump import Pump  # noqa: E402
from bot.sim.paper import NEVER  # noqa: E402
from bot.sim.queue import RISK_AVERSE, SLOT  # noqa: E402
from bot.venues.binance.marketdata import MarketData  # noqa: E402
from tests.benchlive import first_quote, wire_to_wire  # noqa: E402
from tests.benchmessages import SECONDS, message_figures, message_table, messages  # noqa: E402
from tests.benchorders import PEER as PEERS  # noqa: E402
from tests.benchorders import order_entry, without_socket  # noqa: E402

CONFIG: Final = ROOT / "config" / "paper-binance-usdm.yaml"
CAPTURE: Final = ROOT.parent / "shared" / "data" / "captures" / "binance-usdm-btcusdt-20240808.gz"
PEER: Final = "ccxt.pro binanceusdm"

# What is aimed at, for the table.
AIMS: Final = {
    "book_update": "peer / ours ≥ 40",
    "tick_to_decision_p50": "≤ 60",
    "tick_to_decision_p99": "≤ 250",
    "tick_to_order_p50": "≤ 60",
    "tick_to_order_p99": "≤ 250",
    "replay_frames_per_s": "≥ 60,000",
    "rss_mb": "≤ 300",
    "wire_to_decision_p50": "",
    "start_to_first_quote_s": "≤ 10",
    "run_to_first_quote_s": "≤ 10",
    "run_to_first_quote_paper_s": "≤ 10",
    "rss_run_mb": "≤ 300",
    "rss_run_paper_mb": "≤ 300",
}
UNITS: Final = {"_mb": "MB", "_s": "s", "_ns": "ns"}  # by the end of a name; else microseconds
UNITS_OF: Final = {"replay_frames_per_s": "frames/s"}
ORDER_PEER: Final = "ccxt.pro binanceusdm create_order"

NO_SLOTS: Final = np.zeros(SLOT.itemsize, np.uint8)

clock = time.perf_counter_ns


class Frame(NamedTuple):
    """One received frame and its receive time, ns."""

    recv: int
    raw: bytes


class Depth(NamedTuple):
    """The depth stream of a capture: what comes before the book is synced, and behind."""

    before: list[Frame]  # the last one is the snapshot
    behind: list[Frame]


def depth_of(lines: Sequence[bytes]) -> Depth:
    """The depth frames of a capture with one snapshot."""
    before: list[Frame] = []
    behind: list[Frame] = []
    into = before
    for line in lines:
        recv, _, raw = line.rstrip(b"\n").partition(b" ")
        if b'"depthUpdate"' in raw:
            into.append(Frame(int(recv), raw))
        elif b'"lastUpdateId"' in raw and into is before:
            before.append(Frame(int(recv), raw))
            into = behind
    assert behind, "the capture has no depth frames behind a snapshot"
    return Depth(before, behind)


# --- bytes -> book and touch ---------------------------------------------------------------


class OurBook:
    """The codec and the book, one live frame after the other."""

    def __init__(self, loaded: Loaded, depth: Depth) -> None:
        self._codec = MarketData(loaded.instrument)
        self._book = Book()
        self._best_bid, self._best_ask = (self._book.head[f"best_{s}"] for s in ("bid", "ask"))
        for frame in depth.before:
            self.update(frame)

    def update(self, frame: Frame) -> tuple[int, int]:
        """Learn one frame; best bid and ask in ticks."""
        for tape in self._codec.receive(frame.recv, frame.raw):
            advance(
                self._book.memory, tape.memory, 0, tape.n, tape.ticks, tape.qtys, NEVER,
                NO_SLOTS, 0, RISK_AVERSE, 3.0,
            )  # fmt: skip
        return self._best_bid[0], self._best_ask[0]


class PeerBook:
    """ccxt.pro's client and handlers, fed as its receive loop feeds them, without a network.

    Its own code decodes, dispatches, checks the sequence, buffers what comes before the
    snapshot and splices it; only the snapshot's REST answer is handed over by us.
    """

    SYMBOL: Final = "BTC/USDT:USDT"

    def __init__(self, depth: Depth) -> None:
        from ccxt.pro import binanceusdm

        exchange = binanceusdm()
        market = {"id": "BTCUSDT", "symbol": self.SYMBOL, "base": "BTC", "quote": "USDT"}
        market |= {"settle": "USDT", "type": "swap", "swap": True, "spot": False}
        market |= {"contract": True, "linear": True, "inverse": False}
        exchange.set_markets([exchange.safe_market_structure(market)])
        self._exchange = exchange
        asyncio.run(self._sync(depth))

    async def _sync(self, depth: Depth) -> None:
        from ccxt.async_support.base.ws.client import Client

        exchange = self._exchange
        answer = exchange.parse_json(depth.before[-1].raw.decode())
        snapshot = exchange.parse_order_book(answer, self.SYMBOL, answer.get("T"))
        snapshot["nonce"] = answer["lastUpdateId"]

        async def fetched(*_: object) -> dict[str, Any]:
            return snapshot

        exchange.fetch_rest_order_book_safe = fetched
        # No "/stream" in the address: that would make the symbol a spot one.
        self._client = Client(
            "wss://fstream.binance.com/ws", exchange.handle_message, None, None, None
        )
        self._receive = self._client.handle_text_or_binary_message
        exchange.orderbooks[self.SYMBOL] = exchange.order_book({}, 1000)
        for frame in depth.before[:-1]:
            self._receive(frame.raw.decode())
        wanted = {"symbol": self.SYMBOL, "type": "linear", "limit": 1000}
        await exchange.fetch_order_book_snapshot(self._client, {}, wanted)
        self._book = exchange.orderbooks[self.SYMBOL]
        assert not self._client.rejections, self._client.rejections

    def update(self, frame: Frame) -> tuple[float, float]:
        """Learn one frame; best bid and ask as prices."""
        self._receive(frame.raw.decode())
        book = self._book
        return book["bids"][0][0], book["asks"][0][0]

    def assert_in_sync(self, depth: Depth) -> None:
        """A handler that had rejected a frame would have been quicker than it is."""
        assert not self._client.rejections, self._client.rejections
        assert self._exchange.orderbooks[self.SYMBOL] is self._book
        assert self._book["nonce"] == json.loads(depth.behind[-1].raw)["data"]["u"]


def us_a_frame(book: OurBook | PeerBook, depth: Depth) -> float:
    """Mean time of one frame, µs."""
    update = book.update
    gc.collect()
    started = clock()
    for frame in depth.behind:
        update(frame)
    return (clock() - started) / len(depth.behind) / 1e3


def bulk_us_a_frame(loaded: Loaded, depth: Depth) -> float:
    """The same frames as capture lines in one chunk, through the lane that a replay takes."""
    codec = MarketData(loaded.instrument)
    engine = new_engine(loaded)
    paper = paper_venue(loaded, engine)
    book = engine.book
    book.wake_outside(-ANYWHERE, ANYWHERE)

    def learn(chunk: bytes) -> None:
        for tape in codec.read(chunk):
            i = 0
            while i < tape.n:
                i, *_ = advance(
                    book.memory, tape.memory, i, tape.n, tape.ticks, tape.qtys, NEVER,
                    paper.memory, paper.n_slots, paper.model, paper.power,
                )  # fmt: skip

    before, behind = (b"".join(b"%d %b\n" % frame for frame in part) for part in depth)
    learn(before)
    gc.collect()
    started = clock()
    learn(behind)
    spent = clock() - started
    assert book.trusted, book
    return spent / len(depth.behind) / 1e3


def assert_same_touch(loaded: Loaded, depth: Depth) -> None:
    """Both books have the same best bid and ask behind every frame, or nothing is compared."""
    tick = float(loaded.instrument.tick)
    ours, peer = OurBook(loaded, depth), PeerBook(depth)
    for frame in depth.behind:
        mine = ours.update(frame)
        theirs = tuple(round(price / tick) for price in peer.update(frame))
        assert mine == theirs, f"at {frame.recv}: {mine} ticks here, {theirs} at {PEER}"
    peer.assert_in_sync(depth)


# --- bytes -> decisions, whole replay, memory ----------------------------------------------


class Ticks(NamedTuple):
    """Times of the frames on which the engine decided, µs, and what it decided in all."""

    decided: list[float]
    ordered: list[float]  # those among them that placed an order
    digest: str


def tick_to_decision(loaded: Loaded, lines: Sequence[bytes]) -> Ticks:
    """The whole engine with paper fills, one line a call as live; the journal is off."""
    engine = new_engine(loaded)
    batches: list[tuple[int, Sequence[Decision]]] = []

    def note(now: int, decisions: Sequence[Decision], _: Engine) -> None:
        batches.append((now, decisions))

    codec = MarketData(loaded.instrument)
    venue = paper_venue(loaded, engine)
    pump = Pump(engine, codec, venue, eyes=Summary(), on_decision=note)
    decided: list[float] = []
    ordered: list[float] = []
    gc.collect()
    for line in lines:
        known = len(batches)
        started = clock()
        pump.feed(line)
        spent = (clock() - started) / 1e3
        if len(batches) == known:
            continue
        decided.append(spent)
        if any(isinstance(d, Place) for _, batch in batches[known:] for d in batch):
            ordered.append(spent)
    digest = DecisionDigest()
    for now, decisions in batches:
        digest.add(now, decisions)
    return Ticks(decided, ordered, digest.hexdigest)


def replay(loaded: Loaded, capture: Path) -> dict[str, Any]:
    """A replay as the command does it: decompressing, with the journal on."""
    with tempfile.TemporaryDirectory() as folder:
        run = start_run(loaded, Path(folder), next(chunks([capture])))
        replay = EngineRun(loaded, run)
        gc.collect()
        replay.feed_all(chunks([capture]))
        return replay.result()


def row_by_row_digest(loaded: Loaded, capture: Path) -> str:
    """Digest of the decisions when no compiled call takes more than one row."""
    replay = EngineRun(loaded, rows_max=1)
    replay.feed_all(chunks([capture]))
    return replay.digest.hexdigest


def peak_mb() -> float:
    """Peak resident memory of this process, MB.

    ru_maxrss of a child starts at its parent's, so the kernel's own figure comes first.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(found[0].split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def memory_of_replay(capture: Path) -> float:
    """Peak resident memory of a fresh process that replays the capture, MB."""
    command = [sys.executable, __file__, "--capture", str(capture), "--memory"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


# --- the rounds and their report -----------------------------------------------------------


def one_round(
    loaded: Loaded, capture: Path, lines: Sequence[bytes], depth: Depth
) -> dict[str, float]:
    """Every measurement once; asserts that both paths decided the same."""
    found = {"book_update": us_a_frame(OurBook(loaded, depth), depth)}
    peer = PeerBook(depth)
    found[f"{PEERS}book_update"] = us_a_frame(peer, depth)
    peer.assert_in_sync(depth)
    found["book_update_bulk"] = bulk_us_a_frame(loaded, depth)
    found[f"{PEERS}book_update_bulk"] = found[f"{PEERS}book_update"]
    ticks = tick_to_decision(loaded, lines)
    for name, times in (("decision", ticks.decided), ("order", ticks.ordered)):
        for percent in (50, 99):
            if times:
                found[f"tick_to_{name}_p{percent}"] = float(np.percentile(times, percent))
    result = replay(loaded, capture)
    assert result["decisions_sha256"] == ticks.digest, "in bulk other decisions than by frames"
    found["replay_frames_per_s"] = result["frames"] / result["wall_s"]
    found["rss_mb"] = memory_of_replay(capture)
    for name, times in wire_to_wire(capture).items():
        for percent in (50, 99):
            if times:
                found[f"{name}_p{percent}"] = float(np.percentile(times, percent))
    return found | order_entry() | without_socket() | first_quote()


def unit_of(name: str) -> str:
    """What a figure of this name is counted in."""
    if name in UNITS_OF:
        return UNITS_OF[name]
    return next((unit for end, unit in UNITS.items() if name.endswith(end)), "us")


def figures(rounds: Sequence[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Medians over the rounds, in the form of bench.json."""
    median = {name: float(np.median([found[name] for found in rounds])) for name in rounds[0]}
    made: dict[str, dict[str, Any]] = {}
    for name, ours in median.items():
        if name.startswith(PEERS):
            continue
        made[name] = {"unit": unit_of(name), "ours": round(ours, 2)}
        if PEERS + name in median:
            peer = median[PEERS + name]
            made[name] |= {
                "peer": round(peer, 2),
                "peer_name": PEER if name.startswith("book") else ORDER_PEER,
                "ratio": round(peer / ours, 1 if peer > 10 * ours else 2),
            }
    return made


def table(made: dict[str, dict[str, Any]], rounds: Sequence[dict[str, float]]) -> Table:
    """The figures for people, with the least and the greatest round."""
    shown = Table(title=f"medians of {len(rounds)} interleaved rounds")
    for heading in ("figure", "ours", "unit", "least … greatest", "peer", "peer / ours", "aim"):
        right = heading in ("ours", "least … greatest", "peer", "peer / ours")
        shown.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for name, figure in made.items():
        every = [found[name] for found in rounds]
        digits = 0 if name == "replay_frames_per_s" else 1
        shown.add_row(
            name,
            f"{figure['ours']:,.{digits}f}",
            figure["unit"],
            f"{min(every):,.{digits}f} … {max(every):,.{digits}f}",
            f"{figure['peer']:,.1f}" if "peer" in figure else "",
            f"{figure['ratio']:,.1f}" if "ratio" in figure else "",
            AIMS.get(name, ""),
        )
    return shown


def synthetic_capture(path: Path, frames: int = 7_000) -> None:
    """A depth stream of a random walk, for machines without the real capture."""
    chance = random.Random(1)  # seeded: every run measures the same frames
    recv, last, mid = 1_700_000_000_000_000_000, 1_000, 600_000

    def side(ticks: Sequence[int], gone: Sequence[int] = ()) -> list[list[str]]:
        levels = [[f"{tick / 10:.2f}", "0.000"] for tick in gone]
        return levels + [[f"{t / 10:.2f}", f"{chance.randint(1, 9_999) / 1e3:.3f}"] for t in ticks]

    with path.open("w") as file:
        for number in range(frames):
            step = chance.choice((-3, -1, 0, 0, 0, 0, 1, 3))
            mid += step
            recv += chance.randint(5, 55) * 1_000_000
            bids = side(range(mid - 25, mid), range(mid, mid - step))
            asks = side(range(mid + 1, mid + 26), range(mid - step + 1, mid + 1))
            told = recv // 1_000_000
            first, before, last = last + 1, last, last + 10
            data = {"e": "depthUpdate", "E": told, "T": told, "s": "BTCUSDT", "U": first}
            data |= {"u": last, "pu": before, "b": bids, "a": asks}
            event = {"stream": "btcusdt@depth@0ms", "data": data}
            file.write(f"{recv} {json.dumps(event, separators=(',', ':'))}\n")
            if number == 2:
                snapshot = {"lastUpdateId": last, "E": told, "T": told, "bids": bids, "asks": asks}
                file.write(f"{recv} {json.dumps(snapshot, separators=(',', ':'))}\n")


def bench(capture: Path, rounds: int, out: Path, say: Console) -> int:
    """Warm up, measure, print the table and write the file; exit code 1 on other decisions."""
    loaded = load(CONFIG, env={})
    lines = [line for chunk in chunks([capture]) for line in chunk.splitlines(keepends=True)]
    depth = depth_of(lines)
    with say.status("compiling and warming up"):
        assert_same_touch(loaded, depth)
        one_round(loaded, capture, lines, depth)
    measured = []
    for number in range(1, rounds + 1):
        with say.status(f"round {number} of {rounds}"):
            measured.append(one_round(loaded, capture, lines, depth))
    with say.status("counting order messages"):
        sent = messages(SECONDS)
    made = figures(measured)
    shown = table(made, measured)
    made |= message_figures(sent)
    out.write_text(json.dumps(made, indent=2) + "\n")
    say.print(shown)
    say.print(message_table(sent, SECONDS))
    say.print(f"Best bid and ask equal {PEER}'s behind each of {len(depth.behind):,} depth frames.")
    say.print(f"Figures written to {out}.")
    say.print(f"Decisions in bulk equal those made line by line over {len(lines):,} frames.")
    bulk = replay(loaded, capture)["decisions_sha256"]
    single = row_by_row_digest(loaded, capture)
    if single == bulk:
        say.print(f"Decisions with rows_max=1 equal those in bulk: {bulk}.")
        return 0
    say.print(f"FAILED: decisions with rows_max=1 ({single}) differ from those in bulk ({bulk}).")
    return 1


def main() -> int:
    arguments = argparse.ArgumentParser(description="Measure the bot.")
    arguments.add_argument("--out", type=Path, default=Path("bench.json"))
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--capture", type=Path, default=CAPTURE, help="of USD-M BTCUSDT")
    arguments.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    asked = arguments.parse_args()
    if asked.rounds < 1:
        arguments.error("--rounds must be at least 1")
    if asked.memory:
        replay(load(CONFIG, env={}), asked.capture)
        sys.stdout.write(f"{peak_mb():.1f}\n")
        return 0
    piped = not sys.stdout.isatty()
    say = Console(width=130 if piped else None, highlight=False)
    if asked.capture.exists():
        return bench(asked.capture, asked.rounds, asked.out, say)
    say.print(f"{asked.capture.name} is not here: a small synthetic depth stream is measured.")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "synthetic"
        synthetic_capture(made)
        return bench(made, asked.rounds, asked.out, say)


if __name__ == "__main__":
    sys.exit(main())
