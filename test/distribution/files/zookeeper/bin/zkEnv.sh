#!/usr/bin/env bash
# What zkServer.sh and zkCli.sh have in common. Read from the environment, as upstream's script of this name does: JAVA_HOME,
# CLASSPATH, ZOOCFGDIR, ZOO_LOG_DIR, ZK_SERVER_HEAP, ZK_CLIENT_HEAP (in MB).
home=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
java=${JAVA_HOME:+$JAVA_HOME/bin/}java

if [[ ${1:-} == --config ]]; then
  ZOOCFGDIR=${2:?--config needs a directory}
  shift 2
fi
ZOOCFGDIR=${ZOOCFGDIR:-$home/conf}
ZOO_LOG_DIR=${ZOO_LOG_DIR:-$home/logs}
if [[ -r $ZOOCFGDIR/java.env ]]; then
  # shellcheck disable=SC1091 # the user's
  source "$ZOOCFGDIR/java.env"
fi
CLASSPATH=$ZOOCFGDIR:$home/lib/*${CLASSPATH:+:$CLASSPATH}
# In front, so that a heap in the flags wins.
SERVER_JVMFLAGS="-Xmx${ZK_SERVER_HEAP:-1000}m ${SERVER_JVMFLAGS:-}"
CLIENT_JVMFLAGS="-Xmx${ZK_CLIENT_HEAP:-256}m ${CLIENT_JVMFLAGS:-}"
