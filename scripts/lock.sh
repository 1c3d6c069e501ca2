#!/usr/bin/env bash
# Regenerates requirements.lock (what the gateway runs with) and requirements-dev.lock (that and the tests' tools) from
# pyproject.toml, and proves that every supported platform finds a wheel for every pin.
#
#   scripts/lock.sh                          after a change of pyproject.toml's dependencies: other pins stay
#   scripts/lock.sh --upgrade                move every pin to the newest version that fits
#   scripts/lock.sh --upgrade-package h2     move one
#
# Needs the network and a Python >= 3.12. The locks serve Python 3.12 and newer on Linux and macOS; where 3.12 needs
# other versions (mitmproxy holds typing-extensions back there), a line carries a marker.
set -euo pipefail
ROOT="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
source "$ROOT/scripts/setup.sh"

python="$(find_python)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" --quiet --disable-pip-version-check install uv==0.13.8
uv="$work/venv/bin/uv"

# Run in a copy, so that the comments of the locks name files and no folder of this machine.
cd -- "$work"
cp "$ROOT/pyproject.toml" .
for lock in requirements.lock requirements-dev.lock; do
    if [[ -e $ROOT/$lock ]]; then cp "$ROOT/$lock" .; fi
done
cat >>pyproject.toml <<'TOML'

[tool.uv]
# One version for all would be 3.12's, whose pydantic-core has no wheel for 3.14.
environments = ["python_version < '3.13' and sys_platform != 'emscripten'", "python_version >= '3.13' and sys_platform != 'emscripten'"]
TOML
# The build back end is locked too: the package is installed without build isolation.
"$python" -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
    >build-system.txt
# argon2-cffi-bindings 26 dropped its wheels for Macs with Intel processors. pytest 9.2 warns about the pytest plugin of
# the anyio that 3.12 is held at, and our tests take a warning for an error.
printf '%s\n' 'argon2-cffi-bindings<26' 'pytest<9.2' >constraints.txt

compile=("$uv" --quiet pip compile --universal --python-version 3.12 --generate-hashes --no-header)
"${compile[@]}" -c constraints.txt "$@" -o requirements.lock pyproject.toml build-system.txt
"${compile[@]}" -c requirements.lock -c constraints.txt "$@" -o requirements-dev.lock --extra dev pyproject.toml build-system.txt

for version in 3.12 3.13 3.14; do
    for platform in x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu x86_64-apple-darwin aarch64-apple-darwin; do
        say "wheels for Python $version on $platform"
        "$uv" --quiet pip install --dry-run --require-hashes --only-binary :all: --python "$python" --target nowhere \
            --python-version "$version" --python-platform "$platform" -r requirements-dev.lock
    done
done
# Nobody installs this where Python runs in a browser: without that marker on every line the locks can be read.
sed -i -e "s/sys_platform != 'emscripten' and //" -e "s/ and sys_platform != 'emscripten'//" \
    -e "s/ ; sys_platform != 'emscripten'//" requirements.lock requirements-dev.lock
cp requirements.lock requirements-dev.lock "$ROOT/"
