import json

from bot.venues.binance.reply import Refused, Request, illegal, missing


def test_a_refusal_becomes_the_venues_error() -> None:
    reply = Refused(-2015, "No.", 401).reply
    assert (reply.status, json.loads(reply.body)) == (401, {"code": -2015, "msg": "No."})
    assert missing("side").code == -1102
    assert "'side' was not sent" in str(missing("side"))
    assert illegal("limit", "^[0-9]$").code == -1100
    assert Request("GET", "/x") == Request("GET", "/x", "", "", None)
