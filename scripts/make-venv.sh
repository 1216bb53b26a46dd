#!/bin/sh
# Make the virtual environment in the folder $1, with the Python that $PYTHON names or, where it names none, the best of
# python3 and the system's own. A Python built without profile-guided optimization, which is how pyenv builds by
# default, runs Python up to 1.8 times slower than Debian's, so it is taken only where there is no other or it is asked for.
set -eu

venv=$1
system_python=${SYSTEM_PYTHON:-/usr/bin/python3}

# What a Python is, as "VERSION yes|no|unknown": its version and whether it was built with optimizations. Debian's
# packaging runs the profile itself and strips the flag for it from what is recorded; any other build keeps it.
describe() {
    "$1" -c 'import sys, sysconfig
arguments, flag = (sysconfig.get_config_var(name) or "" for name in ("CONFIG_ARGS", "PGO_PROF_USE_FLAG"))
is_optimized = ("yes" if "--enable-optimizations" in arguments or not flag else "no") if arguments else "unknown"
print("%d.%d.%d" % sys.version_info[:3], is_optimized)' 2>/dev/null || echo "missing unknown"
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

has_venv() {
    "$1" -c 'import venv, ensurepip' 2>/dev/null
}

python=${PYTHON:-}
reason=
if [ -z "$python" ]; then
    python=python3
    found=$(describe python3)
    if ! is_new_enough python3; then
        reason="python3 is ${found% *}, and Roadbed needs 3.11 or newer"
    elif [ "${found#* }" = no ]; then
        reason="python3 is a build without optimizations, up to 1.8 times slower; make PYTHON=python3 takes it all the same"
    fi
    if [ -n "$reason" ]; then
        other=$(describe "$system_python")
        if [ "${other#* }" = yes ] && is_new_enough "$system_python" && has_venv "$system_python"; then
            python=$system_python
        fi
    fi
fi

if ! is_new_enough "$python"; then
    echo "Roadbed needs Python 3.11 or newer; $python is $("$python" --version 2>/dev/null || echo missing). Say which with: make PYTHON=python3.12 ${GOALS:-}"
    exit 1
fi
if ! has_venv "$python"; then
    echo "Python's venv module is missing. Install it, then run make again:  apt-get install -y python3-venv"
    exit 1
fi
if [ "$python" = "$system_python" ] && [ -n "$reason" ]; then
    echo "making the virtual environment in $venv with $python (${other% *}): $reason"
else
    echo "making the virtual environment in $venv"
fi
"$python" -m venv "$venv"
