#!/usr/bin/env bash
# Prints start-up time (until /health/live answers) and resident memory of an idle gateway with 50 devices.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=$PWD/target/release/windlass
dir=$(mktemp -d)
trap 'kill "${pid:-}" 2>/dev/null || true; rm -rf "$dir"' EXIT
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
# The public first key and mnemonic of every development chain; the gateway runs without a node here.
echo 0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80 >"$dir/submitter.key"
echo "test test test test test test test test test test test junk" >"$dir/devices.mnemonic"
{
    printf 'data_dir = "data"\n[[broker.listeners]]\nlisten = "127.0.0.1:0"\n'
    printf '[chain]\nrpc = ["http://127.0.0.1:1"]\nchain_id = 31337\n'
    printf '[[chain.submitters]]\nprivate_key_file = "submitter.key"\n'
    printf '[keys]\nmnemonic_file = "devices.mnemonic"\n[http]\nlisten = "127.0.0.1:%s"\n' "$port"
    for i in $(seq 0 49); do
        printf '[[devices]]\nid = "scanner-%s"\nsecret = "sha256:%064d"\nkey = { custodial = %s }\n' "$i" 0 "$i"
    done
} >"$dir/windlass.toml"
began=$(date +%s%N)
"$binary" run --config "$dir/windlass.toml" 2>"$dir/log" &
pid=$!
until curl -fs "http://127.0.0.1:$port/health/live" >/dev/null 2>&1; do
    kill -0 "$pid" || { cat "$dir/log" >&2; exit 1; }
    sleep 0.005
done
echo "start-up     $((($(date +%s%N) - began) / 1000000)) ms until /health/live answers"
sleep 5
awk '/^VmRSS/ { printf "idle memory  %.1f MiB resident, 50 devices configured, none connected\n", $2 / 1024 }' "/proc/$pid/status"
