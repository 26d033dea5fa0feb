"""Who sent a request to Binance's private API, server side: key, signature, time.

Source: "Request security" of the spot and "General info" of the USD-M documents: the HMAC
SHA256 of the query string with the body behind it, without the signature itself, exactly as
they were sent; a timestamp that is neither older than `recvWindow` nor a second ahead.
"""

import hmac
from collections.abc import Mapping
from hashlib import sha256
from typing import Final
from urllib.parse import parse_qsl

from bot.venues.binance.reply import (
    DIGITS,
    DIGITS_LEGAL,
    Refused,
    Request,
    mandatory,
    missing,
)

RECV_WINDOW_MS: Final = 5_000
RECV_WINDOW_MS_MAX: Final = 60_000
AHEAD_MS_MAX: Final = 1_000

_SIGNATURE: Final = "signature="


def parameters(request: Request) -> dict[str, str]:
    """What a request says in its query and body; the query wins."""
    body = parse_qsl(request.body, keep_blank_values=True)
    return dict(body) | dict(parse_qsl(request.query, keep_blank_values=True))


def signature_of(secret: str, payload: str) -> str:
    """The signature of a payload, in lower-case hexadecimal digits."""
    return hmac.new(secret.encode(), payload.encode(), sha256).hexdigest()


def check_signature(request: Request, secret: str) -> None:
    """Raise Refused unless the request is signed with `secret`."""
    parts = [[p for p in text.split("&") if p] for text in (request.query, request.body)]
    signed = [p for part in parts for p in part if p.startswith(_SIGNATURE)]
    if not signed:
        raise missing("signature")
    payload = "".join("&".join(p for p in part if not p.startswith(_SIGNATURE)) for part in parts)
    check_digest(secret, payload, signed[-1].removeprefix(_SIGNATURE))


def check_digest(secret: str, payload: str, given: str) -> None:
    """Raise Refused unless `given` is the payload's signature."""
    if not hmac.compare_digest(signature_of(secret, payload).encode(), given.lower().encode()):
        raise Refused(-1022, "Signature for this request is not valid.")


def check_time(params: Mapping[str, str], arrived: int) -> None:
    """Raise Refused when a request that arrived at `arrived` (ms) is too old or too new."""
    sent = _number(params, "timestamp")
    window = _number(params, "recvWindow") if "recvWindow" in params else RECV_WINDOW_MS
    if window > RECV_WINDOW_MS_MAX:
        raise Refused(-1131, f"recvWindow must be less than {RECV_WINDOW_MS_MAX}.")
    if sent >= arrived + AHEAD_MS_MAX:
        raise Refused(
            -1021, f"Timestamp for this request was {AHEAD_MS_MAX}ms ahead of the server's time."
        )
    if arrived - sent > window:
        raise Refused(-1021, "Timestamp for this request is outside of the recvWindow.")


def _number(params: Mapping[str, str], name: str) -> int:
    return int(mandatory(params, name, DIGITS, DIGITS_LEGAL))
