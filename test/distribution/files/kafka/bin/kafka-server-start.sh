#!/usr/bin/env bash
# kafka-server-start.sh server.properties [--override KEY=VALUE]…
# Starts a broker or a controller in the foreground. EXTRA_ARGS are options of kafka-run-class.sh.
set -euo pipefail

[[ $# -gt 0 ]] || { echo "usage: ${0##*/} server.properties [--override KEY=VALUE]..." >&2 && exit 2; }
bin=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)

if [[ -z ${KAFKA_LOG4J_OPTS:-} ]]; then
  if compgen -G "$bin/../libs/log4j-core-*.jar" >/dev/null; then
    export KAFKA_LOG4J_OPTS=-Dlog4j2.configurationFile=$bin/../config/log4j2.yaml
  else
    export KAFKA_LOG4J_OPTS=-Dlog4j.configuration=file:$bin/../config/log4j.properties
  fi
fi
export KAFKA_HEAP_OPTS=${KAFKA_HEAP_OPTS:--Xmx1G -Xms1G}
# shellcheck disable=SC2086 # a list
exec "$bin/kafka-run-class.sh" ${EXTRA_ARGS--name kafkaServer -loggc} kafka.Kafka "$@"
