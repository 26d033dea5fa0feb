"""One account's line to its venue: signed calls and the private stream, through ccxt.

A call ends in a body, or in `CallFailed` with what the failure proves. The gate that a call
brings along is asked in the last code before its bytes are written, whatever had to be awaited
before (a connection, a name, a handshake); a call whose gate says no is `NotSent`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any, Final

import aiohttp
import msgspec

from bot.domain.events import UNSENT
from bot.domain.units import NS_PER_MS
from bot.shell.ccxtload import library
from bot.shell.clock import Clock
from bot.shell.peer import EXTEND, PRODUCTS, Access, check_host, new_peer
from bot.venues.orderentry import Call, OrderCodec, Priority, Refusal, Verdict

CONNECTIONS_MAX: Final = 32
USED_WEIGHT: Final = "x-mbx-used-weight-1m"
RETRY_AFTER: Final = "retry-after"
EXTEND_S: Final = 20 * 60.0  # a key of the private stream lives for an hour
EXTEND_AGAIN_S: Final = 60.0  # after an attempt that failed

Gate = Callable[[], bool]
Ask = Callable[[Call], Awaitable[Any]]  # the body of the answer to a call; raises CallFailed


class CallFailed(Exception):
    """A call without a body; `refusal` says what that proves.

    `code` and `text` are the venue's own, where it answered.
    """

    def __init__(self, refusal: Refusal, code: int | None = None, text: str = "") -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal
        self.code = code
        self.text = text


class NotSent(CallFailed):
    """Not a byte of the call was written."""


class StreamLost(Exception):
    """The private stream ended, or could not be had; str says why."""


class _Shut(Exception):
    """The gate said no."""


class Talk:
    """One call while it is under way."""

    __slots__ = ("body", "gate", "headers", "sent_at", "status")

    def __init__(self, gate: Gate | None) -> None:
        self.gate = gate
        self.sent_at = 0  # ns; 0 while not a byte has been written
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = ""


_TALK: ContextVar[Talk | None] = ContextVar("talk", default=None)


class Wire:
    """Calls and the private stream of one account on one venue; to be closed.

    `used` is told the request weight that the venue counts; `sent` each call's name and the
    time its bytes went out, ns. `extend_s` is how often the private stream's key is extended.
    Raises ForeignHost for an address outside the account's world.
    """

    def __init__(
        self,
        access: Access,
        codec: OrderCodec,
        clock: Clock,
        *,
        timeout_ms: int,
        used: Callable[[int], None] = lambda weight: None,
        sent: Callable[[str, int], None] = lambda method, at: None,
        extend_s: float = EXTEND_S,
    ) -> None:
        failed = library(PRODUCTS[access.venue][0]).error
        self._errors: tuple[type[Exception], ...] = (failed, aiohttp.ClientError)
        self._access = access
        self._codec = codec
        self._clock = clock
        self._timeout_s = timeout_ms / 1_000
        self._used = used
        self._sent = sent
        self._extend_s = extend_s
        self._heard: Callable[[Mapping[str, Any]], None] | None = None
        self._opened: Callable[[], None] | None = None
        self._peer = new_peer(
            access,
            timeout_ms,
            {
                "on_rest_response": self._answered,
                "handle_message": self._spoken,
                "on_connected": self._connected,
                "client": self._client,
                "nonce": self._signing_time,
                "keep_alive_listen_key": self._left_to_us,
            },
        )
        self._ahead_ms = 0  # our clock less the venue's
        self._session: aiohttp.ClientSession | None = None

    # --- calls ----------------------------------------------------------------------------

    async def call(self, call: Call, gate: Gate | None = None) -> Any:
        """The venue's answer to a call, as parsed JSON. Raises CallFailed, NotSent among it.

        Never sent twice, whatever happens: nothing here or below repeats a call.
        """
        self._open()
        talk = Talk(gate)
        mark = _TALK.set(talk)
        try:
            async with asyncio.timeout(2 * self._timeout_s):  # ccxt's own is below it
                return await getattr(self._peer, call.method)(dict(call.params))
        except _Shut:
            raise NotSent(Refusal(Verdict.REJECTED, UNSENT)) from None
        except TimeoutError as error:
            raise self._failure(call, talk, "timeout") from error
        except self._errors as error:
            raise self._failure(call, talk, type(error).__name__) from error
        finally:
            _TALK.reset(mark)
            if talk.sent_at:
                self._sent(call.method, talk.sent_at)

    def _failure(self, call: Call, talk: Talk, name: str) -> CallFailed:
        """What is proved by a failure of this kind at this point of the call."""
        if not talk.sent_at:
            return NotSent(Refusal(Verdict.REJECTED, f"not_sent_{name}"))
        if not talk.status:
            return CallFailed(Refusal(Verdict.UNKNOWN, name))
        code, text = _error_of(talk.body)
        wait = talk.headers.get(RETRY_AFTER, "")
        wait_s = float(wait) if wait.isdigit() else 0.0
        refusal = self._codec.refusal(talk.status, code, text, call.priority, wait_s)
        return CallFailed(refusal, code, text)

    def set_offset(self, ms: int) -> None:
        """Sign with times this many ms before our clock's."""
        self._ahead_ms = ms

    def _signing_time(self, base: Callable[[], float]) -> int:
        """ccxt's `nonce`, by the clock that the offset was measured against.

        ccxt reads the machine's, which steps when somebody sets it.
        """
        return self._clock.now() // NS_PER_MS - self._ahead_ms

    def _open(self) -> None:
        if self._session is not None:
            return
        trace = aiohttp.TraceConfig()
        # The last steps before the request is written; both can only be reached by awaiting.
        trace.on_connection_reuseconn.append(self._about_to_write)
        trace.on_connection_create_end.append(self._about_to_write)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
            trace_configs=[trace],
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        # aiohttp repeats idempotent requests on a connection that turns out to be closed; an
        # amend is a PUT, and nothing may be sent twice.
        self._session._retry_connection = False
        self._peer.own_session = False
        self._peer.session = self._session

    async def _about_to_write(
        self, session: aiohttp.ClientSession, context: SimpleNamespace, params: Any
    ) -> None:
        talk = _TALK.get()
        if talk is None:
            return  # the handshake of a web socket
        if talk.gate is not None and not talk.gate():
            raise _Shut
        talk.sent_at = self._clock.now()

    def _answered(self, base: Callable[..., str], *args: Any) -> str:
        """ccxt's `on_rest_response`: the answer, before ccxt reads it."""
        status, _, _, _, headers, body = args[:6]
        talk = _TALK.get()
        if talk is not None:
            talk.status = int(status)
            talk.headers = {name.lower(): value for name, value in headers.items()}
            talk.body = body
            used = talk.headers.get(USED_WEIGHT, "")
            if used.isdigit():
                self._used(int(used))
        return base(*args)

    # --- the private stream -----------------------------------------------------------------

    async def listen(
        self, heard: Callable[[Mapping[str, Any]], None], opened: Callable[[], None]
    ) -> None:
        """Hear every message of the private stream until it ends: always raises StreamLost.

        `opened` is called once the venue will send events. Only one listener at a time.
        """
        self._open()
        self._heard, self._opened = heard, opened
        extending = asyncio.create_task(self._extend_key(), name="extend key")
        try:
            await self._peer.watch_orders()
        except TimeoutError as error:
            raise StreamLost("timeout") from error
        except self._errors as error:
            raise StreamLost(f"{type(error).__name__}: {error}") from error
        finally:
            self._heard = self._opened = None
            extending.cancel()
            await asyncio.wait([extending])
            await self._drop_stream()
        raise StreamLost("ended")

    async def _extend_key(self) -> None:
        """Extend the stream's key for as long as it is heard; end it with a key that is gone."""
        method = EXTEND.get(self._access.venue)
        wait_s = self._extend_s
        while method is not None:
            await asyncio.sleep(wait_s)
            wait_s = self._extend_s
            try:
                await self.call(Call(method, {}, Priority.DATA))
            except CallFailed as failed:
                if failed.refusal.verdict is Verdict.REJECTED and not failed.refusal.limited_s:
                    self.end_stream(f"its key is not extended: {failed}")
                wait_s = min(wait_s, max(EXTEND_AGAIN_S, failed.refusal.limited_s))

    async def _left_to_us(self, base: Callable[..., Any], *args: Any) -> None:
        """ccxt's `keep_alive_listen_key`, which in 4.5.90 does not come again after once."""

    async def _drop_stream(self) -> None:
        """Close the stream's socket and forget its key, so that the next one begins anew."""
        _, _, stream = PRODUCTS[self._access.venue]
        state = self._peer.options.get(stream)
        if isinstance(state, dict):
            self._peer.options[stream] = state | {"listenKey": None, "lastAuthenticatedTime": 0}
        clients = list(self._peer.clients.values())
        self._peer.clients.clear()
        for client in clients:
            try:
                await client.close()
            except self._errors:
                continue  # it is closed all the same

    def _connected(self, base: Callable[..., None], client: Any, message: Any = None) -> None:
        base(client, message)
        # A listen key's socket delivers at once; the spot API wants to be subscribed first.
        if self._opened is not None and "ws-api" not in client.url:
            self._opened()

    def _spoken(self, base: Callable[..., None], client: Any, message: Any) -> None:
        """ccxt's `handle_message`: our ears first, and nothing of it into ccxt's caches."""
        if not isinstance(message, dict):
            return
        if "id" in message or "error" in message:
            base(client, message)
            result = message.get("result")
            if self._opened is not None and isinstance(result, dict) and "subscriptionId" in result:
                self._opened()
        elif self._heard is not None:
            self._heard(message)

    def _client(self, base: Callable[[str], Any], url: str) -> Any:
        if "://" in url:  # ccxt keeps some of its own state under names that are no address
            check_host(url, self._access.hosts)
        return base(url)

    def end_stream(self, why: str) -> None:
        """End the stream that `listen` hears, from outside."""
        for client in list(self._peer.clients.values()):
            client.reject(self._errors[0](why))

    async def close(self) -> None:
        """Close every socket; nothing is left behind, also when it is cancelled."""
        try:
            await self._drop_stream()
            await self._peer.close()
        finally:
            session, self._session = self._session, None
            if session is not None:
                await session.close()

    def __repr__(self) -> str:
        return f"<Wire {self._access.venue} {self._access.world}>"


def _error_of(body: str) -> tuple[int | None, str]:
    """(the venue's code, its words) of an error's body; None where it is no such body."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None, body[:200]
    if isinstance(found, list) and len(found) == 1:
        found = found[0]  # ccxt raises for a list of one error, too
    code = found.get("code") if isinstance(found, dict) else None
    text = found.get("msg") if isinstance(found, dict) else None
    return (code if isinstance(code, int) else None), str(text if text is not None else body[:200])
