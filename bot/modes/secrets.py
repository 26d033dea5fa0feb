"""The API key and its secret, from files or, on testnets only, from the environment.

A file may be read and written by its owner alone: what others can read is no secret, and what
they can write may be another account's key. Neither value is ever part of a message; the caller
hides both from the logs (`Redaction.hide`) before anything else is done with them.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Final

from bot.modes.preflight import PreflightRefused
from bot.modes.settings import Loaded
from bot.modes.yamlsource import ENV_API_KEY, ENV_SECRET
from bot.ops.redact import SECRET_CHARS_MIN
from bot.shell.peer import Credentials

SECRET_BYTES_MAX: Final = 8 << 10  # the longest RSA key is half of it
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def credentials(loaded: Loaded, env: Mapping[str, str]) -> Credentials:
    """The credentials of a configuration for testnet or live.

    Without files in the config they come from the environment, which deserves a warning.
    Raises PreflightRefused, whose sentence names the file or variable and never its content.
    """
    account, mode = loaded.settings.account, loaded.settings.mode
    if account.api_key_file is not None and account.secret_file is not None:
        api_key = _of_file(loaded.folder / account.api_key_file, "account.api_key_file")
        secret = _of_file(loaded.folder / account.secret_file, "account.secret_file")
        return _both(api_key, secret, "account.api_key_file and account.secret_file hold")
    if mode == "live":
        raise PreflightRefused(
            "live takes its keys from files only: set account.api_key_file and account.secret_file"
        )
    for name in (ENV_API_KEY, ENV_SECRET):
        if name not in env:
            raise PreflightRefused(
                f"there is no API key: set account.api_key_file and account.secret_file, or "
                f"{ENV_API_KEY} and {ENV_SECRET} in the environment ({name} is not set)"
            )
    api_key, secret = (_clean(env[name], name) for name in (ENV_API_KEY, ENV_SECRET))
    return _both(api_key, secret, f"{ENV_API_KEY} and {ENV_SECRET} hold")


def _both(api_key: str, secret: str, they: str) -> Credentials:
    if api_key == secret:
        raise PreflightRefused(f"{they} the same text, but a key and its secret differ")
    return Credentials(api_key, secret)


def _of_file(path: Path, key: str) -> str:
    """The text of a secret's file; links are followed, the file behind them is judged."""
    try:
        # Non-blocking: opening a pipe would wait for a writer.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _judge(os.fstat(handle).st_mode, path, key)
            data = os.read(handle, SECRET_BYTES_MAX + 1)
        finally:
            os.close(handle)
    except FileNotFoundError:
        raise PreflightRefused(f"{key}: there is no file {path}") from None
    except OSError as error:
        raise PreflightRefused(f"{key}: {path} cannot be read: {error.strerror}") from None
    if len(data) > SECRET_BYTES_MAX:
        raise PreflightRefused(f"{key}: {path} is larger than {SECRET_BYTES_MAX} bytes")
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        raise PreflightRefused(f"{key}: {path} is not plain text") from None
    return _clean(text, f"{key}: {path}")


def _judge(mode: int, path: Path, key: str) -> None:
    if not stat.S_ISREG(mode):
        raise PreflightRefused(f"{key}: {path} is not a regular file")
    if mode & OTHERS:
        raise PreflightRefused(
            f"{key}: {path} is open to others than its owner (mode {stat.S_IMODE(mode):04o}): "
            f"chmod 600 {quote(str(path))}"
        )


def _clean(text: str, place: str) -> str:
    """One word, or a private key in PEM form, without what an editor leaves around it."""
    text = text.strip()
    if not text:
        raise PreflightRefused(f"{place} is empty")
    if len(text.split()) > 1 and not text.startswith("-----BEGIN "):
        raise PreflightRefused(f"{place} holds more than one word: it must hold the secret alone")
    if len(text) < SECRET_CHARS_MIN:
        raise PreflightRefused(
            f"{place} holds less than {SECRET_CHARS_MIN} characters, which is no key"
        )
    return text
