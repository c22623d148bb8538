#!/usr/bin/env bash
# Installs what is missing, at pinned versions. `install.sh demo` needs a node only; `install.sh test` needs all.
set -euo pipefail
cd "$(dirname "$0")/.."
purpose=${1:-test}

npm_packages() {
    local stamp=contracts/node_modules/.installed
    if [ -f "$stamp" ] && [ ! contracts/package-lock.json -nt "$stamp" ]; then
        return
    fi
    command -v npm >/dev/null || { echo "missing: Node.js with npm (https://nodejs.org)" >&2; exit 1; }
    echo "installing the contracts' npm packages (contracts/package-lock.json)"
    # The packages' own install scripts download nothing that is needed here.
    npm ci --ignore-scripts --no-audit --no-fund --prefix contracts
    touch "$stamp"
}

debian_packages() {
    local missing=()
    command -v mosquitto_pub >/dev/null || missing+=(mosquitto-clients)
    { command -v mosquitto || [ -x /usr/sbin/mosquitto ]; } >/dev/null || missing+=(mosquitto)
    command -v promtool >/dev/null || missing+=(prometheus)
    [ ${#missing[@]} -eq 0 ] && return
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "missing, please install: ${missing[*]} (Debian's names)" >&2
        exit 1
    fi
    echo "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    # Only the programs are wanted: Debian also starts a broker on 1883 and a Prometheus on 9090.
    if [ -d /run/systemd/system ]; then
        for package in "${missing[@]}"; do
            if [ "$package" != mosquitto-clients ]; then systemctl disable --now --quiet "$package"; fi
        done
    fi
}

command -v cargo >/dev/null || { echo "missing: Rust (https://rustup.rs)" >&2; exit 1; }
case "$purpose" in
demo) command -v anvil >/dev/null || npm_packages ;;
test)
    npm_packages
    debian_packages
    ;;
*)
    echo "usage: tools/install.sh demo|test" >&2
    exit 64
    ;;
esac
