#!/usr/bin/env bash
# Installs what is missing, at pinned versions. `install.sh demo` needs a node only; `install.sh test` needs all.
set -euo pipefail
cd "$(dirname "$0")/.."
purpose=${1:-test}

npm_packages() {
    local dir=$1 what=$2
    local stamp=$dir/node_modules/.installed
    if [ -f "$stamp" ] && [ ! "$dir/package-lock.json" -nt "$stamp" ]; then
        return
    fi
    command -v npm >/dev/null || { echo "missing: Node.js with npm (https://nodejs.org)" >&2; exit 1; }
    echo "installing $what ($dir/package-lock.json)"
    # The packages' own install scripts download nothing that is needed here.
    npm ci --ignore-scripts --no-audit --no-fund --prefix "$dir"
    touch "$stamp"
}

python_packages() {
    local dir=$1 what=$2
    local stamp=$dir/.venv/.installed
    if [ -f "$stamp" ] && [ ! "$dir/requirements.txt" -nt "$stamp" ]; then
        return
    fi
    echo "installing $what ($dir/requirements.txt)"
    # Debian's own Python takes no packages from outside; a directory of our own does, and leaves it alone.
    python3 -m venv --clear "$dir/.venv"
    "$dir/.venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
        --only-binary :all: -r "$dir/requirements.txt"
    touch "$stamp"
}

debian_packages() {
    local missing=()
    command -v mosquitto_pub >/dev/null || missing+=(mosquitto-clients)
    { command -v mosquitto || [ -x /usr/sbin/mosquitto ]; } >/dev/null || missing+=(mosquitto)
    command -v chromium >/dev/null || missing+=(chromium)
    command -v strace >/dev/null || missing+=(strace)
    command -v promtool >/dev/null || missing+=(prometheus)
    # systemd-analyze reads the unit; a machine that booted with systemd has it.
    command -v systemd-analyze >/dev/null || missing+=(systemd)
    # Debian's python3 comes without the module that puts pip into a venv.
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
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
            case $package in
            mosquitto | prometheus) systemctl disable --now --quiet "$package" ;;
            esac
        done
    fi
}

command -v cargo >/dev/null || { echo "missing: Rust (https://rustup.rs)" >&2; exit 1; }
case "$purpose" in
demo) command -v anvil >/dev/null || npm_packages contracts "the contracts' npm packages" ;;
test)
    npm_packages contracts "the contracts' npm packages"
    npm_packages tests/clients "the JavaScript client of the tests"
    npm_packages docs/examples "the examples' npm packages"
    npm_packages crates/http/web "the web page's npm packages"
    debian_packages
    python_packages tests/clients "the Python client of the tests"
    python_packages tools "the checks of deploy/"
    ;;
*)
    echo "usage: tools/install.sh demo|test" >&2
    exit 64
    ;;
esac
