"""The warm-up finds every kernel by itself, and says what it did.

That it reaches each of them, and that nothing compiles behind it, needs an empty cache and a
process of its own: tests/deploy/test_image.py.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bot import KERNELS
from bot.modes import warmup
from bot.modes.warmup import STEPS, Warmth, kernels, main, summary, warm

ROOT = Path(__file__).parents[2]


def jitted(path: Path) -> list[str]:
    """Names of the functions that a source decorates with njit."""
    return [
        node.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef)
        and any(ast.unparse(d).startswith("njit") for d in node.decorator_list)
    ]


def test_every_source_with_kernels_is_listed():
    with_kernels = {
        path.relative_to(ROOT / "bot").as_posix()
        for path in (ROOT / "bot").rglob("*.py")
        if jitted(path)
    }
    assert with_kernels <= set(KERNELS)


def test_every_kernel_is_found():
    if not kernels():
        pytest.skip("NUMBA_DISABLE_JIT is set")
    written = [name for path in KERNELS for name in jitted(ROOT / "bot" / path)]
    assert sorted(name.rpartition(".")[2] for name in kernels()) == sorted(written)


def test_a_second_warm_up_has_nothing_left_to_do():
    warm()
    seen: list[tuple[int, int, str]] = []
    again = warm(lambda *step: seen.append(step))
    assert (again.compiled, again.cached) == (0, 0)
    assert [done for done, _, _ in seen] == [*range(len(STEPS)), len(STEPS)]
    assert seen[0][2] == STEPS[0][0]
    assert seen[-1][2] == "ready"


@pytest.mark.parametrize(
    ("warmth", "arguments", "code"),
    [
        (Warmth(0, 9, 1.0), ["--cached"], 0),
        (Warmth(1, 9, 1.0), ["--cached"], 1),
        (Warmth(0, 0, 1.0), ["--cached"], 1),  # it looked nowhere
        (Warmth(74, 0, 30.0), [], 0),
    ],
)
def test_cached_demands_that_nothing_compiled(monkeypatch, capsys, warmth, arguments, code):
    monkeypatch.setattr(warmup, "warm", lambda progress: warmth)
    assert main(arguments) == code
    assert capsys.readouterr().out == summary(warmth) + "\n"


def test_the_summary_says_both_counts():
    assert summary(Warmth(3, 9, 1.25)) == "3 kernels compiled, 9 loaded from the cache, 1.2 s"


def test_plain_python_warms_nothing_and_passes():
    code = "import json; from bot.modes.warmup import warm; print(json.dumps(warm()[:2]))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout) == [0, 0]
