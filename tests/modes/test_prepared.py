"""The locator of a read-only cache; that numba starts with it is tests/deploy/test_image.py."""

import errno
from pathlib import Path

import pytest

from bot.modes.prepared import Prepared


def kernel() -> None:
    """Stands for one: numba asks a locator about the plain function."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # By name: numba reads NUMBA_CACHE_DIR when it is imported, so `bot` must come before it.
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    return tmp_path


def folder(cache: Path) -> Path:
    return cache / Prepared.get_suitable_cache_subpath(__file__)


def test_a_prepared_folder_is_taken_without_writing_to_it(cache):
    folder(cache).mkdir()
    locator = Prepared.from_function(kernel, __file__)
    assert locator is not None
    assert locator.get_cache_path() == str(folder(cache))
    assert list(folder(cache).iterdir()) == []


def test_a_folder_that_nobody_prepared_is_not_made(cache):
    assert Prepared.from_function(kernel, __file__) is None
    assert list(cache.iterdir()) == []


def test_a_kernel_that_was_not_prepared_is_an_error_that_says_what_to_do(cache):
    folder(cache).mkdir()
    locator = Prepared.from_function(kernel, __file__)
    assert locator is not None
    with pytest.raises(OSError, match=r"bot\.modes\.warmup") as raised:
        locator.ensure_cache_path()
    assert raised.value.errno == errno.EROFS
    assert raised.value.filename == str(folder(cache))
