"""The command line, `mmbot`. Commands import what they need when they run."""

import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

if TYPE_CHECKING:
    from bot.domain.instrument import Instrument
    from bot.modes.settings import Loaded

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A market-making bot: a provably right book, Avellaneda-Stoikov quotes, honest paper.",
)
config_app = typer.Typer(no_args_is_help=True, help="Show, check and describe configurations.")
app.add_typer(config_app, name="config")

DEMO = Path(__file__).resolve().parents[1] / "config" / "demo.yaml"

Result = TypeVar("Result")


def finite(value: float | None) -> float | None:
    """A number of an option; `nan` passes every bound."""
    if value is not None and not isfinite(value):
        raise typer.BadParameter(f"{value} is no number to count with")
    return value


Seconds = Annotated[float | None, typer.Option(min=0.0, callback=finite, help="stop after so long")]
ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="a YAML file")]
Sets = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="override one key")]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON object on stdout")]


def out(text: str) -> None:
    """A result: stdout."""
    sys.stdout.write(text + "\n")


def refuse(sentence: str, code: int = 2) -> NoReturn:
    """A user's mistake: one sentence on stderr and an exit code."""
    sys.stderr.write(sentence + "\n")
    raise typer.Exit(code)


def loaded(path: Path | None, sets: Sequence[str]) -> "Loaded":
    """The configuration, or one sentence and exit 2."""
    from bot.modes.settings import ConfigError, load

    try:
        return load(path, env=os.environ, sets=sets)
    except ConfigError as mistake:
        refuse(str(mistake))


def reread(path: Path, sets: Sequence[str]) -> "Loaded":
    """The configuration as it is now; raises ConfigError."""
    from bot.modes.settings import load

    return load(path, env=os.environ, sets=sets)


def until_stopped(work: Callable[[], Result]) -> Result:
    """The result of `work`, which runs until SIGTERM: exit 0, also before it has begun.

    A user's mistake becomes one sentence and exit 2, a refused start one and exit 3, a venue
    that does not answer one and exit 5.
    """
    from bot.journal.capture import JournalError
    from bot.modes.demo import DemoError
    from bot.modes.preflight import (
        EXIT_REFUSED,
        EXIT_UNREACHABLE,
        PreflightRefused,
        VenueUnreachable,
    )
    from bot.modes.serve import ServeError
    from bot.modes.settings import ConfigError
    from bot.ops.rundb import RunDbError
    from bot.ops.web import WebError

    before = signal.signal(signal.SIGTERM, _stopped_early)
    try:
        return work()
    except (ConfigError, DemoError, JournalError, RunDbError, ServeError, WebError) as mistake:
        refuse(str(mistake))
    except PreflightRefused as refusal:
        refuse(str(refusal), EXIT_REFUSED)
    except VenueUnreachable as silence:
        refuse(str(silence), EXIT_UNREACHABLE)
    finally:
        signal.signal(signal.SIGTERM, before)


def _stopped_early(*_: object) -> NoReturn:
    sys.exit(0)


@config_app.command("check")
def config_check(config: ConfigPath, sets: Sets = []) -> None:  # noqa: B006 - typer copies it
    """Whether a configuration can be used; exit 2 and one sentence if not."""
    from bot.modes.configcmd import check

    out(check(loaded(config, sets)))


@config_app.command("show")
def config_show(
    config: ConfigPath,
    sets: Sets = [],  # noqa: B006 - typer copies it
    as_json: AsJson = False,
) -> None:
    """The effective configuration, each value with its source."""
    from bot.modes.configcmd import show

    out(show(loaded(config, sets), as_json))


@config_app.command("schema")
def config_schema() -> None:
    """The JSON schema of a configuration, for editors."""
    from bot.modes.configcmd import schema

    out(json.dumps(schema(), indent=2, ensure_ascii=False))


