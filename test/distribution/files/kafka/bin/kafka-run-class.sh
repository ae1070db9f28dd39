#!/usr/bin/env bash
# kafka-run-class.sh [-name NAME] [-loggc] CLASS [ARGUMENT…]
# Starts a class of Kafka. Read from the environment, as upstream's script of this name does: JAVA_HOME, CLASSPATH, LOG_DIR,
# KAFKA_HEAP_OPTS, KAFKA_JVM_PERFORMANCE_OPTS, KAFKA_LOG4J_OPTS, KAFKA_JMX_OPTS, KAFKA_OPTS.
set -euo pipefail

home=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
java=${JAVA_HOME:+$JAVA_HOME/bin/}java
logs=${LOG_DIR:-$home/logs}

gc=()
while [[ ${1:-} == -* ]]; do
  case $1 in
    -name) shift 2 ;;
    -loggc) gc=("-Xlog:gc*:file=$logs/gc.log:time,tags:filecount=10,filesize=100M") && shift ;;
    *) echo "unknown option $1" >&2 && exit 2 ;;
  esac
done
[[ $# -gt 0 ]] || { echo "usage: ${0##*/} [-name NAME] [-loggc] CLASS [ARGUMENT...]" >&2 && exit 2; }

[[ -d $logs ]] || mkdir -p "$logs"

if compgen -G "$home/libs/log4j-core-*.jar" >/dev/null; then
  log4j=-Dlog4j2.configurationFile=$home/config/tools-log4j2.yaml
else
  log4j=-Dlog4j.configuration=file:$home/config/tools-log4j.properties
fi

# Options are lists of words, as in every script that takes them.
# shellcheck disable=SC2206
options=(
  ${KAFKA_HEAP_OPTS:--Xmx256M}
  ${KAFKA_JVM_PERFORMANCE_OPTS:--server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35
    -XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true}
  "${gc[@]}"
  ${KAFKA_JMX_OPTS:-}
  "-Dkafka.logs.dir=$logs"
  ${KAFKA_LOG4J_OPTS:-$log4j}
  ${KAFKA_OPTS:-}
)
exec "$java" "${options[@]}" -cp "${CLASSPATH:+$CLASSPATH:}$home/libs/*" "$@"
