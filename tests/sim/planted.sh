#!/bin/sh
# Builds tidegate with bugs planted on purpose, one of which is switched on at a time, and has the
# simulation catch each of them. Fails when one is missed. Cargo calls this script again as the
# wrapper of the compiler: so only the workspace is built anew, into file names of its own.
#
#   tests/sim/planted.sh                                 every bug
#   PLANTED=LostWakeup SEED=3 tests/sim/planted.sh       one run, with everything that happened
set -eu
if [ "$#" -gt 0 ]; then
    exec "$@" --cfg planted
fi
here=$(cd "$(dirname "$0")" && pwd)
RUSTC_WORKSPACE_WRAPPER="$here/planted.sh"
export RUSTC_WORKSPACE_WRAPPER
exec cargo test --manifest-path "$here/../../Cargo.toml" --test sim -- --nocapture
