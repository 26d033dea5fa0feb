"""Room on the disk, the lease, and the watchdog's signs of life."""

from pathlib import Path
from typing import NamedTuple

import pytest

from bot.modes import premises
from bot.modes.preflight import Level
from bot.modes.settings import load
from bot.shell.clock import Clock
from bot.shell.lease import Lease

CONFIG = Path(__file__).resolve().parents[2] / "config"


class Usage(NamedTuple):
    free: int


@pytest.mark.parametrize(
    ("free", "level"),
    [
        (premises.GIB - 1, Level.FAIL),
        (premises.GIB, Level.WARN),
        (5 * premises.GIB - 1, Level.WARN),
        (5 * premises.GIB, Level.OK),
    ],
)
def test_room_is_looked_for_where_the_folder_will_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: Level
) -> None:
    looked: list[Path] = []

    def usage(path: Path) -> Usage:
        looked.append(path)
        return Usage(free)

    monkeypatch.setattr("shutil.disk_usage", usage)
    assert premises.disk(tmp_path / "not" / "yet").level is level
    assert looked == [tmp_path]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = premises.disk(tmp_path / "file" / "runs")
    assert found.level is Level.FAIL
    assert "choose another one" in found.text


def test_the_lease_is_free_taken_or_impossible(tmp_path: Path) -> None:
    assert premises.lease(tmp_path, "x").level is Level.OK
    with Lease(tmp_path, "x"):
        assert "already is the bot" in premises.lease(tmp_path, "x").text
    Lease(tmp_path, "x").release()  # looking did not keep it
    (tmp_path / "file").touch()
    found = premises.lease(tmp_path / "file", "x")
    assert found.level is Level.FAIL
    assert found.text.endswith("set MMBOT_STATE to a folder of your own")


async def test_a_watchdog_that_is_not_there_is_waited_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(premises, "LOOKS_NS", 50_000_000)
    monkeypatch.setattr(premises, "LOOK_S", 0.01)
    loaded = load(CONFIG / "testnet-binance-spot.yaml", env={})
    found = await premises.watchdog(loaded, tmp_path, "x", Clock())
    assert found.level is Level.FAIL
    assert "start `mmbot watchdog`" in found.text
