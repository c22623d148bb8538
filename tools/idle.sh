#!/usr/bin/env bash
# Prints start-up time (until /health/live answers 200) and resident memory of an idle gateway with 50 devices.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=$PWD/target/release/windlass
settle_seconds=5
dir=$(mktemp -d)
pid=
# Ends with the gateway's own clean shutdown, so that no journal is cut off while its directory goes.
finish() {
    if [ -n "$pid" ]; then kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; fi
    rm -rf "$dir"
}
trap finish EXIT

# Whether something answers on a port of this machine. bash's own sockets: neither curl nor Python is needed, and no
# process is started inside the time that is measured.
is_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
is_live() {
    { exec 3<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null || return 1
    local status=
    printf 'GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
    read -r -t 1 status <&3 || true
    exec 3>&-
    [[ $status == HTTP/1.1\ 200* ]]
}

[ -x "$binary" ] || { echo "$binary is not there: run make build" >&2; exit 1; }
port=$((20000 + RANDOM % 10000))
while is_open "$port"; do port=$((port + 1)); done

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
until is_live; do
    kill -0 "$pid" 2>/dev/null || { cat "$dir/log" >&2; exit 1; }
    sleep 0.002
done
echo "start-up     $((($(date +%s%N) - began) / 1000000)) ms until /health/live answers"
sleep "$settle_seconds"
awk '/^VmRSS/ { printf "idle memory  %.1f MiB resident, 50 devices configured, none connected\n", $2 / 1024 }' "/proc/$pid/status"
