#!/usr/bin/env bash
# Installs what the build, the demo and the tests need, on Debian 12 as root or with sudo. What is
# there already is left alone, so a second run takes a moment. Starts no service, and leaves none
# running or enabled that it brought along.
#
#   scripts/setup.sh          everything that `make test` uses
#   scripts/setup.sh --run    only what `make run` uses
#   scripts/setup.sh --bench  only what `make bench` uses
#   scripts/setup.sh --quality  only what `make bench-quality` uses
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(build-essential cmake pkg-config pocketsphinx-testdata python3 util-linux)
case "${1:-}" in
--bench) packages+=(janus) ;;
--quality) packages+=(python3-venv python3-dev) ;;
*) packages+=(prosody python3-venv) ;;
esac
if [ -z "${1:-}" ]; then
    packages+=(systemd ejabberd kamailio sip-tester linphone-cli liblinphone10 libxml2-utils sox opus-tools prometheus
        postgresql chromium profanity tmux python3-nbxmpp gir1.2-soup-3.0 lua-dbi-sqlite3)
    # Whoever has Node, from wherever, keeps it; Debian's npm comes with Debian's Node.
    command -v npm >/dev/null || packages+=(nodejs npm)
fi
services=(prosody ejabberd kamailio prometheus janus postgresql)

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=()
for package in "${packages[@]}"; do
    installed "$package" || missing+=("$package")
done
if [ "${#missing[@]}" != 0 ]; then
    echo "installing ${missing[*]}"
    fresh=()
    for service in "${services[@]}"; do
        case " ${missing[*]} " in *" $service "*) fresh+=("$service") ;; esac
    done
    # Debian starts the services that it installs, unless this file says otherwise.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod +x "$policy"
        trap 'as_root rm -f "$policy"' EXIT
    fi
    as_root apt-get -qq update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
        "${missing[@]}" >/dev/null
    if [ -d /run/systemd/system ]; then
        for service in "${fresh[@]}"; do
            as_root systemctl disable --now --quiet "$service" || true
        done
    fi
fi

# PESQ is C that pip compiles against the numpy that is there.
quality=.peers/quality
wanted=benches/quality/requirements.txt
if [ "${1:-}" = --quality ] && ! cmp -s "$wanted" "$quality/requirements.txt"; then
    rm -rf "$quality"
    /usr/bin/python3 -m venv "$quality"
    "$quality/bin/pip" install --quiet --disable-pip-version-check "$(grep numpy "$wanted")" cython setuptools wheel
    "$quality/bin/pip" install --quiet --disable-pip-version-check --no-build-isolation --requirement "$wanted"
    cp "$wanted" "$quality/requirements.txt"
fi

if [ "${1:-}" = --bench ] || [ "${1:-}" = --quality ]; then
    command -v cargo >/dev/null && exit
    echo "cargo is missing: install Rust 1.94 or later (https://rustup.rs), then run this again" >&2
    exit 1
fi

# The peers written in Python live in an environment of their own.
wanted=tests/interop/peers/requirements.txt
venv=.peers/venv
if ! cmp -s "$wanted" "$venv/requirements.txt"; then
    # Wheels of the phone exist for Python 3.11, which is Debian 12's.
    python=/usr/bin/python3
    if ! "$python" -c 'import sys, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
        python=$(command -v python3.11 || command -v python3)
    fi
    echo "installing the Python peers into $venv"
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted"
    cp "$wanted" "$venv/requirements.txt"
fi

# So do those written in JavaScript.
if [ "${1:-}" != --run ]; then
    wanted=tests/interop/peers/package-lock.json
    node=.peers/node
    if ! cmp -s "$wanted" "$node/installed.json"; then
        echo "installing the JavaScript peers into $node"
        rm -rf "$node"
        mkdir -p "$node"
        cp tests/interop/peers/package.json "$wanted" "$node/"
        (cd "$node" && npm ci --ignore-scripts --no-audit --no-fund --silent)
        cp "$wanted" "$node/installed.json"
    fi
fi

if ! command -v cargo >/dev/null; then
    echo "cargo is missing: install Rust 1.94 or later (https://rustup.rs), then run this again" >&2
    exit 1
fi
