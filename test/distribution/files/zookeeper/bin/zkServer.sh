#!/usr/bin/env bash
# zkServer.sh [--config DIR] start-foreground|print-cmd|version [FILE]
# Starts a ZooKeeper server. SERVER_JVMFLAGS and JVMFLAGS are options of its JVM.
set -euo pipefail
source "$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)/zkEnv.sh"

file=${2:-zoo.cfg}
if [[ $file != /* ]]; then file=$ZOOCFGDIR/$file; fi
# shellcheck disable=SC2206 # lists of words
command=("$java" "-Dzookeeper.log.dir=$ZOO_LOG_DIR" -cp "$CLASSPATH" $SERVER_JVMFLAGS ${JVMFLAGS:-}
  org.apache.zookeeper.server.quorum.QuorumPeerMain "$file")

case ${1:-} in
  start-foreground)
    [[ -d $ZOO_LOG_DIR ]] || mkdir -p "$ZOO_LOG_DIR"
    exec "${command[@]}"
    ;;
  print-cmd) echo "${command[@]}" ;;
  version) exec "$java" -cp "$CLASSPATH" org.apache.zookeeper.version.VersionInfoMain ;;
  *)
    echo "usage: ${0##*/} [--config DIR] {start-foreground|print-cmd|version} [FILE]" >&2
    exit 1
    ;;
esac
