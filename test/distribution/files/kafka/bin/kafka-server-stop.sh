#!/usr/bin/env bash
# Asks the brokers and controllers that this user sees to stop.
set -euo pipefail

found=
for proc in /proc/[0-9]*; do
  if tr '\0' '\n' 2>/dev/null <"$proc/cmdline" | grep -qx kafka.Kafka; then
    kill -TERM "${proc#/proc/}" && found=yes
  fi
done
[[ $found ]] || { echo "No kafka server to stop" >&2 && exit 1; }
