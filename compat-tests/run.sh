#!/usr/bin/env bash
# Runs the foreign clients against a cluster of three nodes and two gateways, started from RINGFORT_BIN.
#
#   compat-tests/run.sh [--suite boto3|aws-cli|hostile|faults|all]... [--full] [-- more pytest arguments]
#
# --full gives the fault tests their full sizes. Environments are kept in
# compat-tests/.venv (VENV_DIR overrides). HAProxy is used when it is installed; CI installs Debian's package.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
suites=()
while [ $# -gt 0 ]; do
    case "$1" in
        --suite) suites+=("${2:?--suite needs a name}"); shift 2 ;;
        --full) export RINGFORT_FULL=1; shift ;;
        --) shift; break ;;
        -h | --help) sed -n '2,7p' "$0" | cut -c3-; exit 0 ;;
        *) echo "unknown argument $1 (--help)" >&2; exit 2 ;;
    esac
done
[ ${#suites[@]} -gt 0 ] || suites=(all)
paths=()
for suite in "${suites[@]}"; do
    case "$suite" in
        all) paths+=(boto3 aws-cli hostile faults) ;;
        boto3 | aws-cli | hostile | faults) paths+=("$suite") ;;
        *) echo "no suite $suite: boto3, aws-cli, hostile, faults, all" >&2; exit 2 ;;
    esac
done
if [ -z "${RINGFORT_ENDPOINTS:-}" ]; then
    : "${RINGFORT_BIN:?set RINGFORT_BIN to the ringfort binary, or RINGFORT_ENDPOINTS to a running server}"
    RINGFORT_BIN="$(realpath "$RINGFORT_BIN")"
    export RINGFORT_BIN
fi

venvs="${VENV_DIR:-$here/.venv}"
environment() { # name, requirements: made once, and again when the pins change
    local stamp="$venvs/$1/.made-from"
    if ! cmp -s "$here/$2" "$stamp"; then
        python3 -m venv --clear "$venvs/$1"
        "$venvs/$1/bin/pip" install --quiet --disable-pip-version-check -r "$here/$2"
        cp "$here/$2" "$stamp"
    fi
}
echo "== environments in $venvs"
environment tests requirements.txt
# The CLI pins another botocore than boto3 does, so it lives apart.
environment aws-cli requirements-aws-cli.txt
export AWS_CLI="$venvs/aws-cli/bin/aws"

cd "$here"
echo "== ${paths[*]}"
exec "$venvs/tests/bin/python" -m pytest -p no:cacheprovider -v --tb=short -s "${paths[@]}" "$@"
