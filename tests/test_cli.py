import functools
import gzip
import json
import os
import re
import subprocess
import sys
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import Result
from typer.testing import CliRunner

from bot.cli import app
from bot.journal.segments import SegmentWriter, read_segments

ROOT: Final = Path(__file__).resolve().parents[1]
CONFIG: Final = ROOT / "config" / "paper-binance-usdm.yaml"
START_NS: Final = 1_723_161_255_000_000_000
STEP_NS: Final = 100_000_000
USDM: Final = ["--venue", "binance-usdm", "--symbol", "BTCUSDT"]
COINM: Final = ["--venue", "binance-coinm", "--symbol", "BTCUSD_PERP"]

# Of `replay --json`, as users and other programs may rely on it.
KEYS: Final = [
    "frames",
    "depth_updates",
    "trades",
    "book_tickers",
    "gaps",
    "resyncs",
    "first_trusted_ns",
    "untrusted_ns",
    "orders_placed",
    "orders_amended",
    "orders_cancelled",
    "fills",
    "volume",
    "pnl",
    "markouts",
    "uptime",
    "max_abs_position",
    "halts",
    "wall_s",
    "frames_per_s",
]
PNL_KEYS: Final = [
    "total",
    "spread",
    "inventory",
    "maker_fees",
    "rebates",
    "taker_fees",
    "funding",
    "unexplained",
]


