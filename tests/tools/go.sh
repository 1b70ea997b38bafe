# The go command that builds the tests' tools, to be sourced: `builder MODFILE` prints the one there
# is, or the toolchain that the module file asks for. A Go from 1.21 on fetches that by itself; an
# older one cannot do that yet, so it is done here.
builder() {
  local minor wanted directory
  if ! command -v go >/dev/null; then
    echo "Go is missing: install Debian's package golang-go (or a Go from go.dev)" >&2
    return 1
  fi
  # Outside the module, which an old Go cannot read.
  minor=$(cd / && go env GOVERSION | sed -E 's/^go1\.([0-9]+).*/\1/')
  if [ "${minor:-0}" -ge 21 ]; then
    command -v go
    return
  fi
  wanted=$(sed -n 's/^toolchain //p' "$1")
  echo "fetching $wanted" >&2
  # The sum comes from the checksum database.
  directory=$(cd / && go mod download -json \
    "golang.org/toolchain@v0.0.1-$wanted.$(go env GOOS)-$(go env GOARCH)" |
    sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  # A module's files are not executable.
  chmod +x "$directory"/bin/* "$directory"/pkg/tool/*/*
  echo "$directory/bin/go"
}