@app.command()
def replay(
    captures: Annotated[list[Path], typer.Argument(metavar="CAPTURE…", help="capture files")],
    config: Annotated[Path | None, typer.Option(help="a YAML file")] = None,
    venue: Annotated[str | None, typer.Option(help="when no config is given")] = None,
    symbol: Annotated[str | None, typer.Option(help="when no config is given")] = None,
    tick: Annotated[str | None, typer.Option(help="price step of an unlisted symbol")] = None,
    lot: Annotated[str | None, typer.Option(help="quantity step of an unlisted symbol")] = None,
    emit: Annotated[str | None, typer.Option(help="bbo, quotes or decisions, as lines")] = None,
    to: Annotated[Path | None, typer.Option("--out", help="folder for the run")] = None,
    sets: Sets = [],  # noqa: B006 - typer copies it
    as_json: AsJson = False,
) -> None:
    """A capture through the live engine with paper fills, as fast as it goes."""
    from bot.journal.capture import JournalError, chunks
    from bot.modes.settings import ConfigError

    if emit not in (None, "bbo", "quotes", "decisions"):
        refuse(f"--emit {emit} is not known: give bbo, quotes or decisions")
    try:
        settings = loaded(config, [*sets, *_as_sets(venue, symbol, tick, lot)])
        pieces = chunks(captures)
        if emit == "bbo":
            if to is not None:
                refuse("--emit bbo makes no run: leave --out away")
            _emit_bbo(settings.instrument, pieces, captures)
        else:
            _replay(settings, pieces, captures, emit, to, as_json)
    except (JournalError, ConfigError) as mistake:
        refuse(str(mistake))


def _as_sets(
    venue: str | None, symbol: str | None, tick: str | None, lot: str | None
) -> Iterator[str]:
    flags = {"venue": venue, "symbol": symbol, "instrument.tick": tick, "instrument.lot": lot}
    for key, value in flags.items():
        if value is not None:
            yield f"{key}={value}"


def _foreign(counts: dict[str, int], instrument: "Instrument", captures: list[Path]) -> None:
    """Exit 2 when the capture held nothing of the symbol, or of the venue's dialect."""
    own = counts["depth_updates"] + counts["book_tickers"] + counts["trades"]
    names = ", ".join(str(path) for path in captures)
    if counts["other_dialect"]:
        refuse(f"{names} holds depth frames of another market: give the right --venue")
    if own == 0 and counts["foreign"]:
        refuse(f"{names} holds no frame of {instrument.symbol}: give the right --symbol")
    if own == 0:
        refuse(f"{names} holds no frame that {instrument.venue} sends: give the right --venue")
    unread = counts["unreadable"] + counts["unreadable_depth"]
    if unread > own:
        sys.stderr.write(f"{names}: {unread} frames cannot be read: check --tick\n")
    elif counts["depth_updates"] and not counts["snapshots"]:
        sys.stderr.write(f"{names} holds no order-book snapshot: the book is never trusted\n")


def _emit_bbo(instrument: "Instrument", pieces: Iterator[bytes], captures: list[Path]) -> None:
    from bot.modes.enginerun import new_codec
    from bot.modes.replay import bbo_lines

    codec = new_codec(instrument)
    for line in bbo_lines(codec, instrument, pieces):
        sys.stdout.buffer.write(line + b"\n")
    _foreign(codec.counts(), instrument, captures)


def _replay(
    settings: "Loaded",
    pieces: Iterator[bytes],
    captures: list[Path],
    emit: str | None,
    to: Path | None,
    as_json: bool,
) -> None:
    from bot.modes.enginerun import EngineRun, new_engine
    from bot.modes.replay import emitted, first_and_rest, start_run

    new_engine(settings)  # what it refuses must not leave a run folder behind
    first, pieces = first_and_rest(pieces)
    run = None if to is None else start_run(settings, to, first)
    work = EngineRun(settings, run, emitted(emit, settings.instrument, sys.stdout.buffer.write))
    work.feed_all(pieces)
    _foreign(work.codec.counts(), settings.instrument, captures)
    result = work.result()
    if emit is not None:
        return
    _tell(result, as_json)


def _tell(result: dict[str, Any], as_json: bool) -> None:
    from bot.ops.printed import printed

    out(json.dumps(result) if as_json else printed(result))


def _logged(
    settings: "Loaded", work: Callable[[Callable[[str], None]], tuple[int, dict[str, Any]]]
) -> tuple[int, dict[str, Any]]:
    """Exit code and result of `work`, which gets what hides a secret from the logs on stderr."""
    from bot.ops.logs import set_up
    from bot.shell.clock import Clock

    logs = set_up(settings.settings.run.log_level, now=Clock().now)
    try:
        return until_stopped(lambda: work(logs.hide))
    finally:
        logs.close()


def _end(code: int, result: dict[str, Any], as_json: bool) -> NoReturn:
    """Print a result and leave."""
    if code == 1:
        run = result.get("run")
        where = f"; {run}/bot.log says more" if run and Path(run, "bot.log").exists() else ""
        sys.stderr.write(f"the run broke and was stopped{where}\n")
    _tell(result, as_json)
    raise typer.Exit(code)


