"""What several folders of tests share: where real data lies, if it is here at all."""

import os
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings

from bot.shell.lease import STATE_VARIABLE

# The first example may compile a kernel; no test is about speed.
# CI draws the same examples each time: it judges a change, a developer looks for new faults.
settings.register_profile("mmbot", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("mmbot")

# In the background of a script, or under nohup, these are ignored, and what is ignored stays so in
# the bot and in its children: a test that ends one by a signal would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def state_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for every test, made by whoever needs it."""
    root = tmp_path_factory.mktemp("state")
    return (root / str(n) for n in count())


@pytest.fixture(autouse=True)
def nothing_from_outside(state_folders: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings and no keys of whoever runs the tests, and nobody else's leases and heartbeats.

    Holds for what a test starts, too.
    """
    for name in [name for name in os.environ if name.upper().startswith("MMBOT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv(STATE_VARIABLE, str(next(state_folders)))


def present(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"no {path.name} here")
    return path


@pytest.fixture(scope="session")
def spot_capture() -> Path:
    """A real capture of Binance spot BTCUSDT."""
    return present(DATA / "captures" / "binance-spot-btcusdt-20240808.gz")


@pytest.fixture(scope="session")
def usdm_capture() -> Path:
    """A real capture of Binance USD-M BTCUSDT."""
    return present(DATA / "captures" / "binance-usdm-btcusdt-20240808.gz")


@pytest.fixture(scope="session")
def wire_messages() -> list[Path]:
    """Single market-data messages of Binance, one file each."""
    found = sorted(present(DATA / "wire").glob("binance/*/market_data_json/*.json"))
    assert found
    return found
