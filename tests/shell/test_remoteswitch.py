import json
from typing import Any, cast

import pytest
from aiohttp import web

from bot.shell.misbehaviour import NAMES, Misbehaviour
from bot.shell.remoteswitch import EVENT_NAMES, PATH, asks_switch, obey
from bot.venues.binance.failures import MATCHERS
from tests.shell.test_misbehaviour import Stage

ARGUMENTS: dict[str, dict[str, Any]] = {
    "lose_reply": {"where": "placements", "hang": True},
    "lose_request": {"where": "cancels", "times": 3},
    "fail_after": {"where": "amends", "answer": "-1007"},
    "fail_before": {"where": "queries"},
    "spoil": {"where": "placements", "form": "html"},
    "delay_request": {"where": "anything", "ms": 5},
    "delay_reply": {"where": "fills", "ms": 5},
    "lag": {"where": "open_orders", "ms": 5},
    "throttle": {"seconds": 5},
    "ban": {"seconds": 5},
    "partition": {"both": True},
    "events.delay": {"ms": 5},
    "events.drop": {"events": 1},
}


def told(faults: Misbehaviour, name: str, **arguments: Any) -> tuple[int, Any]:
    status, body = obey(faults, json.dumps({"name": name, "arguments": arguments}).encode())
    return status, json.loads(body)


@pytest.mark.parametrize("name", NAMES)
def test_every_switch_can_be_reached(name: str) -> None:
    faults = Stage().faults
    status, report = told(faults, name, **ARGUMENTS.get(name, {}))
    assert (status, list(report["active"])) == (200, [name])
    assert told(faults, "heal")[1]["active"] == {}


@pytest.mark.parametrize("name", EVENT_NAMES)
def test_every_switch_of_events_can_be_reached(name: str) -> None:
    stage = Stage()
    name = f"events.{name}"
    assert told(stage.faults, name, **ARGUMENTS.get(name, {}))[0] == 200
    on = "on" if name not in ("events.cut", "events.heal") else "off"
    assert repr(stage.faults.events).startswith(f"<EventFaults {on}")


async def test_a_report_says_what_was_met() -> None:
    stage = Stage()
    told(stage.faults, "fail_after", where="placements", times=2)
    await stage.ask()
    stage.faults.events.publish("key", b"")
    assert told(stage.faults, "report") == (
        200,
        {
            "active": {"fail_after": 1},
            "met": {"fail_after": 1},
            "events": {"sent": 1, "lost": 0, "held": 0},
        },
    )


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "Input data was truncated"),
        (b"[]", "Expected `object`"),
        (b'{"name":"close"}', "there is no switch close"),
        (b'{"name":"_add"}', "there is no switch _add"),
        (b'{"name":"events.publish"}', "there is no switch events.publish"),
        (b'{"name":"other.delay"}', "there is no switch other.delay"),
        (b'{"name":"ban","argument":{}}', "unknown field `argument`"),
        (b'{"name":"ban","arguments":{}}', "missing 1 required positional argument"),
        (b'{"name":"ban","arguments":{"seconds":-1}}', "is no time between"),
        (b'{"name":"ban","arguments":{"seconds":"x"}}', "not supported"),
        (b'{"name":"lose_reply","arguments":{"where":"x"}}', "x is none of anything"),
        (b'{"name":"lose_reply","arguments":{"where":["x"]}}', "unhashable"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(raw: bytes, says: str) -> None:
    faults = Stage().faults
    status, body = obey(faults, raw)
    assert status == 400
    assert says in json.loads(body)["error"]
    assert faults.active() == {}


def test_matchers_are_named() -> None:
    for name in MATCHERS:
        assert told(Stage().faults, "fail_after", where=name)[0] == 200


class FakeRequest:
    def __init__(self, method: str, path: str, remote: str | None) -> None:
        self.method, self.path, self.remote = method, path, remote


@pytest.mark.parametrize(
    ("method", "path", "remote", "asks"),
    [
        ("POST", PATH, "127.0.0.1", True),
        ("POST", PATH, "::1", True),
        ("POST", PATH, "192.0.2.1", False),
        ("POST", PATH, None, False),
        ("GET", PATH, "127.0.0.1", False),
        ("POST", "/fapi/v1/order", "127.0.0.1", False),
    ],
)
def test_only_this_machine_may_switch(
    method: str, path: str, remote: str | None, asks: bool
) -> None:
    assert asks_switch(cast(web.Request, FakeRequest(method, path, remote))) is asks
