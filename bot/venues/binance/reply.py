"""An answer to a REST request of Binance's, and the error that becomes one."""

from typing import NamedTuple

import msgspec


class Reply(NamedTuple):
    """An answer to a REST request; `weight` is what it costs, `headers` what it adds."""

    status: int
    body: bytes
    weight: int = 1
    headers: tuple[tuple[str, str], ...] = ()


class Request(NamedTuple):
    """A REST request as it came: `query` and `body` byte for byte, for the signature."""

    method: str
    path: str
    query: str = ""
    body: str = ""
    key: str | None = None  # the header X-MBX-APIKEY


class Refused(Exception):
    """A request that the venue answers with an error of its own."""

    def __init__(self, code: int, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.code = code
        self.reply = Reply(status, msgspec.json.encode({"code": code, "msg": text}))


def missing(name: str) -> Refused:
    """The error for a parameter that was not sent."""
    return Refused(
        -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
    )


def illegal(name: str, legal: str) -> Refused:
    """The error for a parameter of the wrong form."""
    return Refused(
        -1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'."
    )
