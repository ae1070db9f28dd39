# Steps that a node of any role takes before it starts. Written by Metamorph; a change here is overwritten.
set -euo pipefail

config=/etc/metamorph/config sasl=/etc/metamorph/sasl tls=/etc/metamorph/tls run=/run/metamorph
umask 077

say() { echo "metamorph: $*" >&2; }
die() {
  say "$*"
  echo "$*" 2>/dev/null >/dev/termination-log || true
  exit 1
}

# check_secrets KEY...: Kafka takes a reference to a missing key for the password itself, and parsers split at commas and
# quotes.
check_secrets() {
  local key
  for key in "$@"; do
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
}

# A node that cannot find itself cannot be found by the others.
wait_for_name() {
  local n
  for ((n = 0; n < 300; n++)); do
    if getent hosts "$MM_FQDN" >/dev/null; then return; fi
    ((n % 15)) || say "waiting for $MM_FQDN to resolve (is there a headless Service that publishes pods that are not ready?)"
    sleep 1
  done
  die "$MM_FQDN does not resolve after 5 minutes; the headless Service with publishNotReadyAddresses is missing"
}

