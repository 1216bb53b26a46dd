#!/usr/bin/env bash
# Brings a llama.cpp server into a virtual environment of its own, .venv/services/llama, from the hashes of
# requirements-services.lock. Needs Python 3.11 or newer with venv. The wheels hold llama.cpp compiled, so there is no
# compiler; the one library that a bare Debian may lack, libgomp1, is installed with apt-get. Nothing of it enters the
# product's environment, and it does nothing when that lock is installed already.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

lock=requirements-services.lock
target=.venv/services/llama
base=.venv/bin/python
[ -x "$base" ] || base=${PYTHON:-python3}

wanted=$(sha256sum "$lock" | cut -d' ' -f1)
is_usable() { "$target/bin/python" -c 'import gguf, xllamacpp' 2>/dev/null; }
if [ "$(cat "$target/.installed" 2>/dev/null)" = "$wanted" ] && is_usable; then
  exit 0
fi

case "$(uname -s)-$(uname -m)" in
  Linux-x86_64 | Linux-aarch64) ;;
  *) echo "install_llama.sh: the lock holds llama.cpp for 64-bit Linux (x86_64, aarch64) only" >&2; exit 1 ;;
esac

if ! "$base" -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null; then
  as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo -n)
  "${as_root[@]}" apt-get update -qq \
    && "${as_root[@]}" apt-get install -y -qq --no-install-recommends libgomp1 >/dev/null \
    || { echo "install_llama.sh: llama.cpp needs OpenMP's library; as root:  apt-get install -y libgomp1" >&2; exit 1; }
fi

echo "installing a llama.cpp server in $target (once)"
mkdir -p "$(dirname "$target")"
"$base" -m venv --clear "$target"
export PIP_DISABLE_PIP_VERSION_CHECK=1
"$target/bin/python" -m pip install -q --no-deps --require-hashes --only-binary :all: -r "$lock"
"$target/bin/python" -c 'import gguf, xllamacpp'
echo "$wanted" > "$target/.installed"
