"""Whether market data can be had: the snapshot once, and each socket opened and closed."""

import asyncio
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException

from bot.venues.binance.endpoints import Endpoints, is_snapshot

BODY_BYTES_MAX: Final = 8 << 20  # a book of 1,000 levels is 100 kB


async def unreachable(where: Endpoints, timeout_s: float) -> str:
    """What of a symbol's market data cannot be had, in one sentence; empty where all can.

    Everything is tried at the same time, each for `timeout_s` at most.
    """
    jobs = [_snapshot(where.snapshot_url, timeout_s)]
    jobs += [_socket(connection.url, timeout_s) for connection in where.connections]
    found = await asyncio.gather(*jobs)
    return next((fault for fault in found if fault), "")


async def _snapshot(url: str, timeout_s: float) -> str:
    host = urlsplit(url).netloc
    session = aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )
    try:
        async with session as http, http.get(url, allow_redirects=False) as answer:
            body = await answer.content.read(BODY_BYTES_MAX)
            while not answer.content.at_eof() and len(body) < BODY_BYTES_MAX:
                body += await answer.content.read(BODY_BYTES_MAX - len(body))
    except TimeoutError:
        return f"{host} gives no order book within {timeout_s:g} s"
    except (aiohttp.ClientError, OSError) as error:
        return f"{host} cannot be reached ({type(error).__name__})"
    if answer.status != 200:
        return f"{host} refuses the order book (HTTP {answer.status})"
    return "" if is_snapshot(body) else f"{host} answers, but with something else than a book"


async def _socket(url: str, timeout_s: float) -> str:
    host = urlsplit(url).netloc
    try:
        ws = await connect(url, compression=None, proxy=None, open_timeout=timeout_s)
    except InvalidStatus as refusal:
        return f"{host} refuses the market data (HTTP {refusal.response.status_code})"
    except TimeoutError:
        return f"{host} opens no socket within {timeout_s:g} s"
    except (OSError, WebSocketException, AssertionError) as error:
        # websockets 17 asserts where bytes come before the answer to its handshake.
        return f"{host} opens no socket ({type(error).__name__})"
    await ws.close()
    return ""