@app.command()
def run(
    config: ConfigPath,
    seconds: Seconds = None,
    sets: Sets = [],  # noqa: B006 - typer copies it
    as_json: AsJson = False,
) -> None:
    """The daemon: a venue's market data, orders on paper or at the venue, until it is stopped."""
    from bot.modes.run import run as run_live

    settings = loaded(config, sets)
    work = partial(run_live, settings, config, lambda: reread(config, sets), seconds)
    _end(*_logged(settings, work), as_json)


@app.command()
def watchdog(
    config: ConfigPath,
    seconds: Seconds = None,
    sets: Sets = [],  # noqa: B006 - typer copies it
    as_json: AsJson = False,
) -> None:
    """Beside the bot, with the same CONFIG: cancels its orders when its heartbeat stops."""
    from bot.modes.preflight import EXIT_REFUSED, PreflightRefused
    from bot.modes.settings import ConfigError
    from bot.modes.watchdog import watchdog as watch
    from bot.ops.logs import set_up
    from bot.shell.clock import Clock

    # Without `until_stopped`, whose imports are the whole bot: it must start though that cannot.
    settings = loaded(config, sets)
    logs = set_up(settings.settings.run.log_level, now=Clock().now)
    try:
        code, result = watch(settings, seconds, os.environ)
    except ConfigError as mistake:
        refuse(str(mistake))
    except PreflightRefused as refusal:
        refuse(str(refusal), EXIT_REFUSED)
    finally:
        logs.close()
    _end(code, result, as_json)


@app.command()
def check(
    config: ConfigPath,
    sets: Sets = [],  # noqa: B006 - typer copies it
    as_json: AsJson = False,
) -> None:
    """Whether a run could start: keys, clock, filters, funds, disk; nothing is changed anywhere."""
    from bot.modes import checkcmd
    from bot.shell.clock import Clock

    settings = loaded(config, sets)
    found = until_stopped(lambda: checkcmd.check(settings, os.environ, Clock()))
    if as_json:
        out(checkcmd.as_json(settings, found))
    else:
        checkcmd.show(found)
    raise typer.Exit(found.code)


@app.command()
def record(
    config: ConfigPath,
    to: Annotated[Path, typer.Option("--out", metavar="DIR", help="folder for the captures")],
    seconds: Annotated[float | None, typer.Option(min=0.0, help="stop after so long")] = None,
    sets: Sets = [],  # noqa: B006 - typer copies it
    as_json: AsJson = False,
) -> None:
    """What a venue sends, frame by frame, into captures that `replay` reads."""
    from bot.modes.record import record as run_recording

    settings = loaded(config, sets)
    _end(*_logged(settings, lambda hide: run_recording(settings, to, seconds)), as_json)


@app.command()
def demo(
    seconds: Seconds = None,
    scenario: Annotated[str, typer.Option(help="calm, trend, whipsaw, cliff or stall")] = "calm",
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="another market")] = 1,
    config: Annotated[Path | None, typer.Option(help="a YAML file instead of the demo's")] = None,
    picture: Annotated[Path | None, typer.Option(help="SVG file for the last screen")] = None,
    sets: Sets = [],  # noqa: B006 - typer copies it
    as_json: AsJson = False,
) -> None:
    """The bot on a market that it makes up itself: real sockets, no keys, no network."""
    from bot.modes.demo import demo as run_demo

    settings = loaded(config or DEMO, sets)
    show = sys.stdout.isatty() and not as_json
    code, result = until_stopped(
        lambda: run_demo(
            settings, scenario=scenario, seed=seed, seconds=seconds, show=show, picture=picture
        )
    )
    _end(code, result, as_json)


