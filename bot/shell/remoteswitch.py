"""Misbehaviour switched from outside the process, for tests that run `serve` as a child.

`POST /_misbehave` takes {"name": …, "arguments": {…}}: a switch of `Misbehaviour`, or of its
events as "events.<switch>", "heal", or "report", which changes nothing. A `where` is the
name of a matcher. It exists only in a server that was started for it, and on loopback.
"""

from ipaddress import ip_address
from typing import Any, Final

import msgspec
from aiohttp import web

from bot.shell.misbehaviour import NAMES, Misbehaviour, chosen
from bot.venues.binance.failures import MATCHERS

PATH: Final = "/_misbehave"
EVENT_NAMES: Final = ("delay", "duplicate", "shuffle", "drop", "silence", "cut", "heal")


class Command(msgspec.Struct, forbid_unknown_fields=True):
    """What is asked for."""

    name: str
    arguments: dict[str, Any] = {}


def asks_switch(request: web.Request) -> bool:
    """Whether a request is a command from this machine."""
    if request.path != PATH or request.method != "POST" or request.remote is None:
        return False
    return ip_address(request.remote).is_loopback


def obey(misbehaviour: Misbehaviour, raw: bytes) -> tuple[int, bytes]:
    """Carry out a command: status, and a report or {"error": <one sentence>}."""
    try:
        command = msgspec.json.decode(raw, type=Command)
        switch(misbehaviour, command.name, command.arguments)
    except (msgspec.DecodeError, TypeError, ValueError) as error:
        return 400, msgspec.json.encode({"error": str(error)})
    return 200, msgspec.json.encode(report(misbehaviour))


def switch(misbehaviour: Misbehaviour, name: str, arguments: dict[str, Any]) -> None:
    """Call a switch by its name. ValueError or TypeError for what there is not."""
    if name == "report":
        return
    if "where" in arguments:
        arguments = arguments | {"where": chosen(MATCHERS, arguments["where"])}
    owner: object = misbehaviour
    kind, _, rest = name.rpartition(".")
    if kind == "events" and rest in EVENT_NAMES:
        owner = misbehaviour.events
    elif name not in (*NAMES, "heal"):
        raise ValueError(f"there is no switch {name}")
    getattr(owner, rest)(**arguments)


def report(misbehaviour: Misbehaviour) -> dict[str, Any]:
    """What is on, what requests and events met so far."""
    return {
        "active": misbehaviour.active(),
        "met": {name: misbehaviour.met(name) for name in NAMES if misbehaviour.met(name)},
        "events": misbehaviour.events.counts()._asdict(),
    }
