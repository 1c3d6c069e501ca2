# shellcheck shell=bash
# What run_proxy.sh and run_tests.sh share: find a Python, make .venv, keep it current. Sourced, with ROOT set.
# Plain bash 3.2, because that is what macOS has. All it prints goes to stderr: stdout belongs to the command.

VENV="$ROOT/.venv"

say() { printf 'mitmgate: %s\n' "$*" >&2; }

# Prints the interpreter to build .venv with, or says what to install and returns 2.
find_python() {
    local wanted=3.13 pyenv="${PYENV_ROOT:-${HOME:-}/.pyenv}/versions" candidate
    if [[ -r $ROOT/.python-version ]]; then read -r wanted <"$ROOT/.python-version" || true; fi
    for candidate in "python$wanted" "$pyenv/$wanted"*/bin/python \
        python3.13 python3.12 python3.14 python3 "$pyenv"/*/bin/python; do
        # Only running it tells: a pyenv shim exists for versions that are not selected, a Debian python3 may lack
        # venv. The locked wheels are for CPython 3.12 to 3.14 with its GIL (scripts/lock.sh proves it; mitmproxy's
        # pins have none for 3.15). The base executable, because an active .venv is no base for itself.
        "$candidate" -I -c '
import sys, sysconfig
assert (3, 12) <= sys.version_info < (3, 15)
assert sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
import ensurepip, venv
print(sys._base_executable)' 2>/dev/null && return
    done
    say "no Python 3.12, 3.13 or 3.14 with its venv module was found. Install one and start again:"
    printf '  %s\n' \
        "Debian 13, Ubuntu 24.04 or newer:  sudo apt-get install python3 python3-venv" \
        "macOS:                             brew install python@3.13" \
        "anywhere, with pyenv:              pyenv install 3.13" >&2
    return 2
}

# Prints what a finished .venv of a kind (run, dev) is marked with. The folder counts: a copied .venv runs the old code.
stamp() {
    local locks=("$ROOT/requirements.lock") sha=(sha256sum)
    if [[ $1 == dev ]]; then locks+=("$ROOT/requirements-dev.lock"); fi
    command -v sha256sum >/dev/null || sha=(shasum -a 256)
    { printf '%s\n' "$1" "$ROOT" && "$VENV/bin/python" -V && cat "$ROOT/pyproject.toml" "${locks[@]}"; } | "${sha[@]}"
}

# Is .venv finished for this kind? The stamp file has one line for each kind that was installed; dev holds run.
current() {
    local marks expected
    [[ -x $VENV/bin/python && -r $VENV/stamp ]] || return 1
    expected="$(stamp "$1")" || return 1
    marks="$(<"$VENV/stamp")"
    [[ $'\n'$marks$'\n' == *$'\n'$expected$'\n'* ]]
}

# Runs a command while no other set-up of this checkout runs; waits for that one at most ten minutes.
# To be called in a subshell that has a file of the checkout open as descriptor 8: the lock ends with the subshell.
alone() {
    local waited=0
    if command -v flock >/dev/null; then
        flock -w 600 8 || { say "another set-up has been running for ten minutes; stop it and start again"; return 1; }
    else # macOS
        LOCK="$ROOT/.venv.lock"
        until mkdir "$LOCK" 2>/dev/null; do
            if ((++waited > 600)); then
                say "another set-up holds $LOCK; if none is running, remove that folder and start again"
                return 1
            fi
            sleep 1
        done
        trap 'rmdir "$LOCK"' EXIT
    fi
    "$@"
}

# Makes .venv (anew, unless a finished one is only out of date), installs the lock and the package, marks it finished.
install() {
    local kind=$1 python=$2 lock="$ROOT/requirements.lock" pip marks
    if current "$kind"; then return; fi # the set-up that we waited for did it
    if [[ $kind == dev ]]; then lock="$ROOT/requirements-dev.lock"; fi
    pip=("$VENV/bin/python" -m pip -qq --disable-pip-version-check --no-input install)
    say "setting up .venv with $("$python" -V); the first time takes a minute"
    if [[ -e $VENV/stamp && "$("$VENV/bin/python" -V 2>/dev/null)" == "$("$python" -V)" ]]; then
        rm "$VENV/stamp" # from here to the end an interrupted set-up starts over
    else
        rm -rf "$VENV"
        "$python" -m venv "$VENV"
    fi
    # Wheels only: a source distribution would be built with tools that nothing pins.
    "${pip[@]}" --require-hashes --only-binary :all: -r "$lock"
    # Editable, so that changed code needs no set-up; built with the locked setuptools, nothing is fetched.
    "${pip[@]}" --no-index --no-deps --no-build-isolation -e "$ROOT"
    marks="$(stamp run)"
    if [[ $kind == dev ]]; then marks+=$'\n'"$(stamp dev)"; fi
    printf '%s\n' "$marks" >"$VENV/stamp.new"
    mv "$VENV/stamp.new" "$VENV/stamp"
}

# Makes .venv ready for a kind: run (requirements.lock) or dev (requirements-dev.lock). Nothing to do takes milliseconds.
set_up() {
    local python
    if current "$1"; then return; fi
    python="$(find_python)"
    # A subshell, so that the lock ends here and not with the gateway.
    (alone install "$1" "$python") 8<"$ROOT/scripts/setup.sh" >&2
}
