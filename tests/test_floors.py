"""The floors of the house (DESIGN §2), read from the source by `ast`: nothing here imports what it judges."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "addon" / "mitmgate"
FLOORS = (
    {
        "exchange", "errors", "sse", "clock", "globs", "addresses", "bodies", "encoding", "multipart", "jsonedit", "version",
        "conditions", "freeing", "record",
        "",                                 # the package itself
    },
    {"rules"},
    {"routing", "guardrails", "dialects", "providers"},
    {"accounts", "cache", "prompts", "store", "telemetry", "simulator"},
    {"stages", "endpoints"},
    {"pipeline", "runtime", "rehearsal", "explanation", "trials", "comparison"},
    {"cli", "addon", "bridge", "transport", "console", "__main__"},
)  # fmt: skip
SHARED_BY_STAGES = {"mitmgate.stages.services"}
# A room whose files are one another's siblings and know nothing of each other; its registry alone knows them all.
SIBLINGS = ("mitmgate.stages", "mitmgate.guardrails")
VENDORS = (
    "groq", "cerebras", "sambanova", "openrouter", "mistral", "deepseek", "together", "fireworks", "perplexity",
    "xai",
)  # fmt: skip


@dataclass(frozen=True)
class Module:
    name: str                               # dotted, from `mitmgate` on
    path: Path
    tree: ast.Module


@cache
def modules() -> dict[str, Module]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("mitmgate", *path.relative_to(PACKAGE).with_suffix("").parts)
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = Module(name, path, ast.parse(path.read_bytes(), str(path)))
    return found


def imported(module: Module) -> Iterator[tuple[str, int]]:
    """The modules that one imports, each with its line; `from room import file` is that file."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module.name}:{node.lineno}: write the import in full"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield (whole if whole in modules() else str(node.module)), node.lineno


def room(name: str) -> str:
    """The second part of a dotted name: the folder or file directly in the package."""
    return name.split(".")[1] if "." in name else ""


def floor(name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room(name) in rooms)


def test_the_house_is_seen() -> None:
    assert len(modules()) > 60
    assert "mitmgate.sse" in {name for name, _ in imported(modules()["mitmgate.dialects.openai.reading"])}


def test_every_room_has_its_floor() -> None:
    unknown = {room(name) for name in modules()} - set().union(*FLOORS)
    assert not unknown, f"on no floor of DESIGN §2: {sorted(unknown)}"


@pytest.mark.parametrize("name", modules())
def test_imports_go_down(name: str) -> None:
    here = modules()[name]
    wrong = [
        f"{name}:{line} (floor {floor(name)}) imports {other} (floor {floor(other)})"
        for other, line in imported(here)
        if other.split(".")[0] == "mitmgate" and floor(other) > floor(name)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", [name for name in modules() if name.startswith(SIBLINGS)])
def test_siblings_do_not_know_each_other(name: str) -> None:
    parent = name.rpartition(".")[0]
    wrong = [
        f"{name}:{line} imports {other}"
        for other, line in imported(modules()[name])
        if other.startswith(parent + ".") and other != name and other not in SHARED_BY_STAGES
    ]
    assert not wrong, "\n".join(wrong)


def test_vendors_do_not_know_each_other() -> None:
    """A vendor that has quirks gets a folder or file of its own under providers/; no other vendor's may import it."""
    own = {name for name in modules() if name.startswith("mitmgate.providers.") and name.rpartition(".")[2] in VENDORS}
    wrong = [f"{name} imports {other}" for name in own for other, _ in imported(modules()[name]) if other in own - {name}]
    assert not wrong


def test_no_import_cycles() -> None:
    graph = {name: {other for other, _ in imported(module) if other in modules()} for name, module in modules().items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_no_imports_inside_functions() -> None:
    wrong = [
        f"{module.name}:{inner.lineno}"
        for module in modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    ]
    assert not wrong


def test_mitmproxy_is_known_on_the_top_floor_only() -> None:
    users = {
        name for name, module in modules().items() if any(other.split(".")[0] == "mitmproxy" for other, _ in imported(module))
    }
    assert "mitmgate.bridge" in users
    assert not {name for name in users if floor(name) != 6}


def test_the_pure_rooms_touch_neither_disk_nor_network_nor_clock() -> None:
    """DESIGN §2: routing and dialects are pure, without I/O, a clock, or randomness of their own."""
    impure = {"os", "io", "time", "random", "secrets", "socket", "ssl", "asyncio", "threading", "subprocess", "pathlib"}
    wrong = [
        f"{name}:{line} imports {other}"
        for name, module in modules().items()
        if room(name) in ("routing", "dialects") or name in ("mitmgate.sse", "mitmgate.jsonedit", "mitmgate.globs")
        for other, line in imported(module)
        if other.split(".")[0] in impure
    ]
    assert not wrong


def test_vendors_are_named_in_the_vendor_table_only() -> None:
    wrong = [
        f"{module.name}:{node.lineno}: {node.value!r}"
        for module in modules().values()
        if room(module.name) != "providers"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if node.value.lower() in VENDORS or any(f".{vendor}." in f".{node.value.lower()}." for vendor in VENDORS)
    ]
    assert not wrong, "\n".join(wrong)


def test_only_commands_print() -> None:
    wrong = [
        f"{module.name}:{node.lineno}"
        for module in modules().values()
        if room(module.name) not in ("cli", "__main__")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not wrong


def test_no_assignment_to_a_module_variable_from_a_function() -> None:
    """House rule: no module-level mutable state."""
    wrong = [
        f"{module.name}:{node.lineno}"
        for module in modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Global)
    ]
    assert not wrong
