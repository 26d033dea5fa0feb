"""The demo from outside: every way in which it ends, and nothing left behind; and `run`."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.modes.audit import audit
from bot.modes.demo import DemoError, ExchangeProcess
from tests.test_cli import mmbot, refused

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "config" / "demo.yaml"
WAIT_S = 90.0
POLL_S = 0.02


class Bot:
    """A bot as a process, with a folder of its own for its run."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.folder = folder
        sets = [f"run.folder={folder}", "web.port=0", "paper.entry_latency_ms_max=50"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bot", *arguments, "--json"]
            + [word for one in sets for word in ("--set", one)],
            cwd=ROOT, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    @property
    def run(self) -> Path:
        (path,) = self.folder.iterdir()
        return path

    def log(self) -> list[dict[str, Any]]:
        """What it logged so far, whole lines only."""
        text = "".join(path.read_text() for path in self.folder.glob("*/bot.log"))
        return [json.loads(line) for line in text.split("\n")[:-1]]

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log() if line["event"] == event]

    def exchange(self) -> dict[str, Any]:
        """Its process and address."""
        (line,) = self.logged("exchange_started")
        return {"pid": line["pid"], "port": int(line["url"].rpartition(":")[2])}

    def end(self) -> tuple[int, dict[str, Any]]:
        """Exit code and result: the one object on stdout; on stderr only that a run broke."""
        stdout, stderr = self.process.communicate(timeout=WAIT_S)
        said = "the run broke and was stopped; " if self.process.returncode == 1 else ""
        assert stderr.startswith(said)
        assert len(stderr.splitlines()) == len(said.splitlines())
        assert stdout.endswith("\n")
        assert stdout.count("\n") == 1
        return self.process.returncode, json.loads(stdout)


@contextmanager
def bots(folder: Path, *names: str, **environment: str) -> Iterator[list[Bot]]:
    """Demos side by side; none outlives the test."""
    with ExitStack() as stack:
        found = []
        for name in names:
            bot = Bot(folder / name, *name.split(), **environment)
            stack.callback(bot.process.communicate)
            stack.callback(bot.process.kill)
            found.append(bot)
        yield found


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "waited for too long"
        time.sleep(POLL_S)


def closed(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) != 0


def parts(pnl: dict[str, str]) -> Decimal:
    worth = {name: Decimal(value) for name, value in pnl.items()}
    gains = ("spread", "inventory", "rebates", "funding", "unexplained")
    return sum((worth[n] for n in gains), Decimal(0)) - worth["maker_fees"] - worth["taker_fees"]


def test_each_way_to_end(tmp_path: Path) -> None:
    """One demo runs its time; the others trade until a signal, or until their exchange dies."""
    names = ["demo --seconds 3 --seed 7", "demo --seed 1", "demo --seed 2", "demo --seed 3"]
    with bots(tmp_path, *names) as (whole, interrupted, terminated, orphan):
        code, result = whole.end()
        assert (code, result["reason"], result["run"]) == (0, "ran for 3 s", str(whole.run))
        assert result["orders_placed"] > 0
        assert Decimal(result["pnl"]["total"]) == parts(result["pnl"])
        assert {path.name for path in whole.run.iterdir()} >= {
            "manifest.json",
            "journal",
            "run.db",
            "bot.log",
        }
        assert json.loads((whole.run / "manifest.json").read_text())["seed"] == 7
        found = audit(whole.run)
        assert (found["ok"], found["closed"]) == (True, True)
        assert found["decisions"] == result["decisions"]

        for bot in (interrupted, terminated, orphan):
            until(lambda: bot.logged("book_trusted"))  # noqa: B023 - called at once
        interrupted.process.send_signal(signal.SIGINT)
        terminated.process.send_signal(signal.SIGTERM)
        os.kill(orphan.exchange()["pid"], signal.SIGKILL)
        ends = [bot.end() for bot in (interrupted, terminated, orphan)]
        assert [(code, result["reason"]) for code, result in ends] == [
            (130, "SIGINT"),
            (0, "SIGTERM"),
            (1, "the simulated exchange has ended"),
        ]
        for bot, (code, result) in zip((interrupted, terminated, orphan), ends, strict=True):
            assert audit(bot.run)["ok"]
            assert bot.logged("run_ended")[0]["code"] == code
            assert Decimal(result["pnl"]["total"]) == parts(result["pnl"])
            # Of a venue that has died nobody can say that it is empty.
            assert bool(bot.logged("orders_unconfirmed")) is (bot is orphan)
        for bot in (whole, interrupted, terminated, orphan):
            assert closed(bot.exchange()["port"])


