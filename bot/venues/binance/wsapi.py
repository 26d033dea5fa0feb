"""Binance's spot WebSocket API, server side, as far as user data needs it.

Source: "Request security" and "User Data Stream requests" of the WebSocket API documents: the
signature is that of all parameters but itself, sorted by name. A connection subscribes once.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from bot.venues.binance.reply import Refused, missing
from bot.venues.binance.seat import Seat
from bot.venues.binance.signing import check_digest, check_time
from bot.venues.binance.userstream import SUBSCRIPTION

PATH: Final = "/ws-api/v3"


class WsApiSession:
    """One connection. `seat_of` finds a key's account or raises Refused; `now` is in ms."""

    combined = False

    def __init__(self, seat_of: Callable[[str | None], Seat], now: Callable[[], int]) -> None:
        self.streams: dict[str, None] = {}
        self._seat_of = seat_of
        self._now = now

    def carries(self, name: str) -> bool:
        """What was subscribed to is sent."""
        return True

    def receive(self, text: str | bytes) -> bytes:
        """Answer one request."""
        try:
            message = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            message = None
        if not isinstance(message, dict) or not isinstance(message.get("params", {}), dict):
            return _failed(None, Refused(-1135, "JSON Request is invalid."))
        asked = message.get("id")
        try:
            result = self._obey(message.get("method"), message.get("params", {}))
        except Refused as refused:
            return _failed(asked, refused)
        return msgspec.json.encode({"id": asked, "status": 200, "result": result})

    def _obey(self, method: Any, params: dict[str, Any]) -> dict[str, Any]:
        match method:
            case "ping":
                return {}
            case "time":
                return {"serverTime": self._now()}
            case "userDataStream.subscribe.signature":
                return self._subscribe({name: str(value) for name, value in params.items()})
            case "userDataStream.unsubscribe":
                self.streams = {}
                return {}
            case _:
                raise Refused(-1000, "Unknown method.")

    def _subscribe(self, params: dict[str, str]) -> dict[str, Any]:
        seat = self._seat_of(params.get("apiKey"))
        given = params.pop("signature", "")
        if not given:
            raise missing("signature")
        payload = "&".join(f"{name}={value}" for name, value in sorted(params.items()))
        check_digest(seat.secret, payload, given)
        check_time(params, self._now())
        self.streams = {seat.stream.name: None}
        return {"subscriptionId": SUBSCRIPTION}

    def __repr__(self) -> str:
        return f"<WsApiSession {list(self.streams)}>"


def _failed(asked: Any, refused: Refused) -> bytes:
    error = {"code": refused.code, "msg": str(refused)}
    return msgspec.json.encode({"id": asked, "status": refused.reply.status, "error": error})
