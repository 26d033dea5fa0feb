"""A start from a read-only tree with the image's settings: nothing compiles, everything runs.

No image is built here. The Dockerfile's NUMBA_ settings are read from it and used on a copy of
the package that nobody may write to.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
BUILD = """
import json
from bot.modes.warmup import kernels, warm
compiled, cached, _ = warm()
untouched = [name for name, kernel in kernels().items() if not kernel.signatures]
print(json.dumps({"compiled": compiled, "cached": cached, "untouched": untouched}))
"""


def numba_settings() -> dict[str, str]:
    """The NUMBA_ variables of the final stage."""
    final = (ROOT / "Dockerfile").read_text("utf-8").rpartition("\nFROM ")[2]
    return dict(re.findall(r"(NUMBA_\w+)=([^\s\\]+)", final))


class Tree(NamedTuple):
    """A copy of the package with a prepared cache, read-only, and a place that is not."""

    app: Path
    writable: Path
    settings: dict[str, str]
    built: dict[str, object]

    def run(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """`python` with the arguments, without any right to overrule a file's mode."""
        return subprocess.run(
            [*unprivileged(), sys.executable, *arguments],
            cwd=self.writable,
            env=environment(self.app, self.writable, self.settings),
            capture_output=True,
            text=True,
            timeout=60,
            check=check,
        )


def environment(app: Path, home: Path, settings: dict[str, str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return {**kept, "HOME": str(home), "TMPDIR": str(home), "PYTHONPATH": str(app), **settings}


def unprivileged() -> list[str]:
    """For root a file's mode is no obstacle as long as it has its capabilities."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("run as root without setpriv: nothing is read-only")
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory):
    """Copied, warmed up once (about 20 s of one processor), then made read-only."""
    base = tmp_path_factory.mktemp("image")
    app, writable = base / "app", base / "writable"
    writable.mkdir()
    shutil.copytree(ROOT / "bot", app / "bot", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "config", app / "config")
    settings = {**numba_settings(), "NUMBA_CACHE_DIR": str(app / "kernels")}
    building = {k: v for k, v in settings.items() if k != "NUMBA_CACHE_LOCATOR_CLASSES"}
    unprivileged()  # may skip, before the expensive part
    built = subprocess.run(
        [sys.executable, "-c", BUILD],
        cwd=writable,
        env=environment(app, writable, building),
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
        check=True,
    )
    for path in [*app.rglob("*"), app]:
        path.chmod(path.stat().st_mode & ~0o222)
    yield Tree(app, writable, settings, json.loads(built.stdout))
    for path in [app, *app.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)


def test_the_image_is_built_for_any_processor_and_only_reads_its_cache():
    assert numba_settings() == {
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CACHE_DIR": "/opt/mmbot/kernels",
        "NUMBA_CACHE_LOCATOR_CLASSES": "bot.modes.prepared.Prepared",
    }


@pytest.mark.xdist_group("image")
class TestReadOnlyTree:
    def test_the_warm_up_reaches_every_kernel(self, tree):
        assert tree.built["untouched"] == []
        assert tree.built["cached"] == 0
        assert tree.built["compiled"] > 0

    def test_it_cannot_be_written_to(self, tree):
        target = str(tree.app / "kernels" / "x")
        done = tree.run("-c", f"open({target!r}, 'w')", check=False)
        assert "PermissionError" in done.stderr

    def test_a_start_compiles_nothing(self, tree):
        before = sorted(tree.app.rglob("*"))
        done = tree.run("-m", "bot.modes.warmup", "--cached")
        assert re.fullmatch(r"0 kernels compiled, [1-9]\d* loaded .*\n", done.stdout)
        assert sorted(tree.app.rglob("*")) == before

    def test_a_run_compiles_nothing_and_can_be_audited(self, tree, usdm_capture):
        config = str(tree.app / "config" / "paper-binance-usdm.yaml")
        runs = str(tree.writable / "runs")
        done = tree.run(
            "-m", "bot", "replay", str(usdm_capture), "--config", config, "--out", runs, "--json"
        )
        result = json.loads(done.stdout)
        assert result["fills"] > 0
        assert json.loads(tree.run("-m", "bot", "audit", result["run"], "--json").stdout)["ok"]

    def test_the_spot_book_compiles_nothing(self, tree, spot_capture):
        market = ["--venue", "binance-spot", "--symbol", "BTCUSDT"]
        assert tree.run("-m", "bot", "replay", str(spot_capture), *market, "--json").stdout

    def test_a_kernel_that_was_not_prepared_is_refused_and_not_compiled(self, tree):
        # Another processor's name is another key in the cache.
        other = tree._replace(settings={**tree.settings, "NUMBA_CPU_NAME": "x86-64-v2"})
        code = "from bot.venues.binance.text import nanoseconds; nanoseconds(1)"
        done = other.run("-c", code, check=False)
        assert done.returncode == 1
        assert "prepare it again" in done.stderr
