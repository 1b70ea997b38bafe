#!/usr/bin/env bash
# Builds tidegate as one static program, as an image holds it, and prints its path.
# TIDEGATE_STATIC names one that is there already.   static.sh [--release]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if [ -n "${TIDEGATE_STATIC:-}" ]; then
  echo "$TIDEGATE_STATIC"
  exit
fi
target=$(rustc -vV | sed -n 's/^host: //p')
profile=debug
if [ "${1:-}" = --release ]; then profile=release; fi
# Its own folder: the flags differ from those of every other build. Nothing of it is optimised, which
# would take longer than the tests; without symbols, which are most of such a program.
export RUSTFLAGS="-C target-feature=+crt-static -C strip=symbols"
cargo build --locked --quiet --bin tidegate --target "$target" --target-dir target/static \
  --config 'profile.dev.debug=false' --config 'profile.dev.package."*".opt-level=0' "$@" >&2
echo "$PWD/target/static/$target/$profile/tidegate"
