# The steps of a ZooKeeper server. prepare: what has to be done before every start; start: the server; ready: the probe; drain:
# before it is stopped.
state=/etc/metamorph/state
data=/data/zookeeper

prepare() {
  # The first process of a container ignores TERM otherwise, and a pod that is deleted while it waits here would stay for
  # its whole grace period.
  trap 'exit 143' TERM
  local id=${MM_POD##*-} was
  [[ $id =~ ^[0-9]+$ ]] || die "the pod's name $MM_POD does not end in an ordinal"
  id=$((id + 1))
  # shellcheck disable=SC2086 # a list
  check_secrets ${MM_SECRET_KEYS:-}
  check_tls
  # ZooKeeper reads key and chain from one file.
  if [[ ${MM_TLS:-} == true ]]; then cat "$tls/tls.key" "$tls/tls.crt" >"$run/keystore.pem"; fi
  mkdir -p "$data"
  # An empty file is what a node that lost power while writing it leaves.
  if [[ -s $data/myid ]]; then
    was=$(<"$data/myid")
    [[ $was == "$id" ]] || die "the volume belongs to server $was, and this is server $id; nothing was changed"
  else
    # Servers that come back empty can form a quorum without those that have the data.
    [[ ! -e $state/${MM_POD##*-} ]] ||
      die "the volume is empty, but server $id has run before: its data is lost. Restore the volume, or, if most of the other servers are healthy, permit an empty one: delete the key ${MM_POD##*-} of the ConfigMap that records the nodes that were ready (NAME-state), then this pod"
    echo "$id" >"$data/myid"
  fi
  if [[ -r $sasl/zookeeper ]]; then
    local password module="org.apache.zookeeper.server.auth.DigestLoginModule required"
    password=$(<"$sasl/zookeeper")
    printf 'Server {\n  %s user_kafka="%s";\n};\nQuorumServer {\n  %s user_zookeeper="%s";\n};\nQuorumLearner {\n  %s username="zookeeper" password="%s";\n};\n' \
      "$module" "$password" "$module" "$password" "$module" "$password" >"$run/jaas.conf"
  fi
  wait_for_name
}

start() {
  local jaas=
  if [[ -e $run/jaas.conf ]]; then jaas=-Djava.security.auth.login.config=$run/jaas.conf; fi
  # Set for the server only: zkCli.sh in the same container must not inherit its heap.
  export SERVER_JVMFLAGS="$MM_HEAP_OPTS $MM_JVM_OPTS $jaas ${SERVER_JVMFLAGS:-}" ZOO_LOG_DIR=$run ZOOCFGDIR=$config
  export JVMFLAGS="-Dlogback.configurationFile=$config/logback.xml ${JVMFLAGS:-}"
  exec zkServer.sh --config "$config" start-foreground "$config/zoo.cfg"
}

# ask COMMAND prints what the server answers.
ask() {
  local line port=2181
  # With TLS, bash cannot speak to the clients' port.
  if [[ ${MM_TLS:-} == true ]]; then port=2182; fi
  exec 3<>"/dev/tcp/127.0.0.1/$port"
  echo "$1" >&3
  while read -r -t 4 line <&3; do echo "$line"; done
  exec 3>&-
}

# Serving, not just listening: a server without a quorum listens too.
ready() { [[ $(ask srvr) == *Mode:* ]]; }

# drain gives clients that are stopped at the same time the time to close their sessions: a broker whose ensemble is gone before it
# waits for the ensemble for ever. Clients that stay cost no more than these seconds.
drain() {
  local n
  for ((n = 0; n < 20; n++)); do
    # An answer that has none of it is no reason to wait.
    [[ $(ask mntr) =~ zk_global_sessions[[:space:]]+[1-9] ]] || break
    sleep 1
  done
}

"$1"
