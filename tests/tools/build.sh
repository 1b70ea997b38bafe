#!/usr/bin/env bash
# Builds the protocol testers that the tests call (h2spec and the client and server of gRPC's
# interoperability tests, versions: go.mod and go.sum beside this file) and prints the folder they
# are in. That folder is kept between runs, below $XDG_CACHE_HOME or ~/.cache, one for each state of
# the pins; later calls only print it.
#
# Needs Go; one that is too old for go.mod fetches the one named there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly PROGRAMS=(h2spec grpc-interop-client grpc-interop-server)

pins=$(cat go.mod go.sum build.sh | sha256sum | cut -c1-12)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tidegate
folder=$cache/tools-$pins
mkdir -p "$cache"

# One builder at a time: several test programs may ask at once.
exec 9>"$cache/tools.lock"
flock 9

complete() {
  local program
  for program in "${PROGRAMS[@]}"; do
    [ -x "$folder/$program" ] || return 1
  done
}

if ! complete; then
  # shellcheck source=tests/tools/go.sh
  . ./go.sh
  go=$(builder go.mod)
  unset GOROOT
  export GOTOOLCHAIN=auto CGO_ENABLED=0
  making=$(mktemp -d "$cache/making-XXXXXX")
  trap 'rm -rf "$making"' EXIT
  while read -r name package; do
    echo "building $name" >&2
    "$go" build -mod=readonly -trimpath -buildvcs=false -ldflags '-s -w' \
      -o "$making/$name" "$package"
  done <<'END'
h2spec github.com/summerwind/h2spec/cmd/h2spec
grpc-interop-client google.golang.org/grpc/interop/client
grpc-interop-server google.golang.org/grpc/interop/server
END
  rm -rf "$folder"
  mv "$making" "$folder"
  chmod 755 "$folder"
fi
echo "$folder"
