"""Keys come from files that only their owner reads, or on testnets from the environment."""

import os
import socket
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from rich.pretty import pprint

from bot.modes.preflight import PreflightRefused
from bot.modes.secrets import SECRET_BYTES_MAX, credentials
from bot.modes.settings import Loaded, load
from bot.ops.redact import Redaction

CONFIG = Path(__file__).resolve().parents[2] / "config"
KEY = "vK" + "a1B2" * 15 + "zz"
SECRET = "sX" + "c3D4" * 15 + "yy"
ENV = {"MMBOT_API_KEY": KEY, "MMBOT_SECRET": SECRET}
PEM = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA\n-----END PRIVATE KEY-----"


class Account:
    """A testnet config in a folder of its own, with its key and secret in files."""

    def __init__(self, folder: Path, config: str) -> None:
        self.path = folder / "conf" / "bot.yaml"
        self.path.parent.mkdir()
        text = (CONFIG / config).read_text()
        self.path.write_text(text)
        files = load(self.path, env={}, sets=self.sets).settings.account
        self.key = self.path.parent / str(files.api_key_file)
        self.secret = self.path.parent / str(files.secret_file)
        (folder / "secrets").mkdir()
        self.write(self.key, KEY + "\n")
        self.write(self.secret, SECRET + "\n")

    @property
    def sets(self) -> list[str]:
        words = "I accept losing up to 100 USDT on account main"
        return [f"account.acknowledge={words}"]

    @staticmethod
    def write(path: Path, text: str | bytes, mode: int = 0o600) -> None:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(mode)

    def loaded(self, *sets: str) -> Loaded:
        return load(self.path, env={}, sets=[*self.sets, *sets])

    def refused(self, *sets: str, env: dict[str, str] | None = None) -> str:
        with pytest.raises(PreflightRefused) as caught:
            credentials(self.loaded(*sets), env or {})
        sentence = str(caught.value)
        assert sentence.isprintable()
        assert KEY not in sentence
        assert SECRET not in sentence
        return sentence


@pytest.fixture
def account(tmp_path: Path) -> Account:
    return Account(tmp_path, "testnet-binance-usdm.yaml")


@pytest.fixture
def live(tmp_path: Path) -> Account:
    return Account(tmp_path, "live-example.yaml")


def test_files_lie_relative_to_the_config(
    account: Account, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path / "secrets")
    found = credentials(account.loaded(), {})
    assert (found.api_key, found.secret) == (KEY, SECRET)
    absolute = [f"account.api_key_file={account.key.resolve()}"]
    assert credentials(account.loaded(*absolute), {}) == found


def test_live_reads_files_too(live: Account) -> None:
    found = credentials(live.loaded(), {})
    assert (found.api_key, found.secret) == (KEY, SECRET)


def test_files_win_over_the_environment(account: Account) -> None:
    env = {"MMBOT_API_KEY": "x" * 20, "MMBOT_SECRET": "y" * 20}
    assert credentials(account.loaded(), env).api_key == KEY


def test_a_link_is_followed_as_mounted_secrets_are(account: Account, tmp_path: Path) -> None:
    target = tmp_path / "..data"
    account.write(target, KEY)
    account.key.unlink()
    account.key.symlink_to(target)
    assert credentials(account.loaded(), {}).api_key == KEY
    target.chmod(0o644)
    assert "open to others" in account.refused()


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_what_only_the_owner_can_reach_is_taken(account: Account, mode: int) -> None:
    account.secret.chmod(mode)
    assert credentials(account.loaded(), {}).secret == SECRET


@pytest.mark.parametrize("bit", [0o040, 0o020, 0o010, 0o004, 0o002, 0o001])
@pytest.mark.parametrize("which", ["key", "secret"])
def test_what_others_can_reach_is_refused_with_the_chmod_that_helps(
    account: Account, bit: int, which: str
) -> None:
    path: Path = getattr(account, which)
    path.chmod(0o600 | bit)
    sentence = account.refused()
    assert f"(mode {0o600 | bit:04o}): chmod 600 {path}" in sentence
    os.system(sentence.rpartition(": ")[2])  # noqa: S605 - the advice is what is tested
    assert credentials(account.loaded(), {}).secret == SECRET


def test_no_such_file(account: Account) -> None:
    account.secret.unlink()
    assert account.refused() == f"account.secret_file: there is no file {account.secret}"


def test_a_folder_a_pipe_and_a_socket_are_no_files(account: Account, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for path in (tmp_path, pipe):
        sentence = account.refused(f"account.api_key_file={path}")
        assert sentence == f"account.api_key_file: {path} is not a regular file"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        assert "cannot be read" in account.refused(f"account.api_key_file={tmp_path / 's'}")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        (" \n\t\n", "is empty"),
        ("short", "less than 8 characters"),
        (f"{KEY} {SECRET}", "more than one word"),
        (f"key\n{KEY}", "more than one word"),
        (b"\xff\xfe" + KEY.encode(), "is not plain text"),
        ("x" * (SECRET_BYTES_MAX + 1), "is larger than"),
    ],
)
def test_what_cannot_be_a_key(account: Account, content: str | bytes, words: str) -> None:
    account.write(account.key, content)
    sentence = account.refused()
    assert sentence.startswith("account.api_key_file: ")
    assert words in sentence


def test_a_private_key_has_lines(account: Account) -> None:
    account.write(account.secret, PEM + "\n")
    assert credentials(account.loaded(), {}).secret == PEM


def test_a_key_is_not_its_own_secret(account: Account) -> None:
    account.write(account.secret, KEY)
    assert "hold the same text" in account.refused()


# --- without files


def bare(account: Account) -> None:
    lines = account.path.read_text().splitlines(keepends=True)
    account.path.write_text("".join(line for line in lines if "_file:" not in line))


def test_a_testnet_takes_the_environment(account: Account) -> None:
    bare(account)
    found = credentials(account.loaded(), ENV)
    assert (found.api_key, found.secret) == (KEY, SECRET)


@pytest.mark.parametrize("name", ENV)
def test_a_variable_that_is_missing_or_empty(account: Account, name: str) -> None:
    bare(account)
    without = {key: value for key, value in ENV.items() if key != name}
    sentence = account.refused(env=without)
    assert sentence.startswith("there is no API key: set account.api_key_file and ")
    assert sentence.endswith(f"({name} is not set)")
    assert account.refused(env={**ENV, name: " "}) == f"{name} is empty"


def test_live_takes_no_keys_from_the_environment(live: Account) -> None:
    bare(live)
    assert live.refused(env=ENV) == (
        "live takes its keys from files only: set account.api_key_file and account.secret_file"
    )


# --- never shown


def test_neither_value_is_ever_shown(account: Account) -> None:
    found = credentials(account.loaded(), {})
    shown = StringIO()
    pprint(found, console=Console(file=shown, width=200))
    redaction = Redaction()
    redaction.hide(found.api_key)
    redaction.hide(found.secret)
    logged = f"{redaction.plain(found)} {redaction.text(f'{KEY} {SECRET}')}"
    for text in (repr(found), str(found), f"{found}", shown.getvalue(), logged):
        assert KEY not in text
        assert SECRET not in text