@app.command()
def serve(
    venue: Annotated[str, typer.Option(help="binance-usdm or binance-spot")] = "binance-usdm",
    symbol: Annotated[str, typer.Option(help="as the venue spells it")] = "BTCUSDT",
    host: Annotated[str, typer.Option(help="a loopback address")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one")] = 0,
    scenario: Annotated[str, typer.Option(help="calm, trend, whipsaw, cliff or stall")] = "calm",
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="another market")] = 1,
    capture: Annotated[list[Path] | None, typer.Option(help="play recorded data instead")] = None,
    speed: Annotated[
        float, typer.Option(min=0.01, max=100.0, callback=finite, help="of the market's time")
    ] = 1.0,
    with_parent: Annotated[bool, typer.Option(hidden=True)] = False,
    api_key: Annotated[str | None, typer.Option(hidden=True)] = None,
    maker_bp: Annotated[float | None, typer.Option(hidden=True, callback=finite)] = None,
    taker_bp: Annotated[float | None, typer.Option(hidden=True, callback=finite)] = None,
    secret: Annotated[str | None, typer.Option(hidden=True)] = None,
    misbehaviour: Annotated[bool, typer.Option("--misbehaviour", hidden=True)] = False,
    as_json: AsJson = False,
) -> None:
    """The simulated exchange alone, speaking the venue's wire protocol on loopback."""
    from bot.modes.serve import API_KEY, API_SECRET, new_playback, new_server
    from bot.modes.serve import serve as run_server
    from bot.ops.web import loopback_address
    from bot.shell.clock import Clock

    rates = {"fees.maker_bp": maker_bp, "fees.taker_bp": taker_bp}
    sets = [f"{key}={rate}" for key, rate in rates.items() if rate is not None]
    settings = loaded(None, [*_as_sets(venue, symbol, None, None), *sets])
    if misbehaviour and capture:
        refuse("--misbehaviour is of the simulated exchange: leave out --capture")

    try:
        address = loopback_address(host)
    except ValueError:
        refuse(f"--host {host} is not loopback: give 127.0.0.1, ::1 or localhost")

    keys = {"api_key": api_key or API_KEY, "secret": secret or API_SECRET}

    def told(bound: int) -> None:
        url = f"http://[{address}]:{bound}" if ":" in address else f"http://{address}:{bound}"
        note = {"url": url, "venue": venue, "symbol": symbol} | ({} if capture else keys)
        out(json.dumps(note) if as_json else f"serving {venue} {symbol} on {url}")
        sys.stdout.flush()

    def work() -> bool:
        clock = Clock()
        where: dict[str, Any] = {"host": address, "port": port, "speed": speed}
        if capture:
            server: Any = new_playback(settings.instrument, clock, capture, **where)
        else:
            where |= {"scenario": scenario, "seed": seed, "switchable": misbehaviour}
            where["fees"] = settings.fees
            server = new_server(
                settings.instrument, clock, key=keys["api_key"], secret=keys["secret"], **where
            )
        return run_server(server, told, with_parent=with_parent)

    if until_stopped(work):
        raise typer.Exit(130)


@app.command()
def audit(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="a run's folder")],
    as_json: AsJson = False,
) -> None:
    """Replay a run's journal; exit 0 only if every decision comes out again."""
    from bot.journal.capture import JournalError
    from bot.journal.run import open_run
    from bot.modes.audit import audit as audit_run

    try:
        open_run(run)
    except JournalError as mistake:
        refuse(str(mistake))
    try:
        result = audit_run(run)
    except JournalError as damage:
        refuse(str(damage), 1)
    if as_json:
        out(json.dumps(result))
    elif result["ok"]:
        out(f"ok: {result['decisions']} decisions over {result['frames']} frames came out again")
        if not result["closed"]:
            behind = result["records_without_frames"]
            lost = f", and the frames of {behind} more records are lost" if behind else ""
            out(f"the run was not closed: it still goes on, or it crashed{lost}")
    if not result["ok"]:
        refuse(str(result["difference"]), 1)


def main() -> None:
    """Entry point of `mmbot`. Nobody need read all of its output: `| head -1` is no failure."""
    _open_closed_streams()
    signal.signal(signal.SIGTERM, _stopped_early)
    code: str | int | None = 0
    try:
        app()
    except SystemExit as end:
        # Typer leaves with 1 when it meets a closed pipe.
        code = 0 if isinstance(end.__context__, BrokenPipeError) else end.code
    except KeyboardInterrupt:
        code = 130
    except OSError as error:
        code = _full(error)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        sys.stderr.write("compiled kernels cannot be kept: set NUMBA_CACHE_DIR to a folder\n")
        code = 2
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_stdout()
    except OSError as error:
        code = _full(error)
    sys.exit(code)


def _open_closed_streams() -> None:
    """Streams that the caller closed lead nowhere; else a file of ours would take their place."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _full(error: OSError) -> int:
    """One sentence and exit 1 where the output found no room; any other error goes on."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        raise error
    sys.stderr.write(f"the output cannot be written: {error.strerror}\n")
    _forget_stdout()
    return 1


def _forget_stdout() -> None:
    """Python flushes once more at exit, and would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
