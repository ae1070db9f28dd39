# The steps of a ZooKeeper server. prepare: what has to be done before every start; start: the server; ready: the probe.
# Written by Metamorph; a change here is overwritten.
set -euo pipefail

config=/etc/metamorph/config sasl=/etc/metamorph/sasl tls=/etc/metamorph/tls run=/run/metamorph
data=/data/zookeeper
umask 077

say() { echo "metamorph: $*" >&2; }
die() {
  say "$*"
  echo "$*" 2>/dev/null >/dev/termination-log || true
  exit 1
}

check_secrets() {
  local key
  for key in ${MM_SECRET_KEYS:-}; do
    [[ -r $sasl/$key ]] || die "the SASL Secret has no key $key"
    # The x keeps a line break at the end from being cut off: it would be part of the password for one side only.
    [[ $(cat "$sasl/$key"; echo x) =~ ^[A-Za-z0-9_-]{16,}x$ ]] ||
      die "the SASL Secret's key $key must be 16 or more of A-Z, a-z, 0-9, _ and -, without a line break at the end"
  done
}

check_tls() {
  [[ ${MM_TLS:-} == true ]] || return 0
  local file
  for file in tls.crt tls.key ca.crt; do
    [[ -s $tls/$file ]] || die "the TLS Secret has no $file"
  done
  [[ $(head -n 1 "$tls/tls.key") == "-----BEGIN PRIVATE KEY-----" ]] ||
    die "the TLS Secret's tls.key must be an unencrypted PKCS#8 key; convert it with: openssl pkcs8 -topk8 -nocrypt"
  # ZooKeeper reads key and chain from one file.
  cat "$tls/tls.key" "$tls/tls.crt" >"$run/keystore.pem"
}

# A server that cannot find itself cannot be found by the others.
wait_for_name() {
  local n
  for ((n = 0; n < 300; n++)); do
    if getent hosts "$MM_FQDN" >/dev/null; then return; fi
    ((n % 15)) || say "waiting for $MM_FQDN to resolve (is there a headless Service that publishes pods that are not ready?)"
    sleep 1
  done
  die "$MM_FQDN does not resolve after 5 minutes; the headless Service with publishNotReadyAddresses is missing"
}

prepare() {
  # The first process of a container ignores TERM otherwise, and a pod that is deleted while it waits here would stay for
  # its whole grace period.
  trap 'exit 143' TERM
  local id=${MM_POD##*-} was
  [[ $id =~ ^[0-9]+$ ]] || die "the pod's name $MM_POD does not end in an ordinal"
  id=$((id + 1))
  check_secrets
  check_tls
  mkdir -p "$data"
  # An empty file is what a node that lost power while writing it leaves.
  if [[ -s $data/myid ]]; then
    was=$(<"$data/myid")
    [[ $was == "$id" ]] || die "the volume belongs to server $was, and this is server $id; nothing was changed"
  else
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

# Serving, not just listening: a server without a quorum listens too.
ready() {
  local line port=2181
  # With TLS, bash cannot speak to the clients' port.
  if [[ ${MM_TLS:-} == true ]]; then port=2182; fi
  exec 3<>"/dev/tcp/127.0.0.1/$port"
  echo srvr >&3
  while read -r -t 4 line <&3; do
    if [[ $line == Mode:* ]]; then exit 0; fi
  done
  exit 1
}

"$1"
