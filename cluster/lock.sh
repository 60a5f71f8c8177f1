#!/usr/bin/env bash
# Makes requirements.lock and build.lock anew from pyproject.toml, with Python 3.11 on Linux x86_64:
#   python3.11 -m venv /tmp/lock && /tmp/lock/bin/pip install pip-tools && PATH=/tmp/lock/bin:$PATH cluster/lock.sh
# What is locked already stays as it is where it still fits; UPGRADE=1 takes the newest of everything.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')" = 3.11 ] || { echo "this needs Python 3.11" >&2; exit 2; }

# No address of an index, and nothing that depends on whose machine this is.
options=(--generate-hashes --strip-extras --allow-unsafe --quiet --no-header --no-annotate
  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options)
[ -z "${UPGRADE:-}" ] || options+=(--upgrade)

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
# The comments above a lock's first package are kept.
lock() {
  local file="$1"
  shift
  sed -n '/^[^#]/q;p' "$file" > "$scratch/head"
  cp "$file" "$scratch/new"
  pip-compile "${options[@]}" "$@" --output-file "$scratch/new"
  { cat "$scratch/head"; sed '/^#/d;/^$/d' "$scratch/new"; } > "$file"
}
lock cluster/requirements.lock --extra cluster pyproject.toml
sed -n '/^requires = \[/p' pyproject.toml | grep -o '"[^"]*"' | tr -d '"' > "$scratch/build.in"
lock cluster/build.lock "$scratch/build.in"
