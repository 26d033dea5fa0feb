"""ccxt's classes of one venue, without those of the other hundred.

`import ccxt.pro` reads every venue: several seconds and some 40 MB more. Here its packages are
stood in for while the modules of one venue are imported; afterwards the import system knows
nothing of it, so that whoever imports ccxt as a whole gets it as a whole. Where this does not
work with some other release of ccxt, the whole is imported.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple

# Venues that are built on another one's classes; the others stand alone.
BUILT_ON = {"binanceusdm": "binance"}


class Library(NamedTuple):
    """A venue's class, ccxt's word for an endpoint, and what every error of it is."""

    venue: Any
    entry: Any
    error: type[Exception]


@cache
def library(name: str) -> Library:
    """ccxt.pro's class for `name`, as `ccxt.pro` itself would give it."""
    if "ccxt" in sys.modules:
        return _whole(name)
    try:
        with _standing_in() as pro:
            for one in (*filter(None, [BUILT_ON.get(name)]), name):
                for package in ("ccxt.async_support", "ccxt.pro"):
                    # The package's attribute is the class, hiding the module of the same name.
                    found = getattr(import_module(f"{package}.{one}"), one)
                    setattr(sys.modules[package], one, found)
            entry = import_module("ccxt.base.types").Entry
            return Library(getattr(pro, name), entry, import_module("ccxt.base.errors").BaseError)
    except (ImportError, AttributeError):
        return _whole(name)


def _whole(name: str) -> Library:
    pro = import_module("ccxt.pro")
    return Library(getattr(pro, name), import_module("ccxt.base.types").Entry, pro.BaseError)


@contextmanager
def _standing_in() -> Iterator[ModuleType]:
    """Packages of ccxt's names and folders that import nothing by themselves; `ccxt.pro`."""
    spec = find_spec("ccxt")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("ccxt is not a package")
    root = spec.submodule_search_locations[0]
    try:
        top = _package("ccxt", root)
        rest = _package("ccxt.async_support", f"{root}/async_support")
        pro = _package("ccxt.pro", f"{root}/pro")
        for name, value in vars(import_module("ccxt.base.errors")).items():
            if isinstance(value, type):
                setattr(top, name, value)
        vars(top)["Exchange"] = import_module("ccxt.base.exchange").Exchange
        exchange = import_module("ccxt.async_support.base.exchange").Exchange
        vars(rest)["Exchange"] = vars(pro)["Exchange"] = exchange
        vars(top)["async_support"], vars(top)["pro"] = rest, pro
        yield pro
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "ccxt"]:
            del sys.modules[name]


def _package(name: str, path: str) -> ModuleType:
    module = ModuleType(name)
    module.__path__ = [path]
    sys.modules[name] = module
    return module
