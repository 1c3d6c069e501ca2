"""The set-up scripts and the lock files: run on a copy of the tree, with a stand-in interpreter, offline."""

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("requirements.lock", "requirements-dev.lock")
SCRIPTS = ("run_proxy.sh", "run_tests.sh", "scripts/setup.sh", ".ci/run")
TOOLS = ("bash", "cat", "chmod", "cp", "dirname", "mkdir", "mv", "rm", "rmdir", "sleep", "sha256sum", "shasum", "perl")

PIN = re.compile(r"[a-z0-9-]+==[A-Za-z0-9.!+]+( ; [a-zA-Z0-9_ .'<>=!()]+)? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
SOURCE = r"[a-z0-9-]+( \(pyproject\.toml\))?|-[cr] [a-z.-]+"
COMMENT = re.compile(rf"    #( via| via ({SOURCE})|   ({SOURCE}))")

# An interpreter that suits, records what is asked of it, and "installs" a command that tells how it was called.
PYTHON = r"""#!/bin/bash
arguments="$*"
case $arguments in
-V) echo "Python ${FAKE_VERSION:-3.13.7}" ;;
"-I -c"*) echo "$0" ;;
"-m venv"*) echo venv >>"$CALLS"; mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
*"-m pip "*" --no-index --no-deps --no-build-isolation -e "*)
    echo package >>"$CALLS"
    for name in mitmgate pytest; do
        printf '#!/bin/bash\nprintf "%%s\\n" "$0" "$PWD" "$$" "$@"\n' >"${0%/*}/$name"
        chmod +x "${0%/*}/$name"
    done ;;
*"-m pip "*" --require-hashes --only-binary :all: -r "*)
    echo "lock ${arguments##*/}" >>"$CALLS"; sleep "${PIP_TAKES:-0}"; exit "${PIP_EXIT:-0}" ;;
esac
"""
OLD_PYTHON = "#!/bin/bash\nexit 1\n"


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@dataclass
class Tree:
    """A copy of the checkout's set-up under a path with a space, and a PATH that holds nothing but chosen tools."""

    root: Path
    path: Path
    calls: Path
    home: Path

    def start(self, name: str, *arguments: str, **extra: str) -> subprocess.Popen[str]:
        """Starts a script of the tree, in another folder than the tree's; `extra` adds to its environment."""
        environment = {"PATH": str(self.path), "HOME": str(self.home), "CALLS": str(self.calls)}
        return subprocess.Popen(
            [str(self.path / "bash"), str(self.root / name), *arguments],
            cwd=self.home,
            env=environment | extra,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, name: str, *arguments: str, **extra: str) -> tuple[int, list[str], str]:
        """Runs a script of the tree: its exit code, the lines of its output, its errors."""
        process = self.start(name, *arguments, **extra)
        out, err = process.communicate(timeout=30)
        return process.returncode, out.splitlines(), err

    def done(self) -> list[str]:
        """What the stand-in interpreter was asked to do since the last call of this."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return lines


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    root, path, home = tmp_path / "a tree", tmp_path / "bin", tmp_path / "home"
    for name in (*SCRIPTS, "pyproject.toml", ".python-version", *LOCKS):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    path.mkdir()
    home.mkdir()
    for tool in (*TOOLS, "flock"):
        if found := shutil.which(tool):
            (path / tool).symlink_to(found)
    for tool in ("curl", "openssl"):
        script(path / tool, "#!/bin/bash\n")
    script(path / "python3.13", PYTHON)
    return Tree(root, path, tmp_path / "calls", home)


def without_python(tree: Tree) -> None:
    (tree.path / "python3.13").unlink()
    script(tree.path / "python3", OLD_PYTHON)


def pins(name: str) -> dict[str, list[Requirement]]:
    """A lock file's pins by package; a package has two where Python 3.12 needs another version."""
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / name).read_text().splitlines():
        if PIN.fullmatch(line):
            pin = Requirement(line.removesuffix("\\"))
            found.setdefault(canonicalize_name(pin.name), []).append(pin)
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_hashed_pins_and_nothing_else(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    strange = [line for line in lines if not (PIN.fullmatch(line) or HASH.fullmatch(line) or COMMENT.fullmatch(line))]
    assert strange == []
    assert HASH.fullmatch(lines[-1]) or COMMENT.fullmatch(lines[-1])
    unhashed = [line for line, following in pairwise(lines) if PIN.fullmatch(line) and not HASH.fullmatch(following)]
    assert unhashed == []
    assert len(pins(name)) > 40


@pytest.mark.parametrize("python", ["3.12.0", "3.13.0", "3.14.0"])
@pytest.mark.parametrize("platform", ["linux", "darwin"])
@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_every_declared_dependency_once_for_each_platform(name: str, platform: str, python: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = project["project"]["dependencies"] + project["build-system"]["requires"]
    if name == "requirements-dev.lock":
        declared += project["project"]["optional-dependencies"]["dev"]
    here = {"sys_platform": platform, "python_version": python.rpartition(".")[0], "python_full_version": python}
    locked = pins(name)
    for text in declared:
        wanted = Requirement(text)
        if wanted.marker and not wanted.marker.evaluate(dict(here)):
            continue
        named = locked.get(canonicalize_name(wanted.name), [])
        chosen = [pin for pin in named if not pin.marker or pin.marker.evaluate(dict(here))]
        assert len(chosen) == 1, f"{text}: run scripts/lock.sh"
        (version,) = (one.version for one in chosen[0].specifier)
        assert wanted.specifier.contains(version, prereleases=True), f"{text}: run scripts/lock.sh"


def test_the_tests_run_with_the_versions_that_the_gateway_runs_with() -> None:
    run, dev = (
        {name: [str(pin.specifier) for pin in both] for name, both in pins(lock).items()} for lock in LOCKS
    )
    assert {name: dev.get(name) for name in run} == run


def test_first_start_sets_up_and_runs_the_shipped_rules_in_the_checkout(tree: Tree) -> None:
    code, out, err = tree.run("run_proxy.sh")
    assert (code, tree.done()) == (0, ["venv", "lock requirements.lock", "package"])
    assert out[:2] == [str(tree.root / ".venv/bin/mitmgate"), str(tree.root)]
    assert out[3:] == ["run", "--rules", "rules/"]
    assert "setting up .venv with Python 3.13.7" in err


def test_second_start_does_no_set_up_and_passes_arguments_on_from_where_it_was_called(tree: Tree) -> None:
    tree.run("run_proxy.sh")
    tree.done()
    without_python(tree)
    code, out, err = tree.run("run_proxy.sh", "check", "my rules/", "", "*")
    assert (code, err, tree.done()) == (0, "", [])
    assert out[1] == str(tree.home)
    assert out[3:] == ["check", "my rules/", "", "*"]


def test_the_command_takes_the_place_of_the_script_so_that_signals_reach_it(tree: Tree) -> None:
    tree.run("run_proxy.sh")
    process = tree.start("run_proxy.sh")
    out, _ = process.communicate(timeout=30)
    assert out.splitlines()[2] == str(process.pid)


def test_without_a_suitable_python_it_says_what_to_install(tree: Tree) -> None:
    without_python(tree)
    code, out, err = tree.run("run_proxy.sh")
    assert (code, out) == (2, [])
    for line in ("apt-get install python3 python3-venv", "brew install python@3.13", "pyenv install 3.13"):
        assert line in err
    assert not (tree.root / ".venv").exists()


def test_a_python_that_only_pyenv_has_is_found_past_shims_that_fail(tree: Tree) -> None:
    without_python(tree)
    script(tree.path / "python3.13", "#!/bin/bash\necho 'pyenv: python3.13: command not found' >&2\nexit 127\n")
    versions = tree.home / ".pyenv/versions"
    script(versions / "3.11.7/bin/python", OLD_PYTHON)
    script(versions / "3.12.1/bin/python", PYTHON.replace("3.13.7", "3.12.1"))
    code, _, err = tree.run("run_proxy.sh")
    assert code == 0
    assert "Python 3.12.1" in err
    assert "command not found" not in err


def change_lock(tree: Tree) -> dict[str, str]:
    with (tree.root / "requirements.lock").open("a") as lock:
        lock.write("# changed\n")
    return {}


def change_project(tree: Tree) -> dict[str, str]:
    with (tree.root / "pyproject.toml").open("a") as project:
        project.write("# changed\n")
    return {}


def change_python(tree: Tree) -> dict[str, str]:
    return {"FAKE_VERSION": "3.13.8"}


def move_checkout(tree: Tree) -> dict[str, str]:
    tree.root = tree.root.rename(tree.root.with_name("moved here"))
    return {}


@pytest.mark.parametrize("change", [change_lock, change_project, change_python, move_checkout])
def test_what_the_set_up_was_made_from_has_changed(tree: Tree, change: Callable[[Tree], dict[str, str]]) -> None:
    tree.run("run_proxy.sh")
    tree.done()
    extra = change(tree)
    code, out, _ = tree.run("run_proxy.sh", **extra)
    assert (code, out[0]) == (0, str(tree.root / ".venv/bin/mitmgate"))
    assert tree.done()[-2:] == ["lock requirements.lock", "package"]
    assert tree.run("run_proxy.sh", **extra)[0] == 0
    assert tree.done() == []


def test_a_set_up_that_failed_half_way_starts_over(tree: Tree) -> None:
    code, out, _ = tree.run("run_proxy.sh", PIP_EXIT="7")
    assert (code, out, tree.done()) == (7, [], ["venv", "lock requirements.lock"])
    (tree.root / ".venv/left-over").touch()
    assert tree.run("run_proxy.sh")[0] == 0
    assert tree.done() == ["venv", "lock requirements.lock", "package"]
    assert not (tree.root / ".venv/left-over").exists()


@pytest.mark.parametrize("locking", ["flock", "mkdir"])
def test_starts_at_the_same_time_make_one_set_up(tree: Tree, locking: str) -> None:
    if locking == "mkdir":
        (tree.path / "flock").unlink(missing_ok=True)
    elif not (tree.path / "flock").exists():
        pytest.skip("this machine has no flock")
    started = [tree.start("run_proxy.sh", PIP_TAKES="0.3") for _ in range(3)]
    finished = [(process.communicate(timeout=30), process.returncode) for process in started]
    assert [code for _, code in finished] == [0, 0, 0], finished
    assert tree.done() == ["venv", "lock requirements.lock", "package"]
    assert not (tree.root / ".venv.lock").exists()


def test_the_tests_set_up_serves_the_gateway_too(tree: Tree) -> None:
    code, out, _ = tree.run("run_tests.sh", "-k", "a b")
    assert (code, tree.done()) == (0, ["venv", "lock requirements-dev.lock", "package"])
    assert out[0].endswith("/.venv/bin/pytest")
    assert out[1] == str(tree.root)
    assert out[3:] == ["-k", "a b"]
    assert tree.run("run_proxy.sh")[0] == 0
    _, out, _ = tree.run("run_tests.sh")
    assert out[3:5] == ["--numprocesses", "auto"], "the whole suite is shared among processes"
    assert tree.done() == []


def test_the_gateways_set_up_does_not_serve_the_tests(tree: Tree) -> None:
    tree.run("run_proxy.sh")
    tree.done()
    assert tree.run("run_tests.sh")[0] == 0
    assert tree.done() == ["lock requirements-dev.lock", "package"]


def test_missing_system_packages_stop_with_the_exact_command(tree: Tree) -> None:
    (tree.path / "curl").unlink()
    code, out, err = tree.run("run_tests.sh")
    assert (code, out, tree.done()) == (2, [], [])
    assert "sudo apt-get update && sudo apt-get install -y --no-install-recommends curl\n" in err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root installs system packages")
def test_root_installs_missing_system_packages_and_goes_on(tree: Tree) -> None:
    (tree.path / "curl").unlink()
    script(tree.path / "apt-get", '#!/bin/bash\necho "apt-get $DEBIAN_FRONTEND $*" >>"$CALLS"\n')
    code, out, _ = tree.run("run_tests.sh")
    assert (code, out[0]) == (0, str(tree.root / ".venv/bin/pytest"))
    assert tree.done()[:2] == [
        "apt-get noninteractive update -qq",
        "apt-get noninteractive install -y -qq --no-install-recommends curl",
    ]


@pytest.mark.parametrize("failing", [None, "run_tests.sh", ".venv/bin/ruff", ".venv/bin/mypy"])
def test_ci_runs_tests_and_linters_and_fails_if_any_fails(tree: Tree, failing: str | None) -> None:
    for name in ("run_tests.sh", ".venv/bin/ruff", ".venv/bin/mypy"):
        script(tree.root / name, f'#!/bin/bash\necho "{name} $CI $*"\nexit {int(name == failing)}\n')
    code, out, _ = tree.run(".ci/run")
    assert code == (1 if failing else 0)
    assert out == ["run_tests.sh true ", ".venv/bin/ruff true check .", ".venv/bin/mypy true "]
