import json
from typing import Any

import pytest

from bot.venues.binance.signing import signature_of
from bot.venues.binance.wsapi import PATH, WsApiSession
from tests.shell.fakemarket import SPOT
from tests.venues.binance.venuestage import KEY, SECRET, Stage

METHOD = "userDataStream.subscribe.signature"


def opened(stage: Stage) -> WsApiSession:
    session = stage.desk.session(PATH, {})
    assert isinstance(session, WsApiSession)
    return session


def signed(stage: Stage, **changes: Any) -> dict[str, Any]:
    params = {"apiKey": KEY, "timestamp": stage.now} | changes
    payload = "&".join(f"{name}={value}" for name, value in sorted(params.items()))
    return params | {"signature": signature_of(SECRET, payload)}


def ask(session: WsApiSession, method: str, params: Any = None) -> Any:
    message = {"id": "7", "method": method} | ({} if params is None else {"params": params})
    return json.loads(session.receive(json.dumps(message)))


def test_a_signature_subscribes_to_the_clients_stream() -> None:
    stage = Stage(SPOT)
    session = opened(stage)
    assert session.streams == {}
    assert ask(session, METHOD, signed(stage)) == {
        "id": "7", "status": 200, "result": {"subscriptionId": 0},
    }  # fmt: skip
    name = stage.seats[0].stream.name
    assert list(session.streams) == [name]
    assert session.carries(name)
    assert ask(session, "userDataStream.unsubscribe")["status"] == 200
    assert session.streams == {}


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"apiKey": "nobody"}, 401, -2015),
        ({"timestamp": 1}, 400, -1021),
        ({"signature": "0" * 64}, 400, -1022),
        ({"signature": ""}, 400, -1102),
    ],
)
def test_who_is_not_let_in(changes: dict[str, Any], status: int, code: int) -> None:
    stage = Stage(SPOT)
    session = opened(stage)
    params = signed(stage, **{n: v for n, v in changes.items() if n != "signature"}) | changes
    told = ask(session, METHOD, params)
    assert (told["status"], told["error"]["code"], told["id"]) == (status, code, "7")
    assert session.streams == {}


def test_small_talk_and_nonsense() -> None:
    stage = Stage(SPOT)
    session = opened(stage)
    assert ask(session, "ping")["result"] == {}
    assert ask(session, "time")["result"] == {"serverTime": stage.now}
    assert ask(session, "order.dance")["status"] == 400
    for text in ("{", "[]", '{"params":3}', b"\xff"):
        assert json.loads(session.receive(text))["error"]["code"] == -1135
