#!/usr/bin/env bash
# Writes pkg/mutate/catalogue/kafka-MINOR.json from the jars that the Kafka project publishes.
#   hack/catalogue/export.sh 4.3.1 [VERSION…]
# Needs a JDK 17 and Maven. The same version always gives the same bytes.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$(cd "$here/../../pkg/mutate/catalogue" && pwd)

if [[ $# -eq 0 ]]; then
  sed -n '2,4s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi

build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT

for version; do
  [[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || { echo "not a Kafka version: $version (example: 4.3.1)" >&2; exit 2; }
  dir=$build/$version
  mvn --quiet --batch-mode -Dstyle.color=never --file "$here/pom.xml" -Dkafka.version="$version" -Dbuild.dir="$dir" \
    compile dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$dir/lib"
  java -Duser.language=en -cp "$dir/classes:$dir/lib/*" dev.metamorph.catalogue.Export > "$dir/catalogue.json"
  target=$out/kafka-${version%.*}.json
  mv "$dir/catalogue.json" "$target"
  echo "$version: $(grep -c '^{"name"' "$target") keys in ${target##*/}" >&2
done
