#!/usr/bin/env bash
# Runs the benchmarks COUNT times each, and shows them beside those of the last run, which bin/bench keeps. make bench
# calls it.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}

mkdir -p bin/bench
# Compiled and run first, kept after: a run that fails must not take the place of one that did not.
"$go" test -run='^$' -bench=. -benchmem -count="${COUNT:-6}" ./pkg/... | tee bin/bench/new.tmp | grep -v '\[no test files\]'
files=()
if [[ -e bin/bench/new.txt ]]; then
  mv bin/bench/new.txt bin/bench/old.txt
  files+=(old=bin/bench/old.txt)
fi
mv bin/bench/new.tmp bin/bench/new.txt
files+=(new=bin/bench/new.txt)
echo
${TOOL:-$go tool -modfile=tools/go.mod} benchstat "${files[@]}"
