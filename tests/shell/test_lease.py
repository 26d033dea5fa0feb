"""Leases between real processes: one holder, and none once it is dead."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bot.shell.lease import Lease, LeaseError, LeaseTaken, state_folder, state_name

HOLDER = """
import sys
from pathlib import Path
from bot.shell.lease import Lease
lease = Lease(Path(sys.argv[1]), sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(folder: Path, name: str) -> "Iterator[subprocess.Popen[str]]":
    """Another process that holds a lease until its stdin is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.kill()


def test_a_second_process_is_refused_by_the_first_ones_number(tmp_path: Path) -> None:
    with holder(tmp_path, "x") as first:
        with pytest.raises(LeaseTaken) as taken:
            Lease(tmp_path, "x")
        assert str(taken.value) == (
            f"process {first.pid} already is the bot for this venue, symbol and API key"
            f" ({tmp_path / 'x.lease'}): stop it first"
        )
        Lease(tmp_path, "y").release()  # another symbol


def test_a_killed_holder_leaves_it_free_at_once(tmp_path: Path) -> None:
    with holder(tmp_path, "x") as first:
        first.send_signal(signal.SIGKILL)
        first.wait(10)
        with Lease(tmp_path, "x") as lease:
            assert (tmp_path / "x.lease").read_text() == f"{os.getpid()}\n"
            assert repr(lease) == "<Lease x.lease held>"


def test_it_is_held_against_the_own_process_too_and_can_be_released(tmp_path: Path) -> None:
    first = Lease(tmp_path, "x", "watchdog")
    with pytest.raises(LeaseTaken, match=f"process {os.getpid()} already is the watchdog"):
        Lease(tmp_path, "x", "watchdog")
    first.release()
    first.release()
    assert repr(first) == "<Lease x.lease released>"
    Lease(tmp_path, "x").release()


def test_a_program_that_the_holder_starts_does_not_hold_it(tmp_path: Path) -> None:
    with Lease(tmp_path, "x"):
        child = subprocess.Popen(
            [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            close_fds=False,
        )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"\n"
        Lease(tmp_path, "x").release()
    finally:
        child.communicate()


def test_a_holder_that_has_not_written_its_number_yet(tmp_path: Path) -> None:
    with Lease(tmp_path, "x"):
        (tmp_path / "x.lease").write_text("")
        with pytest.raises(LeaseTaken, match=r"^another process already is"):
            Lease(tmp_path, "x")


def test_a_folder_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LeaseError, match=r"x\.lease cannot be made: "):
        Lease(tmp_path / "file", "x")


def test_nobody_else_may_read_what_lies_in_the_folder(tmp_path: Path) -> None:
    with Lease(tmp_path / "a" / "b", "x") as lease:
        assert lease.path.stat().st_mode & 0o777 == 0o600
        assert lease.path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("env", "folder"),
    [
        ({"MMBOT_STATE": "/a", "XDG_STATE_HOME": "/b"}, Path("/a")),
        ({"XDG_STATE_HOME": "/b"}, Path("/b/mmbot")),
        ({"XDG_STATE_HOME": "b"}, Path.home() / ".local/state/mmbot"),
        ({}, Path.home() / ".local/state/mmbot"),
    ],
)
def test_the_state_folder_is_the_users(env: dict[str, str], folder: Path) -> None:
    assert state_folder(env) == folder


def test_names_differ_by_venue_symbol_and_key_and_hide_the_key() -> None:
    names = {
        state_name(venue, symbol, key)
        for venue in ("binance-spot", "binance-usdm")
        for symbol in ("BTCUSDT", "ETHUSDT")
        for key in ("secret-key", "other-key")
    }
    assert len(names) == 8
    assert not [name for name in names if "key" in name]
    assert state_name("v", "S", "k") == state_name("v", "S", "k")
