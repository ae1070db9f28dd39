#!/usr/bin/env bash
# zkCli.sh [--config DIR] [-server HOST:PORT] [COMMAND…]
# ZooKeeper's shell. CLIENT_JVMFLAGS and JVMFLAGS are options of its JVM.
set -euo pipefail
source "$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)/zkEnv.sh"

# shellcheck disable=SC2086 # lists of words
exec "$java" -cp "$CLASSPATH" $CLIENT_JVMFLAGS ${JVMFLAGS:-} org.apache.zookeeper.ZooKeeperMain "$@"
