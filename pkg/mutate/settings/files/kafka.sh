# The steps of a Kafka node. prepare: what has to be done before the first start; start: the broker; alive: the probe.
state=/etc/metamorph/state
data=/var/lib/kafka/data/kafka-logs
bin=/opt/kafka/bin

# Node id = ordinal. Ordinals below MM_CONTROLLERS are controllers too.
identity() {
  export MM_ID=${MM_POD##*-}
  [[ $MM_ID =~ ^[0-9]+$ ]] || die "the pod's name $MM_POD does not end in an ordinal"
  export MM_ROLES=broker MM_LISTENERS=CLIENT://:9092,INTERNAL://:9094
  if controller; then
    MM_ROLES=broker,controller MM_LISTENERS=$MM_LISTENERS,CONTROLLER://:9093
  fi
  export MM_ZK_ACL=false
  if zookeeper_auth; then MM_ZK_ACL=true; fi
}

controller() { ((MM_ID < ${MM_CONTROLLERS:-0})); }
zookeeper_auth() { [[ ${MM_ZK_AUTH:-} == true || (${MM_ZK_AUTH:-} == optional && -e $sasl/zookeeper) ]]; }

# Kafka's tools read the same files, with a small heap and their log off stdout. They live for a second or two, in which a
# server's compiler and collector cost more than they bring.
tool() {
  KAFKA_HEAP_OPTS=-Xmx128m KAFKA_JVM_PERFORMANCE_OPTS="-XX:TieredStopAtLevel=1 -XX:+UseSerialGC" KAFKA_LOG4J_OPTS=$(log4j) KAFKA_OPTS=$(jaas_option) LOG_DIR=$run "$bin/$1" "${@:2}"
}

log4j() {
  if [[ -e $config/log4j2.yaml ]]; then
    echo "-Dlog4j2.configurationFile=$config/log4j2.yaml"
  else
    echo "-Dlog4j.configuration=file:$config/log4j.properties"
  fi
}

jaas_option() { if [[ -e $run/jaas.conf ]]; then echo "-Djava.security.auth.login.config=$run/jaas.conf"; fi; }

scram() { printf '%s=[name=%s,password=%s]\n' "$MM_SCRAM" "$1" "$(<"$sasl/$2")"; }

format() {
  local id
  if [[ -e $data/meta.properties ]]; then
    id=$(sed -n 's/^cluster\.id=//p' "$data/meta.properties")
    [[ $id == "$MM_CLUSTER_ID" ]] ||
      die "the volume belongs to the cluster ${id:-of no id}, and this is $MM_CLUSTER_ID; nothing was changed"
    id=$(sed -n 's/^node\.id=//p' "$data/meta.properties")
    [[ $id == "$MM_ID" ]] || die "the volume belongs to node ${id:-of no id}, and this is node $MM_ID; nothing was changed"
    return
  fi
  # A majority of controllers that come back empty can elect a leader without the committed data.
  if controller && [[ -e $state/$MM_ID ]]; then
    die "the volume is empty, but controller $MM_ID has run before: its data is lost. Restore the volume, or, if the other controllers are healthy, permit formatting: delete the key $MM_ID of the ConfigMap that records the nodes that were ready (NAME-state), then this pod"
  fi
  local args=()
  if controller && [[ -n ${MM_SCRAM:-} ]]; then
    printf '%s\n' --add-scram "$(scram kafka broker)" --add-scram "$(scram client client)" >"$run/format"
    args=("@$run/format")
  fi
  say "formatting the volume of node $MM_ID for the cluster $MM_CLUSTER_ID"
  # The tool prints the credentials' records on stdout.
  if ! tool kafka-storage.sh format --ignore-formatted --cluster-id="$MM_CLUSTER_ID" --config="$config/server.properties" \
    "${args[@]}" 2>"$run/format.err" >/dev/null; then
    cat "$run/format.err" >&2
    die "kafka-storage.sh format failed: $(tail -n 1 "$run/format.err")"
  fi
  rm -f "$run/format" "$run/format.err"
}

# With ZooKeeper, SCRAM users live there, and must be there before the first broker. Only absent ones are written: a
# restart must not undo a rotation.
zookeeper() {
  local path= hosts=${MM_ZOOKEEPER%%/*} acl=() shell=() configs=() user until said at= why
  if [[ $MM_ZOOKEEPER == */* ]]; then path=/${MM_ZOOKEEPER#*/}; fi
  if zookeeper_auth; then
    printf 'Client {\n  org.apache.zookeeper.server.auth.DigestLoginModule required username="kafka" password="%s";\n};\n' \
      "$(<"$sasl/zookeeper")" >"$run/jaas.conf"
    acl=("sasl:kafka:cdrwa,world:anyone:r")
  fi
  if [[ ${MM_ZK_TLS:-} == true ]]; then
    sed -n -e '/^zookeeper\.ssl/p' -e '/^zookeeper\.clientCnxnSocket/p' "$config/server.properties" >"$run/zookeeper-tls.properties"
    shell=(-zk-tls-config-file "$run/zookeeper-tls.properties") configs=(--zk-tls-config-file "$run/zookeeper-tls.properties")
  fi
  ((until = SECONDS + 300, said = SECONDS - 30))
  until zookeeper_shell stat "${path:-/}"; do
    why=$(zookeeper_answer)
    case $why in
      # It answers, and the path is still to be made.
      "Node does not exist"*) break ;;
      # Waiting does not help.
      *AuthFailed* | *"failed to authenticate"*)
        zookeeper_auth || die "ZooKeeper at $hosts wants a login, and the SASL Secret has no key zookeeper for it: $why"
        [[ $MM_ZK_AUTH == true ]] || why="$why; if the ensemble has no logins, remove the key"
        die "ZooKeeper at $hosts refuses the user kafka with the key zookeeper of the SASL Secret: $why"
        ;;
    esac
    ((SECONDS < until)) || die "ZooKeeper at $hosts does not answer: $why"
    if ((SECONDS >= said + 30)); then
      say "waiting for ZooKeeper at $hosts: $why"
      said=$SECONDS
    fi
    sleep 2
  done
  if [[ ${why:-} == "Node does not exist"* ]]; then
    local parts part
    IFS=/ read -ra parts <<<"${path#/}"
    for part in "${parts[@]}"; do
      at=$at/$part
      if ! zookeeper_shell create "$at" "" "${acl[@]}"; then
        # It may be there already, or there and not ours to make, which is told first.
        why=$(zookeeper_answer)
        zookeeper_shell stat "$at" || die "cannot create $at in ZooKeeper: $why"
      fi
    done
  fi
  [[ -n ${MM_SCRAM:-} ]] || return 0
  for user in kafka:broker client:client; do
    # An error is not an absent user.
    tool kafka-configs.sh --zookeeper "$MM_ZOOKEEPER" "${configs[@]}" --describe --entity-type users --entity-name "${user%:*}" \
      >"$run/zookeeper.out" 2>&1 || die "cannot read the SCRAM user ${user%:*} from ZooKeeper: $(zookeeper_answer)"
    if ! grep -q "$MM_SCRAM=" "$run/zookeeper.out"; then
      say "writing the SCRAM user ${user%:*}"
      printf '%s=password=%s\n' "$MM_SCRAM" "$(<"$sasl/${user#*:}")" >"$run/user"
      tool kafka-configs.sh --zookeeper "$MM_ZOOKEEPER" "${configs[@]}" --alter --entity-type users --entity-name "${user%:*}" \
        --add-config-file "$run/user" >/dev/null 2>&1 || die "cannot write the SCRAM user ${user%:*} to ZooKeeper"
    fi
  done
  rm -f "$run/user" "$run/zookeeper.out"
}

