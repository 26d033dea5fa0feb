"""What the linters cannot see: purity, direction of imports, mirror tests, sizes, clean texts.

Every check is a function from a path and a text to a list of complaints, so that the
second half of this file can prove that each of them is able to fail.
"""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PURE = ("bot/domain/", "bot/market/", "bot/core/", "bot/venues/", "bot/sim/")
WORLDLY_CALLS = {"open", "print", "input"}
WORLDLY_MODULES = {"time", "datetime", "random"}
LOOPS_OVER_ARGUMENT = {"list", "tuple", "iter", "enumerate", "map", "filter", "zip", "sum", "join"}

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70

# The one place that may catch what nobody foresaw: it cancels everything and exits.
CATCHES_ALL = "bot/shell/supervisor.py"

# A folder or file that has no mirror test of its own -> the test that covers it.
COVERED_BY = {
    "bot/domain/": "tests/domain/test_domain.py",  # frozen data: tested together, as a vocabulary
    "bot/__main__.py": "tests/test_cli.py",  # one call of bot.cli.main
    "bot/sim/events.py": "tests/sim/test_exchange.py",  # frozen data: what the exchange says
    # Words and a Protocol, tested by who speaks them.
    "bot/venues/orderentry.py": "tests/venues/binance/test_ordercodec.py",
}

# A module may import its own folder and folders of a lower rank.
RANK = {
    "__main__": 7,
    "cli": 6,
    "modes": 5,
    "shell": 4,
    "ops": 4,
    "core": 3,
    "venues": 3,
    "sim": 3,
    "journal": 3,
    "market": 2,
    "domain": 1,
    "__init__": 0,
}

TEXTS = (
    *("*.md", "*.toml", "*.lock", "Makefile", "Dockerfile", ".gitignore", ".dockerignore"),
    *(f"{folder}/**/*" for folder in ("bot", "config", "tests", "deploy", "docs", ".ci")),
)
MACHINE_PATH = re.compile(r"(?<![\w.~/-])/" + r"(?:work|root|home|Users|tmp/bash_jobs[.\w]*)/\w")
ADDRESS = re.compile(r"(?i)\bhttps?" + r"://|--(?:extra-)?" + r"index-url|--find-" + r"links")

Check = Callable[[str, str], list[str]]


def impurities(path: str, text: str) -> list[str]:
    """Waiting, files, terminal, clocks, chance and unordered iteration in a pure folder."""
    if not path.startswith(PURE):
        return []
    tree = ast.parse(text)
    sets = set_names(tree)
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.AsyncFunctionDef() | ast.AsyncFor() | ast.AsyncWith() | ast.Await():
                found.append((node.lineno, "waits"))
            case ast.comprehension(is_async=1):
                found.append((node.target.lineno, "waits"))
            case ast.Name(id=name, ctx=ast.Load()) if name in WORLDLY_CALLS:
                found.append((node.lineno, f"uses {name}()"))
            case ast.Import() | ast.ImportFrom():
                tops = {module.split(".")[0] for module in imported(node)}
                found += [(node.lineno, f"imports {top}") for top in tops & WORLDLY_MODULES]
            case ast.Attribute(value=ast.Name(id="np" | "numpy"), attr="random"):
                found.append((node.lineno, "uses numpy.random"))
        found += [(at.lineno, "iterates over a set") for at in looped(node) if is_set(at, sets)]
    return [f"{path}:{line}: {what}" for line, what in sorted(found)]


def imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Dotted names that a statement imports; the last part may be a name inside a module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    module = "." * node.level + (node.module or "")
    return [f"{module}.{alias.name}" for alias in node.names]


def looped(node: ast.AST) -> Iterator[ast.expr]:
    """Expressions whose order of iteration `node` makes visible."""
    match node:
        case ast.For() | ast.comprehension():
            yield node.iter
        case ast.Starred():
            yield node.value
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args):
            if name in LOOPS_OVER_ARGUMENT:
                yield from args
            elif name == "pop" and isinstance(node.func, ast.Attribute) and not args:
                yield node.func.value


def is_set(node: ast.expr | None, names: set[str]) -> bool:
    """Whether an expression is a set as far as one file can tell."""
    match node:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Call(func=ast.Name(id="set" | "frozenset")):
            return True
        case ast.BinOp(left=left, right=right, op=ast.BitOr() | ast.BitAnd() | ast.Sub()):
            return is_set(left, names) or is_set(right, names)
        case ast.Name() | ast.Attribute():
            return ast.unparse(node) in names
    return False


def set_names(tree: ast.AST) -> set[str]:
    """Names (`seen`, `self.seen`) that a file binds to a set or annotates as one."""
    names = set()
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=targets, value=value) if is_set(value, set()):
                names |= {ast.unparse(target) for target in targets}
            case ast.AnnAssign(target=target, annotation=annotation, value=value):
                if is_set(value, set()) or annotates_set(annotation):
                    names |= {ast.unparse(target), f"self.{ast.unparse(target)}"}
            case ast.arg(arg=name, annotation=ast.expr() as annotation):
                if annotates_set(annotation):
                    names.add(name)
    return names


