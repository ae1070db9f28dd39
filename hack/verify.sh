#!/usr/bin/env bash
# Checks that the generated files and the go.mod files are up to date: generates in a copy and shows the difference.
# make verify calls it.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
mkdir "$copy/a" "$copy/b"
for side in a b; do
  git ls-files --cached --others --exclude-standard -z |
    while IFS= read -r -d '' file; do [[ ! -e $file ]] || printf '%s\0' "$file"; done |
    tar --create --null --files-from=- --file=- | tar --extract --file=- --directory="$copy/$side"
done

failed=0
echo "==> make generate, in a copy"
make --no-print-directory -C "$copy/b" generate
if ! (cd "$copy" && diff --unified --recursive --new-file a b); then
  echo "generated files are out of date; run make generate" >&2
  failed=1
fi
for dir in . tools test/controlplane ${NESTED:-}; do
  [[ -e $dir/go.mod ]] || continue
  echo "==> go mod tidy -diff in $dir"
  if ! (cd "$dir" && "$go" mod tidy -diff); then
    echo "$dir/go.mod is not tidy; run go mod tidy there" >&2
    failed=1
  fi
done
if ((!failed)); then echo "everything is up to date"; fi
exit $failed
