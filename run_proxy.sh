#!/usr/bin/env bash
# Starts the gateway; the first start makes .venv. Arguments go to the mitmgate command: ./run_proxy.sh check rules/
set -euo pipefail
ROOT="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
source "$ROOT/scripts/setup.sh"

set_up run
if (($# == 0)); then
    cd -- "$ROOT" # the shipped rules, and what they keep under var/, belong to the checkout
    set -- run --rules rules/
fi
exec "$VENV/bin/mitmgate" "$@"
