"""Whose orders they are: one holder at a time, names that tell nothing, hosts of one world."""

import os
from pathlib import Path

import pytest

from bot.domain.events import PositionAdopted
from bot.domain.units import NS_PER_S
from bot.journal.log import Header, Learned, LogWriter
from bot.journal.run import Run, run_name
from bot.modes.account import Account, access_of, account_name, open_account
from bot.modes.demo import on_exchange
from bot.modes.preflight import PreflightRefused
from bot.modes.previous import remember_account
from bot.modes.settings import Loaded, load
from bot.shell.peer import Credentials

CONFIG = Path(__file__).resolve().parents[2] / "config"
KEYS = Credentials("vK" + "a1B2" * 15 + "zz", "sX" + "c3D4" * 15 + "yy")
OTHERS = Credentials("vK" + "a1B2" * 15 + "zy", KEYS.secret)
THERE = "http://127.0.0.1:4711"
T = 1_700_000_000 * NS_PER_S


def demo(*sets: str) -> Loaded:
    return load(CONFIG / "demo.yaml", env={}, sets=sets)


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {
        "MMBOT_STATE": str(tmp_path / "state"),
        "MMBOT_API_KEY": KEYS.api_key,
        "MMBOT_SECRET": KEYS.secret,
    }


# --- where to, and under which name ----------------------------------------------------------


def test_a_simulated_exchange_is_all_that_its_account_may_reach() -> None:
    access = access_of(on_exchange(demo(), THERE), KEYS)
    assert (access.base, access.hosts) == (THERE, ("127.0.0.1:4711",))
    assert access.credentials is KEYS


def test_an_account_reaches_hosts_of_its_own_world_only() -> None:
    words = ["account.acknowledge=I accept losing up to 100 USDT on account main"]
    usdm = load(CONFIG / "testnet-binance-usdm.yaml", env={}, sets=words)
    spot = load(CONFIG / "testnet-binance-spot.yaml", env={}, sets=words)
    hosts = [set(access_of(loaded, KEYS).hosts) for loaded in (usdm, spot)]
    assert all(hosts)
    assert not hosts[0] & {"fapi.binance.com", "api.binance.com", "ws-fapi.binance.com"}
    assert not hosts[1] & {"fapi.binance.com", "api.binance.com", "ws-api.binance.com"}
    assert access_of(usdm, KEYS).base == ""


def test_names_differ_by_venue_key_and_exchange_and_tell_nothing_of_the_key() -> None:
    there = on_exchange(demo(), THERE)
    names = {
        account_name(there, KEYS),
        account_name(there, OTHERS),
        account_name(on_exchange(demo(), "http://127.0.0.1:4712"), KEYS),
        account_name(on_exchange(demo("venue=binance-spot"), THERE), KEYS),
    }
    assert len(names) == 4
    assert account_name(there, KEYS) == account_name(on_exchange(demo(), THERE), KEYS)
    for name in names:
        assert name.startswith("binance-")
        assert all(KEYS.api_key[i : i + 6] not in name for i in range(len(KEYS.api_key) - 5))
        assert "4711" not in name


# --- one holder ------------------------------------------------------------------------------


def test_one_holds_it_until_he_lets_go(env: dict[str, str], tmp_path: Path) -> None:
    there = on_exchange(demo(), THERE)
    with Account(there, KEYS, env) as held:
        assert {held.heartbeat.parent, held.watchdog.parent} == {tmp_path / "state"}
        assert held.heartbeat != held.watchdog
        assert held.name in held.heartbeat.name
        with pytest.raises(PreflightRefused, match=rf"^process {os.getpid()} already is the bot"):
            Account(there, KEYS, env)
        with Account(there, OTHERS, env) as other:  # another key is another account
            assert other.name != held.name
        assert repr(held) == f"<Account {held.name}>"
    again = Account(there, KEYS, env)
    again.release()
    again.release()  # more than once does no harm


def test_a_folder_that_cannot_be_had_is_a_sentence(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(PreflightRefused, match=r"cannot be made: .*exists"):
        Account(on_exchange(demo(), THERE), KEYS, env)


# --- its past --------------------------------------------------------------------------------


def test_only_its_own_runs_are_its_past(env: dict[str, str], tmp_path: Path) -> None:
    loaded = on_exchange(demo(), THERE)
    runs = tmp_path / "runs"
    told: list[str] = []
    with Account(loaded, KEYS, env) as mine:
        for after, name, lots in ((0, mine.name, 7), (60, "somebody else's", 9)):
            at = T + after * NS_PER_S
            run = Run.create(runs, run_name(at, "binance-usdm", "BTCUSDT"))
            run.write_manifest({"version": "0"})
            remember_account(run, name, None)
            log = LogWriter(run.log)
            log.append(
                Header(
                    bot_version="0",
                    mode="testnet",
                    started_at=at,
                    seed=0,
                    config_digest="",
                    instrument=loaded.instrument,
                    fees=loaded.fees,
                    params=loaded.params,
                    prefix="mm0a1b2c",
                )
            )
            log.append(Learned(0, PositionAdopted(at, lots, 0, "start")))
            log.close()
        found = mine.previous(runs, T + 120 * NS_PER_S, told.append)
        assert found is not None
        assert found.position == 7 * loaded.instrument.lot
        assert found.last_at == T
        assert mine.previous(tmp_path / "none", T, told.append) is None
    with Account(loaded, OTHERS, env) as new:
        assert new.previous(runs, T + 120 * NS_PER_S, told.append) is None


# --- from a configuration --------------------------------------------------------------------


def test_paper_has_no_account(env: dict[str, str], tmp_path: Path) -> None:
    assert open_account(demo("mode=paper"), {}) is None
    assert not (tmp_path / "state").exists()


def test_a_configuration_with_keys_has_one(env: dict[str, str]) -> None:
    account = open_account(demo(), env)
    assert account is not None
    with account:
        assert account.access.credentials == KEYS
        assert account.name == account_name(demo(), KEYS)


def test_without_keys_there_is_none_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(PreflightRefused, match=r"^there is no API key: "):
        open_account(demo(), {"MMBOT_STATE": str(tmp_path / "state")})
    assert not (tmp_path / "state").exists()
