"""`mmbot check` as a user meets it: table, JSON, exit codes, and never a trace."""

import asyncio
import json
import os
import socket
import sys
from pathlib import Path

import pytest

from bot.modes import checkcmd
from bot.modes.preflight import Examination, Finding, Level
from bot.modes.settings import ConfigError, load
from bot.shell.clock import Clock
from tests.modes.checkbench import NO_KEYS, ROOT, Bench, benched, failed, levels, named
from tests.test_cli import mmbot


async def command(bench: Bench, *more: str) -> tuple[int, str, str]:
    sets = [word for one in bench.sets for word in ("--set", one)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bot", "check", str(bench.config), *sets, *more),
        cwd=ROOT,
        env={**os.environ, **bench.env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_the_command_ends_by_what_it_found(tmp_path: Path) -> None:
    async with benched(tmp_path) as bench:
        bench.seat.may_withdraw = True
        code, out, err = await command(bench, "--json")
        assert (code, err) == (3, "")
        found = json.loads(out)
        assert (found["ok"], found["code"], found["symbol"]) == (False, 3, "BTCUSDT")
        assert found["terms"] == {
            **{"tick": "0.1", "lot": "0.001", "min_qty": "0.001", "min_notional": "100"},
            **{"maker": "0.0002", "taker": "0.0005"},
        }
        assert [one["name"] for one in found["findings"] if one["level"] == "fail"] == [
            "permissions"
        ]
        assert {method for method, _ in bench.asked} == {"GET"}


def test_nobody_there_is_exit_5_and_a_line_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for name, value in (("API_KEY", "k" * 64), ("SECRET", "s" * 64), ("STATE", str(tmp_path))):
        monkeypatch.setenv(f"MMBOT_{name}", value)
    sets = [*NO_KEYS, f"feed.base_url=http://127.0.0.1:{port}", f"run.folder={tmp_path}"]
    words = [word for one in sets for word in ("--set", one)]
    done = mmbot("check", ROOT / "config" / "testnet-binance-usdm.yaml", *words)
    assert (done.exit_code, done.stderr) == (5, "")
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        *(["ok", "config"], ["ok", "disk"], ["ok", "lease"], ["fail", "venue"]),
    ]


def test_a_mistake_in_the_config_is_exit_2(tmp_path: Path) -> None:
    done = mmbot("check", ROOT / "config" / "testnet-binance-usdm.yaml", "--set", "quote.unit=1")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "quote.unit is not a key" in done.stderr


async def test_keys_that_cannot_be_read_are_a_finding(tmp_path: Path) -> None:
    async with benched(tmp_path) as bench:
        bench.sets += ["account.api_key_file=nowhere.key", "account.secret_file=nowhere.secret"]
        loaded = load(bench.config, env=bench.env, sets=bench.sets)
        found = await asyncio.to_thread(checkcmd.check, loaded, bench.env, Clock())
        assert "there is no file" in failed(found)
        assert bench.asked == [("GET", "/fapi/v1/depth")]


async def test_paper_needs_no_key_and_only_the_market(tmp_path: Path) -> None:
    async with benched(tmp_path) as bench:
        bench.config = ROOT / "config" / "paper-binance-usdm.yaml"
        bench.sets = bench.sets[2:]
        bench.env = {"MMBOT_API_KEY": "unused" * 9, "MMBOT_SECRET": "unused" * 8}
        found = await bench.check()
        assert [one.name for one in found.findings] == ["config", "disk", "feed"]
        assert (levels(found), found.code) == ({}, 0)
        assert bench.asked == [("GET", "/fapi/v1/depth")]
        await bench.server.close()
        found = await bench.check()
        assert (found.code, named(found, "feed").level) == (5, Level.FAIL)


def test_a_world_without_market_data_is_a_mistake() -> None:
    loaded = load(ROOT / "config" / "paper-binance-usdm.yaml", env={}, sets=["feed.world=testnet"])
    with pytest.raises(ConfigError, match="has no testnet"):
        checkcmd.check(loaded, {}, Clock())


def test_a_terminal_gets_the_same_in_colours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = (
        Finding("clock", Level.WARN, "our clock is [bold]late"),
        Finding("key", Level.FAIL, "no"),
    )
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    checkcmd.show(Examination(findings))
    out = capsys.readouterr().out
    assert "our clock is [bold]late" in out  # no markup: it is somebody's text
    assert "\x1b[" in out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    checkcmd.show(Examination(findings))
    assert capsys.readouterr().out == (
        "warn  clock          our clock is [bold]late\nfail  key            no\n"
    )
