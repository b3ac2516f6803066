#!/bin/sh
# start.sh COMMAND [ARGUMENT...]
# What run.sh and compare.sh have in common: installs what COMMAND needs (Debian), then hands over
# to its runner, the Python script of the same name.
set -eu
bench=$(cd "$(dirname "$0")" && pwd)
command=$1
runner=$bench/${command%.sh}.py
shift

# The command's packages, one per line.
packages() {
    awk -v command="$command" '
        $1 == "#:" { wanted = $2 == command || $2 == "both"; next }
        { sub(/#.*/, "") }
        wanted && NF { print $1 }' "$bench/packages.txt"
}

is_installed() { dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        env "$@"
    elif command -v sudo >/dev/null; then
        sudo env "$@"
    else
        echo "$command: needs root or sudo to install:$missing" >&2
        exit 3
    fi
}

# No package in the list comes with a service, so installing starts nothing.
install_missing_packages() {
    missing=
    for package in $(packages); do
        is_installed "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0

    echo "installing:$missing"
    apt="DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=900"
    # shellcheck disable=SC2086  # lists of words on purpose
    as_root $apt update
    # shellcheck disable=SC2086
    as_root $apt install -y --no-install-recommends $missing
}

for argument in "$@"; do
    case $argument in
    -h | --help) exec python3 -B "$runner" --help ;;
    esac
done

if command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then
    install_missing_packages
    # What was installed is what is measured, whatever else is on PATH: version managers put shell
    # scripts there under the names of interpreters.
    PATH=/usr/bin:/bin:$PATH
elif ! command -v python3 >/dev/null; then
    echo "$command: python3 is missing, and this is not Debian. Install what these hold:" >&2
    packages >&2
    exit 3
fi

exec python3 -B "$runner" "$@"
