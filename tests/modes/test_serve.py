"""`serve` from outside, and what it refuses before anybody could connect."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from select import select

import pytest

from bot.journal.capture import CaptureError
from bot.modes.serve import (
    API_KEY,
    API_SECRET,
    HABITS,
    ServeError,
    Serving,
    flow_params,
    new_playback,
    new_server,
)
from bot.modes.settings import ConfigError, load
from bot.shell.clock import Clock
from bot.sim.scenarios import SCENARIOS
from tests.test_cli import USDM, mmbot, refused, save, synthetic

ROOT = Path(__file__).resolve().parents[2]
INSTRUMENT = load(None, env={}, sets=["venue=binance-usdm", "symbol=BTCUSDT"]).instrument
WAIT_S = 60.0

Process = subprocess.Popen[bytes]


@contextmanager
def serving(*arguments: str, stdin: int = subprocess.DEVNULL) -> Iterator[Process]:
    """`mmbot serve` as a process; killed if a test leaves it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bot", "serve", *arguments],
        cwd=ROOT, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def first_line(process: Process) -> str:
    assert process.stdout is not None
    assert select([process.stdout], [], [], WAIT_S)[0]
    return process.stdout.readline().decode()


def ending(process: Process) -> tuple[int, bytes, bytes]:
    """Exit code, and what was still said."""
    stdout, stderr = process.communicate(timeout=WAIT_S)
    return process.returncode, stdout, stderr


def ends(processes: Sequence[Process], *signals: signal.Signals) -> list[tuple[int, bytes, bytes]]:
    for process, name in zip(processes, signals, strict=True):
        process.send_signal(name)
    return [ending(process) for process in processes]


def test_from_outside(tmp_path: Path) -> None:
    """Its URL on stdout, its answers, and each way in which it ends."""
    capture = save(tmp_path / "capture", synthetic(steps=5))
    with (
        serving("--json") as first,
        serving("--host", "::1", "--venue", "binance-spot") as second,
        serving("--capture", str(capture), "--with-parent", stdin=subprocess.PIPE) as third,
    ):
        note = json.loads(first_line(first))
        keys = {"api_key": API_KEY, "secret": API_SECRET}
        market = {"venue": "binance-usdm", "symbol": "BTCUSDT"}
        assert note == {"url": note["url"]} | market | keys
        with urllib.request.urlopen(f"{note['url']}/fapi/v1/ping", timeout=10) as answer:  # noqa: S310
            assert (answer.status, answer.read()) == (200, b"{}")
        port = int(note["url"].rpartition(":")[2])
        assert refused("serve", "--port", str(port)) == (
            f"127.0.0.1:{port} is taken by another program: choose another port"
        )
        assert first_line(second).startswith("serving binance-spot BTCUSDT on http://[::1]:")
        assert first_line(third).startswith("serving binance-usdm BTCUSDT on http://127.0.0.1:")
        assert third.stdin is not None
        third.stdin.close()
        third.stdin = None
        assert ending(third) == (0, b"", b"")
        stopped = ends([first, second], signal.SIGTERM, signal.SIGINT)
        assert stopped == [(0, b"", b""), (130, b"", b"")]
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", port))


def post(url: str, command: object) -> tuple[int, bytes]:
    """Status and body of a command to a served market."""
    request = urllib.request.Request(f"{url}/_misbehave", json.dumps(command).encode())  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read()


def test_misbehaviour_is_switched_from_outside_where_it_was_asked_for() -> None:
    ban = {"name": "ban", "arguments": {"seconds": 60}}
    with serving("--json") as plain, serving("--json", "--misbehaviour") as wild:
        url = json.loads(first_line(plain))["url"]
        assert post(url, ban)[0] == 404
        url = json.loads(first_line(wild))["url"]
        status, report = post(url, ban)
        assert (status, json.loads(report)["active"]) == (200, {"ban": None})
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(f"{url}/fapi/v1/ping", timeout=10)  # noqa: S310
        refusal.value.close()
        assert refusal.value.code == 418
        assert post(url, {"name": "no_such"})[0] == 400
        status, report = post(url, {"name": "heal"})
        assert (status, json.loads(report)["met"]) == (200, {"ban": 1})
        with urllib.request.urlopen(f"{url}/fapi/v1/ping", timeout=10) as answer:  # noqa: S310
            assert answer.status == 200
        assert ends([plain, wild], signal.SIGTERM, signal.SIGTERM) == [(0, b"", b"")] * 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 is not loopback: give 127.0.0.1, ::1 or localhost"),  # noqa: S104
        (["--host", "example.org"], "--host example.org is not loopback"),
        (["--scenario", "storm"], "--scenario storm is not known: give calm, "),
        (["--venue", "binance-coinm", "--symbol", "BTCUSD_PERP"], "no simulated market of"),
        (["--symbol", "NOSUCH"], "NOSUCH"),
        (["--misbehaviour", "--capture", "x"], "--misbehaviour is of the simulated exchange"),
    ],
)
def test_mistakes(arguments: list[str], sentence: str) -> None:
    assert sentence in refused("serve", *arguments)


def test_captures_that_cannot_be_played(tmp_path: Path) -> None:
    missing, text = tmp_path / "none", tmp_path / "text"
    text.write_text("no capture\n")
    assert refused("serve", "--capture", missing) == f"{missing} does not exist"
    assert str(text) in refused("serve", *USDM, "--capture", text)
    assert "cannot be played" in refused(
        "serve", "--venue", "binance-coinm", "--symbol", "BTCUSD_PERP", "--capture", text
    )
    with pytest.raises(CaptureError):
        new_playback(INSTRUMENT, Clock(), [missing])


@pytest.mark.parametrize(
    "option", ["--seed=-1", "--seed=x", "--speed=nan", "--speed=0", "--port=x"]
)
def test_numbers_that_are_none(option: str) -> None:
    done = mmbot("serve", option)
    assert (done.exit_code, done.stdout) == (2, "")
    assert isinstance(done.exception, SystemExit)


@pytest.mark.parametrize("venue", HABITS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_market_there_is(venue: str, scenario: str) -> None:
    assert flow_params(venue, scenario).scenario == SCENARIOS[scenario]


def test_a_market_that_there_is_not() -> None:
    with pytest.raises(ConfigError):
        flow_params("kraken", "calm")


async def test_what_breaks_the_market_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    server = new_server(INSTRUMENT, Clock())

    def breaks(now: int) -> None:
        raise RuntimeError("broken market")

    monkeypatch.setattr(server, "step", breaks)
    ports: list[int] = []
    with pytest.raises(RuntimeError, match="broken market"):
        await Serving(server).run(ports.append, with_parent=False)
    assert ports
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_capture_that_tears_while_playing_is_raised(tmp_path: Path) -> None:
    lines = [*synthetic(steps=3), "torn"]
    server = new_playback(INSTRUMENT, Clock(), [save(tmp_path / "capture", lines)], speed=1e6)
    server.sockets.subscribed.set()  # as if somebody listened
    with pytest.raises((CaptureError, ValueError)):
        await Serving(server).run(lambda port: None, with_parent=False)


async def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        serving = Serving(new_server(INSTRUMENT, Clock(), port=port))
        with pytest.raises(ServeError, match=rf"^127.0.0.1:{port} is taken by another program"):
            await serving.run(lambda port: None, with_parent=False)
    assert asyncio.all_tasks() == {asyncio.current_task()}