def test_the_exchange_ends_with_a_killed_bot_and_a_warming_bot_with_sigterm(
    tmp_path: Path,
) -> None:
    with bots(tmp_path, "demo --seed 4", "demo --seed 5") as (killed, early):
        until(lambda: killed.logged("exchange_started"))
        killed.process.kill()
        until(lambda: closed(killed.exchange()["port"]))
        early.process.terminate()  # whatever it is at
        stdout, stderr = early.process.communicate(timeout=WAIT_S)
        assert (early.process.returncode, stderr) == (0, "")
        assert stdout == "" or json.loads(stdout)["reason"] == "SIGTERM"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--scenario", "storm"], "--scenario storm is not known: give calm, "),
        (["--set", "mode=live"], "account.name is missing"),
        (["--set", "web.host=0.0.0.0"], "web.host: '0.0.0.0' is not a loopback address"),
        (["--config", "none.yaml"], "none.yaml"),
        (["--picture", "none/x.svg"], "none is no folder"),
    ],
)
def test_mistakes(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    assert sentence in refused("demo", "--set", f"run.folder={runs}", *arguments)
    assert not runs.exists()


@pytest.mark.parametrize("option", ["--seed=-1", "--seed=x", "--seconds=-1", "--seconds=nan"])
def test_numbers_that_are_none(option: str) -> None:
    done = mmbot("demo", option)
    assert (done.exit_code, done.stdout) == (2, "")
    assert isinstance(done.exception, SystemExit)


@pytest.mark.parametrize("command", [["demo"], ["run", str(DEMO), "--set", "mode=paper"]])
def test_a_port_that_is_taken(command: list[str], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    before = signal.getsignal(signal.SIGTERM)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        sets = ["--set", f"run.folder={runs}", "--set", f"web.port={port}"]
        assert f"127.0.0.1:{port} is taken" in refused(*command, *sets)
    assert not runs.exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_exchange_that_does_not_start_says_why() -> None:
    with ExchangeProcess(["--symbol", "NOSUCH"]) as exchange:
        with pytest.raises(DemoError, match=r"did not start: .*NOSUCH"):
            exchange.served()
        pid = exchange.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_run_from_outside(tmp_path: Path) -> None:
    """The daemon on an exchange of its own: a changed file, SIGTERM; and one on none at all."""
    config = Path(shutil.copy(DEMO, tmp_path / "bot.yaml"))
    with ExchangeProcess([]) as exchange, ExitStack() as stack:
        name = f"run {config}"
        there, runs = exchange.served().url, tmp_path / "runs"
        environment = {"MMBOT_FEED__BASE_URL": there, "MMBOT_RUN__LOG_LEVEL": "info"}
        environment["MMBOT_MODE"] = "paper"
        bot = Bot(runs, *name.split(), **environment)
        stack.callback(bot.process.communicate)
        stack.callback(bot.process.kill)
        assert bot.process.stderr is not None
        lines = (json.loads(line) for line in bot.process.stderr)
        seen = [next(lines)["event"]]
        while seen[-1] != "book_trusted":
            seen.append(next(lines)["event"])
        config.write_text(DEMO.read_text().replace("loss_budget: 500.0", "loss_budget: 400.0"))
        while seen[-1] != "limits_tightened":
            seen.append(next(lines)["event"])
        assert "config_changed" in seen
        bot.process.terminate()
        rest = [line["event"] for line in lines]
        assert (seen[0], rest[-1]) == ("run_started", "run_ended")
        assert bot.process.stdout is not None
        (text,) = bot.process.stdout.read().splitlines()
        assert bot.process.wait(WAIT_S) == 0
        assert json.loads(text)["reason"] == "SIGTERM"
        assert audit(bot.run)["ok"]


def test_run_on_nothing(tmp_path: Path) -> None:
    sets = [f"run.folder={tmp_path}", "web.port=0", "feed.patience_s=0.2"]
    sets += ["feed.base_url=http://127.0.0.1:9", "mode=paper"]
    done = mmbot("run", DEMO, "--json", *[word for one in sets for word in ("--set", one)])
    assert (done.exit_code, json.loads(done.stdout)["reason"]) == (5, "the venue cannot be reached")
    said = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in said if line["level"] == "error"] == ["venue_unreachable"]
