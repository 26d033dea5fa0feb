import json
import re

import pytest

from bot.venues.binance.reply import Refused, Request, illegal, mandatory, missing


def test_a_refusal_becomes_the_venues_error() -> None:
    reply = Refused(-2015, "No.", 401).reply
    assert (reply.status, json.loads(reply.body)) == (401, {"code": -2015, "msg": "No."})
    assert missing("side").code == -1102
    assert "'side' was not sent" in str(missing("side"))
    assert illegal("limit", "^[0-9]$").code == -1100
    assert Request("GET", "/x") == Request("GET", "/x", "", "", None)


def test_a_mandatory_parameter_is_there_and_has_its_form() -> None:
    form = re.compile("[0-9]+")
    assert mandatory({"limit": "12"}, "limit", form, "^[0-9]+$") == "12"
    for params, code in (({}, -1102), ({"limit": ""}, -1102), ({"limit": "12x"}, -1100)):
        with pytest.raises(Refused, match="'limit'") as caught:
            mandatory(params, "limit", form, "^[0-9]+$")
        assert caught.value.code == code
    assert str(caught.value).endswith("legal range is '^[0-9]+$'.")