def annotates_set(annotation: ast.expr) -> bool:
    return (
        re.match(r"(Final\[)?(set|frozenset|Set|AbstractSet)\b", ast.unparse(annotation))
        is not None
    )


def upward_imports(path: str, text: str) -> list[str]:
    """Imports of a higher folder, or of a stranger of the same rank."""
    own = Path(path).with_suffix("").parts[1]
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for module in imported(node):
            if module.startswith("."):
                found.append(f"{path}:{node.lineno}: imports by a relative name")
            elif module.startswith("bot."):
                folder = module.split(".")[1]
                # A name that is no folder comes from bot/__init__.py itself.
                if folder != own and RANK.get(folder, 0) >= RANK[own] > 0:
                    found.append(f"{path}:{node.lineno}: {own} may not import {folder}")
    return found


def broad_excepts(path: str, text: str) -> list[str]:
    """Handlers that would swallow a broken invariant."""
    if path == CATCHES_ALL:
        return []
    found = []
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.ExceptHandler(type=None):
                broad = True
            case ast.ExceptHandler(type=ast.Tuple(elts=caught)):
                broad = any(is_broad(one) for one in caught)
            case ast.ExceptHandler(type=ast.expr() as caught):
                broad = is_broad(caught)
            case ast.Call(func=ast.Name(id="suppress") | ast.Attribute(attr="suppress")):
                broad = any(is_broad(one) for one in node.args)
            case _:
                continue
        if broad:
            found.append(f"{path}:{node.lineno}: catches everything")
    return found


def is_broad(caught: ast.expr) -> bool:
    return isinstance(caught, ast.Name) and caught.id in {"Exception", "BaseException"}


def oversizes(path: str, text: str) -> list[str]:
    """Files and functions too long to be read at once; docstrings of functions are free."""
    lines = len(text.splitlines())
    found = [f"{path}: {lines} lines"] if lines > FILE_LINES_MAX else []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        length = span(node)
        if ast.get_docstring(node) is not None:
            length -= span(node.body[0])
        if length > FUNCTION_LINES_MAX:
            found.append(f"{path}:{node.lineno}: {node.name} has {length} lines")
    return found


