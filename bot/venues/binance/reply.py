"""An answer to a REST request of Binance's, and the error that becomes one."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

# An integer parameter, as we take it (what fits in 64 bits) and as the venue words it.
DIGITS: Final = re.compile(r"[0-9]{1,18}")
DIGITS_LEGAL: Final = "^[0-9]{1,20}$"


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


def mandatory(params: Mapping[str, str], name: str, form: re.Pattern[str], legal: str) -> str:
    """A parameter that must be there and have a form, which the venue calls `legal`.

    Raises Refused.
    """
    text = params.get(name, "")
    if not text:
        raise missing(name)
    if form.fullmatch(text) is None:
        raise illegal(name, legal)
    return text


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