# Uses the caller's hosts and shell.
zookeeper_shell() { tool zookeeper-shell.sh "$hosts" "${shell[@]}" "$@" >"$run/zookeeper.out" 2>&1; }

# What the tool said at last, without its log.
zookeeper_answer() { grep -v -e '^\[' -e '^[[:space:]]' -e '^$' "$run/zookeeper.out" | tail -n 1; }

prepare() {
  # The first process of a container ignores TERM otherwise, and a pod that is deleted while it waits here would stay for
  # its whole grace period.
  trap 'exit 143' TERM
  identity
  # shellcheck disable=SC2086 # a list
  check_secrets ${MM_SECRET_KEYS:-}
  if zookeeper_auth; then check_secrets zookeeper; fi
  check_tls
  wait_for_name
  if [[ -n ${MM_ZOOKEEPER:-} ]]; then zookeeper; else format; fi
}

start() {
  identity
  local rack=()
  if [[ -n ${MM_RACK:-} ]]; then rack=(--override "broker.rack=$MM_RACK"); fi
  # Set for the broker only: kafka-topics.sh in the same container must not inherit its heap and its agents.
  export KAFKA_HEAP_OPTS=$MM_HEAP_OPTS KAFKA_JVM_PERFORMANCE_OPTS=$MM_JVM_OPTS KAFKA_LOG4J_OPTS EXTRA_ARGS="-name kafkaServer"
  KAFKA_LOG4J_OPTS=$(log4j)
  export KAFKA_OPTS="${KAFKA_OPTS:-} $(jaas_option)"
  exec "$bin/kafka-server-start.sh" "$config/server.properties" "${rack[@]}"
}

# A controller's port opens at once, a broker's after recovery; neither depends on clients. No JVM: a probe that starts
# one gets the pod killed for its memory.
alive() {
  identity
  local port=9094
  if controller; then port=9093; fi
  exec 3<>"/dev/tcp/127.0.0.1/$port"
}

"$1"