def span(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def machine_traces(path: str, text: str) -> list[str]:
    """Paths of somebody's machine, and addresses in a lock, which must work with any index."""
    patterns = [(MACHINE_PATH, "a path of one machine")]
    if path.endswith(".lock"):
        patterns.append((ADDRESS, "an address of a package index"))
    return [
        f"{path}:{number}: {what}"
        for number, line in enumerate(text.splitlines(), 1)
        for pattern, what in patterns
        if pattern.search(line)
    ]


def missing_tests(sources: list[str], tests: set[str]) -> list[str]:
    """Sources without their test file: bot/a/b.py is tested by tests/a/test_b.py."""
    found = []
    for source in sources:
        if source.endswith("/__init__.py"):
            continue
        path = Path(source)
        mirror = str(Path("tests", *path.parts[1:-1], f"test_{path.name}"))
        wanted = COVERED_BY.get(source) or COVERED_BY.get(f"{path.parent}/") or mirror
        if wanted not in tests:
            found.append(f"{source}: {wanted} is missing")
    return found


def names_of(pattern: str) -> list[str]:
    paths = sorted(path for path in ROOT.glob(pattern) if path.is_file())
    return [path.relative_to(ROOT).as_posix() for path in paths if "__pycache__" not in path.parts]


def agree(complaints: Iterable[str]) -> None:
    """Fail with every complaint on a line of its own."""
    if text := "\n".join(complaints):
        pytest.fail(text, pytrace=False)


# --- The project obeys ---------------------------------------------------------------------


@pytest.mark.parametrize("check", [impurities, upward_imports, broad_excepts, oversizes])
def test_sources_are_tidy(check: Check) -> None:
    sources = names_of("bot/**/*.py")
    assert sources
    agree(c for path in sources for c in check(path, (ROOT / path).read_text("utf-8")))


def test_every_source_has_its_test() -> None:
    agree(missing_tests(names_of("bot/**/*.py"), set(names_of("tests/**/test_*.py"))))


def test_texts_carry_no_trace_of_a_machine() -> None:
    complaints = []
    for path in sorted({name for pattern in TEXTS for name in names_of(pattern)}):
        raw = (ROOT / path).read_bytes()
        if b"\0" not in raw:  # a compressed capture is no text
            complaints += machine_traces(path, raw.decode("utf-8", "replace"))
    agree(complaints)


# --- Each check is able to fail ------------------------------------------------------------

LONG_DOCSTRING = 'def f():\n    """One.\n' + "    text\n" * 80 + '    """\n    return 1\n'
DEEP = "/" + "home/somebody"

BAD = [
    (impurities, "bot/core/x.py", "async def f(): ..."),
    (impurities, "bot/core/x.py", "async def f():\n    await g()"),
    (impurities, "bot/domain/x.py", "open('x')"),
    (impurities, "bot/market/x.py", "print('x')"),
    (impurities, "bot/venues/a/x.py", "say = print"),
    (impurities, "bot/sim/x.py", "input()"),
    (impurities, "bot/core/x.py", "import time"),
    (impurities, "bot/core/x.py", "from datetime import datetime"),
    (impurities, "bot/sim/x.py", "import random"),
    (impurities, "bot/sim/x.py", "np.random.default_rng()"),
    (impurities, "bot/core/x.py", "for x in {1, 2}: pass"),
    (impurities, "bot/core/x.py", "for x in set(y): pass"),
    (impurities, "bot/core/x.py", "[x for x in frozenset(y)]"),
    (impurities, "bot/core/x.py", "[x for x in {z for z in y}]"),
    (impurities, "bot/core/x.py", "list({1, 2} | y)"),
    (impurities, "bot/core/x.py", "','.join({'a', 'b'})"),
    (impurities, "bot/core/x.py", "f(*{1, 2})"),
    (impurities, "bot/core/x.py", "seen = set()\nfor x in seen: pass"),
    (impurities, "bot/core/x.py", "self.seen: set[int] = y\nfor x in self.seen: pass"),
    (impurities, "bot/core/x.py", "def f(ids: frozenset[str]):\n    return list(ids)"),
    (impurities, "bot/core/x.py", "seen = {1, 2}\nseen.pop()"),
    (upward_imports, "bot/domain/x.py", "from bot.market.book import Book"),
    (upward_imports, "bot/core/x.py", "import bot.shell.clock"),
    (upward_imports, "bot/core/x.py", "from bot.sim import paper"),
    (upward_imports, "bot/ops/x.py", "def f():\n    from bot.shell import pump"),
    (upward_imports, "bot/modes/x.py", "from bot import cli"),
    (upward_imports, "bot/core/x.py", "from . import engine"),
    (broad_excepts, "bot/shell/x.py", "try: f()\nexcept Exception: pass"),
    (broad_excepts, "bot/shell/x.py", "try: f()\nexcept: pass"),
    (broad_excepts, "bot/shell/x.py", "try: f()\nexcept (OSError, BaseException) as e: pass"),
    (broad_excepts, "bot/shell/x.py", "with suppress(Exception): f()"),
    (oversizes, "bot/core/x.py", "x = 1\n" * 501),
    (oversizes, "bot/core/x.py", "def f():\n" + "    x = 1\n" * 70),
    (machine_traces, "docs/x.md", f"see {DEEP}/notes"),
    (machine_traces, "a.lock", "--index" + "-url x"),
    (machine_traces, "a.lock", "a @ https" + "://example.org/a.whl"),
]

GOOD = [
    (impurities, "bot/shell/x.py", "import time\nasync def f(): print(time.time_ns())"),
    (impurities, "bot/core/x.py", "seen = {1}\n2 in seen\nsorted(seen)\nlen(seen)"),
    (impurities, "bot/core/x.py", "for x in {1: 2}: pass\nqueue.pop()\nlist(queue)"),
    (
        upward_imports,
        "bot/core/x.py",
        "from bot.market.book import Book\nfrom bot.core import gate",
    ),
    (upward_imports, "bot/__main__.py", "from bot.cli import main"),
    (upward_imports, "bot/ops/x.py", "from bot import __version__"),
    (broad_excepts, CATCHES_ALL, "try: f()\nexcept Exception: pass"),
    (broad_excepts, "bot/shell/x.py", "try: f()\nexcept (OSError, ValueError): pass"),
    (oversizes, "bot/core/x.py", "x = 1\n" * 500),
    (oversizes, "bot/core/x.py", LONG_DOCSTRING),
    (machine_traces, "docs/x.md", "docs/work/x https://example.org/" + "home/x ../shared/data"),
    (machine_traces, "a.lock", "a==1 \\\n    --hash=sha256:00"),
]


@pytest.mark.parametrize(("check", "path", "text"), BAD)
def test_check_finds(check: Check, path: str, text: str) -> None:
    assert len(check(path, text)) == 1 + (text.count("async") and text.count("await"))


@pytest.mark.parametrize(("check", "path", "text"), GOOD)
def test_check_accepts(check: Check, path: str, text: str) -> None:
    assert check(path, text) == []


def test_missing_tests_are_found() -> None:
    sources = ["bot/core/gate.py", "bot/core/__init__.py", "bot/domain/units.py", "bot/cli.py"]
    gate, domain, cli = (
        "tests/core/test_gate.py",
        "tests/domain/test_domain.py",
        "tests/test_cli.py",
    )
    assert missing_tests(sources, {gate, domain, cli}) == []
    assert [c.split(":")[0] for c in missing_tests(sources, {"tests/test_gate.py"})] == [
        "bot/core/gate.py",
        "bot/domain/units.py",
        "bot/cli.py",
    ]
