#!/usr/bin/env bash
# Fuzzes with libFuzzer: `fuzz.sh [TARGET [SECONDS]]`, without a target each in turn. Says what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
targets=(before_connect after_connect payload)
seconds=${2:-60}
if [ -n "${1:-}" ]; then
    [[ " ${targets[*]} " == *" $1 "* ]] || { echo "no target $1; there are: ${targets[*]}" >&2; exit 64; }
    targets=("$1")
fi
[[ $seconds =~ ^[1-9][0-9]*$ ]] || { echo "SECONDS is a whole number above 0, not $seconds" >&2; exit 64; }

missing=()
cargo +nightly --version >/dev/null 2>&1 || missing+=("a nightly compiler: rustup toolchain install nightly")
command -v cargo-fuzz >/dev/null || missing+=("cargo-fuzz: cargo install --locked cargo-fuzz")
command -v c++ >/dev/null || missing+=("a C++ compiler, for libFuzzer: Debian's g++")
if [ ${#missing[@]} -gt 0 ]; then
    echo "libFuzzer cannot run here. Missing:" >&2
    printf '  %s\n' "${missing[@]}" >&2
    echo "What runs without it: cargo test -p windlass-broker --lib fuzz (the corpus and seeded mutations of it)" >&2
    exit 1
fi

for target in "${targets[@]}"; do
    echo "== $target, $seconds s"
    # New finds go to the first directory, the committed corpus is only read.
    found=target/fuzz-corpus/$target
    mkdir -p "$found"
    cargo +nightly fuzz run --fuzz-dir tests/fuzz --target-dir target/fuzz "$target" "$found" "tests/fuzz/corpus/$target" \
        -- -max_total_time="$seconds" -max_len=1024 -timeout=20
done
