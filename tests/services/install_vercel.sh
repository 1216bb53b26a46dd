#!/usr/bin/env bash
# Brings Vercel's AI SDK into .venv/services/vercel, by the hashes of tests/services/vercel/package-lock.json. Debian's
# nodejs and npm are installed where they are missing. Where npm reaches no registry it says so, and its test is skipped.
# Does nothing when that lock is installed already.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

source=tests/services/vercel
target=.venv/services/vercel
wanted=$(sha256sum "$source/package-lock.json" | cut -d' ' -f1)
if [ "$(cat "$target/.installed" 2>/dev/null)" = "$wanted" ] && command -v node >/dev/null; then exit 0; fi

if ! command -v npm >/dev/null; then
  command -v apt-get >/dev/null || { echo "install_vercel.sh: no npm and no apt-get: its test is skipped" >&2; exit 0; }
  as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo -n)
  echo "installing nodejs and npm (once)"
  "${as_root[@]}" apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null \
    || { echo "install_vercel.sh: nodejs could not be installed: its test is skipped" >&2; exit 0; }
fi

echo "installing Vercel's AI SDK in $target (once)"
rm -rf "$target" && mkdir -p "$target"
cp "$source/package.json" "$source/package-lock.json" "$target/"
if ! npm ci --prefix "$target" --ignore-scripts --no-audit --no-fund --loglevel error; then
  echo "install_vercel.sh: npm reaches no registry: its test is skipped" >&2
  exit 0
fi
echo "$wanted" > "$target/.installed"
