#!/usr/bin/env bash
# Builds the programs of a Kubernetes node that the cluster tests run (versions: go.mod and go.sum in
# kube/ and dns/) and the program of the pods' sandboxes, and prints the folder they are in. That
# folder is kept between runs, below $XDG_CACHE_HOME or ~/.cache, one for each state of the pins;
# later calls only print it. A first build takes some minutes and 2 GB of memory, and leaves 600 MB.
#
# Needs Go and Rust. KUBERNETES_PROGRAMS names a folder that has the programs already.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if [ -n "${KUBERNETES_PROGRAMS:-}" ]; then
  echo "$KUBERNETES_PROGRAMS"
  exit
fi

readonly PROGRAMS=(kube-apiserver kube-controller-manager kube-proxy kube-scheduler kubectl kubelet coredns pause)

pins=$(cat kube/go.mod kube/go.sum dns/go.mod dns/go.sum build.sh | sha256sum | cut -c1-12)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tidegate
folder=$cache/kubernetes-$pins
mkdir -p "$folder"

# One builder at a time: two would fight for the same processors.
exec 9>"$cache/kubernetes.lock"
flock 9

missing=()
for program in "${PROGRAMS[@]}"; do
  [ -x "$folder/$program" ] || missing+=("$program")
done
if [ "${#missing[@]}" -eq 0 ]; then
  echo "$folder"
  exit
fi

# shellcheck source=tests/tools/go.sh
. ../tools/go.sh
go=$(builder kube/go.mod)
unset GOROOT
export GOTOOLCHAIN=auto
making=$folder/making
trap 'rm -f "$making"' EXIT

# The version is stamped in, or clients refuse to compare versions.
version=$(sed -n 's#^\tk8s.io/kubernetes \(v[0-9.]*\).*#\1#p' kube/go.mod)
minor=${version#v1.}
stamp="-s -w"
for name in "gitVersion=$version" gitMajor=1 "gitMinor=${minor%%.*}"; do
  stamp+=" -X k8s.io/component-base/version.$name"
done

for program in "${missing[@]}"; do
  echo "building $program" >&2
  case $program in
  # Holds a pod's namespaces and waits. It is killed, never asked.
  pause)
    echo 'fn main() { loop { std::thread::park() } }' | rustc --edition 2024 --crate-name pause \
      -C target-feature=+crt-static -C panic=abort -C opt-level=z -C strip=symbols -o "$making" -
    ;;
  coredns)
    "$go" -C dns build -mod=readonly -trimpath -buildvcs=false -ldflags "$stamp" -o "$making" \
      github.com/coredns/coredns
    ;;
  *)
    "$go" -C kube build -mod=readonly -trimpath -buildvcs=false -ldflags "$stamp" -o "$making" \
      "k8s.io/kubernetes/cmd/$program"
    ;;
  esac
  chmod 755 "$making"
  mv "$making" "$folder/$program"
done
echo "$folder"
