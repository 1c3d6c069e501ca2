#!/usr/bin/env bash
# Runs the test suite; the first run makes .venv. Arguments go to pytest: ./run_tests.sh -k setup
# The whole suite waits more than it computes, so as many processes as there are cores share it, file by file.
set -euo pipefail
ROOT="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
source "$ROOT/scripts/setup.sh"

# Debian package, and the command that the tests call and that shows that it is there.
SYSTEM_PACKAGES=("curl curl --version" "openssl openssl version")

missing=()
for row in "${SYSTEM_PACKAGES[@]}"; do
    read -r package probe <<<"$row"
    $probe >/dev/null 2>&1 || missing+=("$package")
done
if ((${#missing[@]})); then
    if ((EUID == 0)) && command -v apt-get >/dev/null; then
        say "installing ${missing[*]}"
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } </dev/null >&2
    else
        say "the tests need ${missing[*]}. Install with:"
        printf '  sudo apt-get update && sudo apt-get install -y --no-install-recommends %s\n' "${missing[*]}" >&2
        exit 2
    fi
fi

set_up dev
cd -- "$ROOT"
if (($# == 0)); then
    set -- --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
fi
exec "$VENV/bin/pytest" "$@"
