#!/usr/bin/env bash
# Runs each fuzz target of the main module for FUZZTIME. A finding is kept below testdata/fuzz of its package; make fuzz
# calls it.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go} time=${FUZZTIME:-20s}

failed=() count=0
while IFS=: read -r file target; do
  count=$((count + 1))
  dir=./$(dirname "$file")
  echo "==> $target in $dir for $time"
  "$go" test -run='^$' -fuzz="^$target\$" -fuzztime="$time" -fuzzminimizetime=5s "$dir" || failed+=("$dir $target")
done < <(git ls-files --cached --others --exclude-standard -- '*_test.go' | xargs grep -Hos '^func Fuzz[A-Za-z0-9_]*' | sed 's/func //' | sort -u)

echo
if ((${#failed[@]})); then
  printf 'FAILED  %s\n' "${failed[@]}"
  exit 1
fi
echo "$count fuzz targets, no findings"
