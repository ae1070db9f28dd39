#!/usr/bin/env bash
# Runs every test that needs no cluster with nodes. It needs Go, git and a network or module proxy; what else is needed
# it builds itself. All steps run, whatever fails, and a summary ends it. make test calls it.
set -uo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}

failed=0
summary=()
alive=
trap '[[ -z $alive ]] || kill "$alive" 2>/dev/null' EXIT

# step NAME COMMAND… runs a command and remembers how it went. Go says nothing while it compiles, which is minutes the
# first time, so this does.
step() {
  local name=$1 began=$SECONDS result=ok
  shift
  echo "==> $name"
  (while sleep 30; do echo "    $name: $((SECONDS - began)) s"; done) &
  alive=$!
  "$@" || { result=FAILED failed=1; }
  kill "$alive" 2>/dev/null
  wait "$alive" 2>/dev/null
  alive=
  summary+=("$(printf '%-7s %5d s  %s' "$result" $((SECONDS - began)) "$name")")
}

# tests DIR [FLAG…] runs the tests of a module and leaves out the packages that have none.
tests() { (cd "$1" && "$go" test -timeout 30m "${@:2}" ./... 2>&1 | { grep --line-buffered -v -e '\[no test files\]' -e '^=== ' || true; }); }

# Tests that need a cluster with nodes are run elsewhere, and looked at here.
vet() { (cd "$1" && "$go" vet -tags e2e ./...); }

step "control plane" "$go" run ./test/apiserver/build
step "go vet" vet .
step "go test" tests .
for dir in ${NESTED:-}; do
  step "go vet in $dir" vet "$dir"
  # Where tests tell how far they are, go test shows it at once: with -v, and one package after the other.
  flags=()
  [[ $dir != test/broker ]] || flags=(-v -p 1)
  step "go test in $dir" tests "$dir" "${flags[@]}"
done

echo
printf '%s\n' "${summary[@]}"
if ((failed)); then echo "FAILED"; else echo "all tests passed"; fi
exit $failed