def synthetic(symbol: str = "BTCUSDT", steps: int = 200, snapshot: bool = True) -> list[str]:
    """Lines of a capture: a snapshot, then in each step a depth update, a ticker and a trade.

    The mid drifts by a few ticks of 0.1 a step; every tenth trade sweeps far through the touch.
    """
    mid, last_id, depth = 600_000, 1_000, 400
    quantity = "0.200" if symbol == "BTCUSDT" else "900"

    def levels(ticks: range, qty: str) -> list[list[str]]:
        return [[f"{tick / 10:.2f}", qty] for tick in ticks]

    def line(at: int, frame: dict[str, Any]) -> str:
        return f"{at} {json.dumps(frame, separators=(',', ':'))}"

    lines = []
    if snapshot:
        bids = levels(range(mid - 1, mid - depth, -1), quantity)
        asks = levels(range(mid, mid + depth), quantity)
        lines.append(line(START_NS, {"lastUpdateId": last_id, "bids": bids, "asks": asks}))
    for step in range(1, steps + 1):
        at = START_NS + step * STEP_NS
        common = {"E": at // 1_000_000 - 6, "T": at // 1_000_000 - 7, "s": symbol}
        moved = mid + (3, -1, 2, -4, 1)[step % 5] + (1 if step % 50 < 25 else -1)
        b, a = range(min(mid, moved), max(mid, moved)), "0.000"
        new, old = levels(b, quantity), levels(b, a)
        first = last_id - 5 if step == 1 else last_id + 1
        ids = {"U": first, "u": last_id + 10, "pu": first - 1 if step == 1 else last_id}
        sides = {"b": new, "a": old} if moved > mid else {"b": old, "a": new}
        last_id, mid = last_id + 10, moved
        depth_event = {"e": "depthUpdate", **common, **ids, **sides}
        lines.append(line(at, {"stream": "depth", "data": depth_event}))
        touch = {"b": f"{(mid - 1) / 10:.2f}", "a": f"{mid / 10:.2f}", "B": quantity, "A": quantity}
        lines.append(line(at + 1_000_000, {"e": "bookTicker", "u": last_id, **common, **touch}))
        sells = step % 4 < 2
        far = 300 if step % 10 == 0 else 0
        price = f"{(mid - 1 - far if sells else mid + far) / 10:.2f}"
        trade = {"t": step, "p": price, "q": quantity, "X": "MARKET", "m": sells}
        lines.append(line(at + 2_000_000, {"e": "trade", **common, **trade}))
    return lines


def save(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("captures") / "usdm.txt", synthetic())


@pytest.fixture(scope="module")
def recorded(capture: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The result of a replay that wrote a run."""
    runs = tmp_path_factory.mktemp("runs")
    done = mmbot("replay", capture, "--config", CONFIG, "--out", runs, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    return json.loads(done.stdout)


def mmbot(*args: str | Path) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def refused(*args: str | Path, code: int = 2) -> str:
    """The one sentence with which a command ends; nothing else was said."""
    done = mmbot(*args)
    assert done.exit_code == code, (done.exit_code, done.stderr, done.exception)
    assert isinstance(done.exception, SystemExit)
    lines = done.stderr.splitlines()
    assert len(lines) == 1, lines
    assert "Traceback" not in lines[0]
    assert done.stdout == ""
    return lines[0]


def json_lines(text: str) -> list[dict[str, Any]]:
    assert text.endswith("\n")
    found = [json.loads(line) for line in text.splitlines()]
    assert all(isinstance(line, dict) for line in found)
    return found


def test_help_from_outside() -> None:
    """The only test with a process of its own: the module starts and says what it can."""
    done = subprocess.run(
        [sys.executable, "-m", "bot", "--help"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert all(command in done.stdout for command in ("replay", "audit", "config"))


def test_a_mistake_from_outside(tmp_path: Path) -> None:
    args = [sys.executable, "-m", "bot", "replay", str(tmp_path / "none"), *USDM]
    done = subprocess.run(args, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{tmp_path / 'none'} does not exist\n"


# replay


@pytest.mark.parametrize("emit", [[], ["--json"], ["--emit", "bbo"], ["--help"]])
def test_a_reader_that_goes_away(capture: Path, emit: list[str]) -> None:
    args = [sys.executable, "-m", "bot", "replay", str(capture), *USDM, *emit]
    reads, writes = os.pipe()
    os.close(reads)
    try:
        done = subprocess.run(args, cwd=ROOT, stdout=writes, stderr=subprocess.PIPE, timeout=120)
    finally:
        os.close(writes)
    assert (done.returncode, done.stderr) == (0, b"")


def test_replay_json_is_one_object_with_every_key(capture: Path) -> None:
    done = mmbot("replay", capture, *USDM, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    result = json_lines(done.stdout)
    assert len(result) == 1
    (found,) = result
    assert set(KEYS) <= set(found)
    assert set(found["pnl"]) >= set(PNL_KEYS)
    assert set(found["markouts"]) >= {"1s", "5s", "30s", "300s"}
    assert isinstance(found["halts"], list)
    assert (found["frames"], found["depth_updates"]) == (601, 200)
    assert (found["trades"], found["book_tickers"]) == (200, 200)
    assert (found["gaps"], found["resyncs"], found["unreadable"], found["foreign"]) == (0, 0, 0, 0)
    assert found["first_trusted_ns"] == START_NS + STEP_NS
    assert found["untrusted_ns"] == 0
    assert found["run"] is None


def test_replay_trades_and_its_pnl_adds_up(recorded: dict[str, Any]) -> None:
    assert recorded["orders_placed"] > 0
    assert recorded["fills"] > 0
    assert Decimal(recorded["volume"]) > 0
    assert 0 < Decimal(recorded["max_abs_position"]) <= Decimal("0.2")
    assert 0 < recorded["uptime"] <= 1
    pnl = {name: Decimal(value) for name, value in recorded["pnl"].items()}
    gains = ("spread", "inventory", "rebates", "funding", "unexplained")
    costs = ("maker_fees", "taker_fees")
    parts = sum(pnl[name] for name in gains) - sum(pnl[name] for name in costs)
    assert pnl["total"] == parts
    assert pnl["unexplained"] == 0
    assert pnl["maker_fees"] > 0


def test_replay_is_deterministic(capture: Path, recorded: dict[str, Any]) -> None:
    again = json.loads(mmbot("replay", capture, "--config", CONFIG, "--json").stdout)
    for timing in ("wall_s", "frames_per_s", "run"):
        again.pop(timing)
    assert again == {key: value for key, value in recorded.items() if key in again}
    other = ["--set", "quote.eta=0.5"]
    found = json.loads(mmbot("replay", capture, "--config", CONFIG, "--json", *other).stdout)
    assert found["decisions_sha256"] != again["decisions_sha256"]


def test_replay_for_people(capture: Path) -> None:
    done = mmbot("replay", capture, *USDM)
    assert (done.exit_code, done.stderr) == (0, "")
    rows = dict(re.split(r"\s{2,}| (?=\S+$)", row, maxsplit=1) for row in done.stdout.splitlines())
    assert rows["frames"] == "601"
    assert rows["depth_updates"] == "200"
    assert "pnl total" in rows


def test_compressed_and_split_captures_give_the_same(capture: Path, tmp_path: Path) -> None:
    lines = synthetic()
    packed = tmp_path / "first"
    packed.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines[:250]).encode()))
    rest = save(tmp_path / "second", lines[250:])
    whole = mmbot("replay", capture, *USDM, "--emit", "decisions").stdout
    assert mmbot("replay", packed, rest, *USDM, "--emit", "decisions").stdout == whole


def test_emit_bbo(capture: Path) -> None:
    done = mmbot("replay", capture, *USDM, "--emit", "bbo")
    assert (done.exit_code, done.stderr) == (0, "")
    found = json_lines(done.stdout)
    assert len(found) == 200
    assert [line["u"] for line in found] == list(range(1_010, 3_010, 10))
    assert [line["recv_ns"] for line in found] == [
        START_NS + step * STEP_NS for step in range(1, 201)
    ]
    tickers = [json.loads(line.split(" ", 1)[1]) for line in synthetic() if "bookTicker" in line]
    for line, ticker in zip(found, tickers, strict=True):
        assert list(line) == ["recv_ns", "u", "bid", "bid_qty", "ask", "ask_qty"]
        # At the tick and the lot of the instrument, not as the venue pads them.
        assert re.fullmatch(r"\d+\.\d\d", line["bid"])
        assert (line["bid"], line["ask"]) == (ticker["b"], ticker["a"])
        assert (line["bid_qty"], line["ask_qty"]) == ("0.200", "0.200")


def test_emit_quotes(capture: Path) -> None:
    done = mmbot("replay", capture, *USDM, "--emit", "quotes")
    assert (done.exit_code, done.stderr) == (0, "")
    found = json_lines(done.stdout)
    assert all(set(line) == {"now_ns", "bids", "asks"} for line in found)
    times = [line["now_ns"] for line in found]
    assert times == sorted(times)
    quoted = [line for line in found if line["bids"] and line["asks"]]
    assert quoted
    for line in quoted:
        assert all(isinstance(part, str) for level in line["bids"] for part in level)
        best_bid = max(Decimal(price) for price, _ in line["bids"])
        assert best_bid < min(Decimal(price) for price, _ in line["asks"])
        assert all(Decimal(qty) > 0 for _, qty in line["bids"] + line["asks"])


def test_emit_decisions(capture: Path, recorded: dict[str, Any]) -> None:
    done = mmbot("replay", capture, "--config", CONFIG, "--emit", "decisions")
    assert (done.exit_code, done.stderr) == (0, "")
    found = json_lines(done.stdout)
    assert all(set(line) == {"now_ns", "decision"} for line in found)
    assert len(found) >= recorded["orders_placed"] + recorded["orders_cancelled"]


def test_emit_what_is_not_known(capture: Path) -> None:
    assert refused("replay", capture, *USDM, "--emit", "fills") == (
        "--emit fills is not known: give bbo, quotes or decisions"
    )


# audit


def test_audit_of_a_run(recorded: dict[str, Any]) -> None:
    done = mmbot("audit", recorded["run"])
    assert (done.exit_code, done.stderr) == (0, "")
    counts = f"{recorded['decisions']} decisions over {recorded['frames']} frames"
    assert done.stdout == f"ok: {counts} came out again\n"
    (found,) = json_lines(mmbot("audit", recorded["run"], "--json").stdout)
    assert found["ok"] is True
    assert found["closed"] is True
    assert found["decisions"] == recorded["decisions"]


def test_a_run_holds_what_came(capture: Path, recorded: dict[str, Any]) -> None:
    run = Path(recorded["run"])
    assert b"".join(read_segments(run / "journal")) == capture.read_bytes()
    manifest = json.loads((run / "manifest.json").read_text())
    assert set(manifest) >= {"version", "config", "config_sha256", "seed", "instrument"}
    assert run.name == "20240808T235415Z-binance-usdm-BTCUSDT"


@pytest.fixture
def copied(capture: Path, tmp_path: Path) -> Path:
    """A run of its own, to be damaged."""
    done = mmbot("replay", capture, "--config", CONFIG, "--out", tmp_path, "--json")
    return Path(json.loads(done.stdout)["run"])


def rewrite(run: Path, text: bytes) -> None:
    (segment,) = (run / "journal").glob("market-*.zst")
    segment.unlink()
    with closing(SegmentWriter(run / "journal")) as writer:
        writer.append(text)


@pytest.mark.parametrize(
    ("event", "key"), [("depthUpdate", "b"), ("bookTicker", "a"), ("trade", "p")]
)
def test_audit_of_a_changed_price(copied: Path, event: str, key: str) -> None:
    """A capture that still reads well, with one other digit in the middle."""
    text = bytearray(b"".join(read_segments(copied / "journal")))
    frame = text.index(f'"e":"{event}"'.encode(), len(text) // 2)
    if key == "b":
        frame = text.index(b'"b":[["', frame) - 1
        key_end = frame + len(b',"b":[["')
    else:
        key_end = text.index(f'"{key}":"'.encode(), frame) + len(f'"{key}":"')
    digit = text.index(b".", key_end) + 1
    text[digit] = ord("0") + (text[digit] - ord("0") + 1) % 10
    rewrite(copied, bytes(text))
    assert re.search(r"decision \d+ at \d+ \(after frame \d+\)", refused("audit", copied, code=1))


def test_audit_of_the_same_bytes_in_a_new_segment(copied: Path) -> None:
    rewrite(copied, b"".join(read_segments(copied / "journal")))
    assert mmbot("audit", copied).exit_code == 0


def test_audit_of_a_changed_price_as_json(copied: Path) -> None:
    text = b"".join(read_segments(copied / "journal"))
    at = text.index(b'"a":"', len(text) // 2) + len(b'"a":"6')
    rewrite(copied, text[:at] + b"7" + text[at + 1 :])
    done = mmbot("audit", copied, "--json")
    assert done.exit_code == 1
    (found,) = json_lines(done.stdout)
    assert found["ok"] is False
    assert found["difference"] in done.stderr


def test_audit_of_missing_frames(copied: Path) -> None:
    text = b"".join(read_segments(copied / "journal"))
    rewrite(copied, b"".join(text.splitlines(keepends=True)[:300]))
    assert "end after 300" in refused("audit", copied, code=1)


def test_audit_of_a_damaged_segment(copied: Path) -> None:
    (segment,) = (copied / "journal").glob("market-*.zst")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 0x10
    segment.write_bytes(data)
    assert "damaged at byte 0" in refused("audit", copied, code=1)


def test_audit_of_no_run(tmp_path: Path) -> None:
    assert "does not exist" in refused("audit", tmp_path / "none")
    assert "is not a run's folder" in refused("audit", tmp_path)


# Mistakes


def test_a_missing_capture(tmp_path: Path) -> None:
    assert "none does not exist" in refused("replay", tmp_path / "none", *USDM)


def test_a_directory(tmp_path: Path) -> None:
    assert "is a directory" in refused("replay", tmp_path, *USDM)


@pytest.mark.parametrize("emit", [[], ["--emit", "bbo"], ["--json"]])
def test_a_truncated_gzip(capture: Path, tmp_path: Path, emit: list[str]) -> None:
    torn = tmp_path / "torn.gz"
    torn.write_bytes(gzip.compress(capture.read_bytes())[:-2_000])
    said = refused("replay", torn, *USDM, *emit)
    assert re.search(r"torn\.gz ends inside its compressed data, after \d+ whole lines", said)


@pytest.mark.parametrize("text", ["price,qty\n1,2\n", "{}\n", "hello", "\n", "-1 {}\n"])
def test_a_text_that_is_no_capture(tmp_path: Path, text: str) -> None:
    other = tmp_path / "other.csv"
    other.write_text(text)
    assert "other.csv is not a capture" in refused("replay", other, *USDM)


def test_an_empty_file(tmp_path: Path) -> None:
    assert "is empty" in refused("replay", save(tmp_path / "empty", []), *USDM)


@pytest.mark.parametrize("emit", [[], ["--emit", "bbo"], ["--emit", "quotes"], ["--json"]])
def test_the_wrong_symbol(capture: Path, emit: list[str]) -> None:
    args = ["--venue", "binance-usdm", "--symbol", "ETHUSDT", *emit]
    said = refused("replay", capture, *args)
    assert "holds no frame of ETHUSDT" in said
    assert "--symbol" in said


def test_a_venue_that_is_not_known(capture: Path) -> None:
    said = refused("replay", capture, "--venue", "binance-usdn", "--symbol", "BTCUSDT")
    assert "venue is " in said
    assert "did you mean binance-usdm?" in said


def test_frames_of_another_venue(tmp_path: Path) -> None:
    frame = '{"channel":"book","type":"update","data":[{"symbol":"BTC/USD"}]}'
    other = save(tmp_path / "other", [f"{START_NS + n} {frame}" for n in range(9)])
    for emit in ([], ["--emit", "bbo"]):
        said = refused("replay", other, *USDM, *emit)
        assert "holds no frame that binance-usdm sends" in said
        assert "--venue" in said


def test_an_unknown_symbol(capture: Path) -> None:
    said = refused("replay", capture, "--venue", "binance-usdm", "--symbol", "FOOUSDT")
    assert "FOOUSDT" in said
    assert "--tick" in said
    assert "--lot" in said


def test_tick_and_lot_of_an_unknown_symbol(tmp_path: Path) -> None:
    lines = [line.replace("BTCUSDT", "FOOUSDT") for line in synthetic(steps=40)]
    other = save(tmp_path / "foo", lines)
    args = ["--venue", "binance-usdm", "--symbol", "FOOUSDT", "--tick", "0.1", "--lot", "0.001"]
    done = mmbot("replay", other, *args, "--emit", "bbo")
    assert (done.exit_code, done.stderr) == (0, "")
    assert len(json_lines(done.stdout)) == 40
    assert "--tick" in refused("replay", other, *args[:4])


@pytest.mark.parametrize("step", ["0", "-1", "NaN", "x", "1e400", ""])
@pytest.mark.parametrize("flag", ["--tick", "--lot"])
def test_impossible_steps(capture: Path, flag: str, step: str) -> None:
    refused("replay", capture, *USDM, flag, step)


def test_a_tick_too_fine(capture: Path) -> None:
    refused("replay", capture, *USDM, "--tick", "0.00000000001")


def test_neither_config_nor_venue(capture: Path) -> None:
    assert "venue" in refused("replay", capture)
    assert "symbol" in refused("replay", capture, "--venue", "binance-usdm")


@pytest.fixture
def typo(tmp_path: Path) -> tuple[Path, int]:
    """A config with a mistyped key, and its line."""
    text = CONFIG.read_text().replace("loss_budget:", "loss_bugdet:")
    (line,) = (n for n, row in enumerate(text.splitlines(), 1) if "loss_bugdet:" in row)
    path = tmp_path / "typo.yaml"
    path.write_text(text)
    return path, line


def test_a_typo_in_a_config(capture: Path, typo: tuple[Path, int]) -> None:
    path, line = typo
    for args in (
        ["replay", capture, "--config", path],
        ["config", "check", path],
        ["config", "show", path],
    ):
        said = refused(*args)
        assert f"{path}:{line}" in said
        assert "loss_bugdet" in said
        assert "risk.loss_budget" in said


def test_a_typo_in_a_set(capture: Path) -> None:
    said = refused("replay", capture, *USDM, "--set", "risk.loss_bugdet=5")
    assert "--set" in said
    assert "risk.loss_budget" in said
    refused("replay", capture, *USDM, "--set", "nonsense")


def test_a_missing_config(capture: Path, tmp_path: Path) -> None:
    assert "none.yaml" in refused("replay", capture, "--config", tmp_path / "none.yaml")


def test_a_run_where_no_folder_can_be(capture: Path, tmp_path: Path) -> None:
    file = save(tmp_path / "file", ["x"])
    assert "cannot be created" in refused("replay", capture, *USDM, "--out", file)


# What can be read and not traded


def test_coin_margined_book_without_trading(tmp_path: Path) -> None:
    coinm = save(tmp_path / "coinm", synthetic("BTCUSD_PERP", steps=30))
    done = mmbot("replay", coinm, *COINM, "--emit", "bbo")
    assert (done.exit_code, done.stderr) == (0, "")
    found = json_lines(done.stdout)
    assert len(found) == 30
    assert found[0]["bid_qty"] == "900"
    for more in ([], ["--json"], ["--emit", "quotes"]):
        assert "inverse contract" in refused("replay", coinm, *COINM, *more)


@pytest.mark.parametrize("emit", ["bbo", "quotes", "decisions", "json"])
def test_without_a_snapshot_the_book_is_never_trusted(tmp_path: Path, emit: str) -> None:
    bare = save(tmp_path / "bare", synthetic(steps=60, snapshot=False))
    done = mmbot("replay", bare, *USDM, *(["--json"] if emit == "json" else ["--emit", emit]))
    assert done.exit_code == 0
    assert done.stderr == f"{bare} holds no order-book snapshot: the book is never trusted\n"
    if emit == "bbo":
        assert done.stdout == ""
    elif emit == "json":
        (found,) = json_lines(done.stdout)
        assert found["first_trusted_ns"] is None
        assert found["orders_placed"] == found["fills"] == found["uptime"] == 0
    elif emit == "quotes":
        assert all(
            not line["bids"] and not line["asks"]
            for line in map(json.loads, done.stdout.splitlines())
        )
    else:
        assert "tick" not in done.stdout


# config


@pytest.mark.parametrize("name", ["paper-binance-usdm", "paper-binance-spot"])
def test_config_check(name: str) -> None:
    done = mmbot("config", "check", ROOT / "config" / f"{name}.yaml")
    assert (done.exit_code, done.stderr) == (0, "")
    assert re.fullmatch(
        rf"ok: paper on {name.removeprefix('paper-')} BTCUSDT, .* digest [0-9a-f]{{64}}\n",
        done.stdout,
    )


def test_config_show() -> None:
    done = mmbot("config", "show", CONFIG, "--set", "risk.loss_budget=77", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    (found,) = json_lines(done.stdout)
    assert found["risk.loss_budget"]["value"] == 77
    assert "--set" in found["risk.loss_budget"]["source"]
    assert str(CONFIG) in found["quote.eta"]["source"]
    text = mmbot("config", "show", CONFIG, "--set", "risk.loss_budget=77").stdout
    assert re.search(r"loss_budget: 77(\.0)? +# .*--set", text)


def test_config_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMBOT_RISK__LOSS_BUDGET", "88")
    found = json.loads(mmbot("config", "show", CONFIG, "--json").stdout)
    assert found["risk.loss_budget"]["value"] == 88
    assert "MMBOT_RISK__LOSS_BUDGET" in found["risk.loss_budget"]["source"]


def test_config_schema() -> None:
    done = mmbot("config", "schema")
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout) == json.loads((ROOT / "config" / "schema.json").read_text())


# Real captures


def test_real_capture_against_its_ticker(usdm_capture: Path) -> None:
    done = mmbot("replay", usdm_capture, *USDM, "--emit", "bbo")
    assert (done.exit_code, done.stderr) == (0, "")
    found = json_lines(done.stdout)
    assert len(found) > 100
    assert all(Decimal(line["bid"]) < Decimal(line["ask"]) for line in found)
    assert [line["u"] for line in found] == sorted({line["u"] for line in found})


def test_real_capture_replayed_and_audited(spot_capture: Path, tmp_path: Path) -> None:
    spot = ["--venue", "binance-spot", "--symbol", "BTCUSDT"]
    done = mmbot("replay", spot_capture, *spot, "--out", tmp_path, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    (found,) = json_lines(done.stdout)
    assert found["decisions"] > 0
    assert mmbot("audit", found["run"]).exit_code == 0


@pytest.mark.parametrize("arguments", [("config", "check"), ("config", "show", "--json")])
def test_a_stdout_that_was_closed_or_is_full(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "bot", *arguments, str(ROOT / "config" / "demo.yaml")]
    run = functools.partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, check=False)
    closed = run(["sh", "-c", 'exec "$@" >&-', "sh", *command])
    assert (closed.returncode, closed.stderr) == (0, "")
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr == "the output cannot be written: No space left on device\n"
