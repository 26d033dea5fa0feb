"""`mmbot check`: the preflight as a table, with nothing changed at the venue."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from bot.modes import configcmd, premises
from bot.modes.account import access_of, account_name
from bot.modes.preflight import Examination, Finding, Level, PreflightRefused
from bot.modes.secrets import credentials
from bot.modes.settings import ConfigError, Loaded
from bot.modes.start import examined
from bot.ops.logs import Logs, set_up
from bot.ops.redact import Redaction
from bot.shell.clock import Clock
from bot.shell.lease import state_folder
from bot.shell.loop import run as run_loop
from bot.shell.reach import unreachable
from bot.venues.binance.endpoints import Endpoints, endpoints

STYLES: Final = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}
WIDTH: Final = {"level": 4, "name": 13}


def check(loaded: Loaded, env: Mapping[str, str], clock: Clock) -> Examination:
    """Examine a config on an event loop of its own; secrets are in no text of the result.

    Raises ConfigError for market data that cannot be asked for.
    """
    where = _market_data(loaded)
    logs = set_up("error", now=clock.now)
    try:
        return run_loop(_check(loaded, where, env, clock, logs))
    finally:
        logs.close()


def _market_data(loaded: Loaded) -> Endpoints:
    settings = loaded.settings
    try:
        return endpoints(
            settings.venue, settings.symbol, settings.feed.world, base=settings.feed.base_url
        )
    except ValueError as mistake:
        raise ConfigError(f"feed: {mistake}") from mistake


async def _check(
    loaded: Loaded,
    where: Endpoints,
    env: Mapping[str, str],
    clock: Clock,
    logs: Logs,
) -> Examination:
    config = Finding("config", Level.OK, configcmd.check(loaded).removeprefix("ok: "))
    if loaded.settings.mode == "paper":
        found = Examination((premises.disk(Path(loaded.settings.run.folder)),))
    else:
        found = await _check_account(loaded, env, clock, logs)
    found = replace(found, findings=(config, *found.findings))
    return found if found.unreachable else await _with_feed(loaded, where, found)


async def _check_account(
    loaded: Loaded, env: Mapping[str, str], clock: Clock, logs: Logs
) -> Examination:
    try:
        keys = credentials(loaded, env)
    except PreflightRefused as refusal:
        disk = premises.disk(Path(loaded.settings.run.folder))
        return Examination((disk, Finding("key", Level.FAIL, str(refusal))))
    redaction = Redaction()
    for secret in (keys.api_key, keys.secret):
        redaction.hide(secret)
        logs.hide(secret)
    access, name = access_of(loaded, keys), account_name(loaded, keys)
    found = await examined(loaded, access, clock, state=state_folder(env), name=name)
    # A venue's own words may repeat what they refuse.
    texts = [replace(one, text=redaction.text(one.text)) for one in found.findings]
    return replace(found, findings=tuple(texts))


async def _with_feed(loaded: Loaded, where: Endpoints, found: Examination) -> Examination:
    """The market data, as far as the symbol is known to be there."""
    if any(one.name == "filters" for one in found.failures):
        return found
    fault = await unreachable(where, loaded.settings.execution.request_timeout_ms / 1_000)
    level = Level.FAIL if fault else Level.OK
    feed = Finding("feed", level, fault or "order book and streams can be had")
    return replace(found, findings=(*found.findings, feed), unreachable=bool(fault))


def as_json(loaded: Loaded, found: Examination) -> str:
    """One object; `code` is the exit code."""
    settings, instrument, fees = loaded.settings, found.instrument, found.fees
    terms: dict[str, Any] = {}
    if instrument is not None:
        terms |= {name: format(getattr(instrument, name), "f") for name in ("tick", "lot")}
        terms["min_qty"] = format(instrument.quantity(instrument.min_qty_lots), "f")
        terms["min_notional"] = format(instrument.min_notional, "f")
    if fees is not None:
        terms |= {"maker": format(fees.maker, "f"), "taker": format(fees.taker, "f")}
    return json.dumps(
        {
            "ok": not found.failures,
            "code": found.code,
            "mode": settings.mode,
            "venue": settings.venue,
            "symbol": settings.symbol,
            "offset_ms": found.offset_ms,
            "terms": terms,
            "findings": [
                {"name": one.name, "level": one.level.value, "text": one.text}
                for one in found.findings
            ],
        },
        ensure_ascii=False,
    )


def as_text(found: Examination) -> str:
    """One line a finding."""
    level, name = WIDTH["level"], WIDTH["name"]
    rows = [f"{one.level.value:<{level}}  {one.name:<{name}}  {one.text}" for one in found.findings]
    return "\n".join(rows)


def show(found: Examination) -> None:
    """The table on stdout: in colours on a terminal, plain lines anywhere else."""
    if not sys.stdout.isatty():
        sys.stdout.write(as_text(found) + "\n")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for one in found.findings:
        table.add_row(Text(one.level.value, STYLES[one.level]), Text(one.name), Text(one.text))
    Console(file=sys.stdout, highlight=False).print(table)
