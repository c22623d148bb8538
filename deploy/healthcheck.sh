#!/bin/bash
# Exits 0 when what runs in this container answers: `healthcheck live|ready PORT` asks a gateway for its health,
# `healthcheck chain PORT` a node for its chain id. bash's own sockets: the image has neither curl nor wget.
set -euo pipefail
what=${1:?live, ready or chain} port=${2:?a port}

exec 3<>"/dev/tcp/127.0.0.1/$port"
case "$what" in
live | ready)
    printf 'GET /health/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$what" >&3
    ;;
chain)
    body='{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}'
    printf 'POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n' >&3
    printf 'Content-Type: application/json\r\nContent-Length: %s\r\n\r\n%s' "${#body}" "$body" >&3
    ;;
*)
    echo "healthcheck: $what is none of live, ready, chain" >&2
    exit 64
    ;;
esac
# Docker and Kubernetes stop a check that hangs; this stops it sooner.
status=
read -r -t 2 status <&3 || true
echo "${status%$'\r'}"
[[ $status == HTTP/1.1\ 200* ]]
