#!/usr/bin/env bash
# Brings PostgreSQL 15 with pgvector into .venv/services/postgres15, for the tests of `--database`: Debian's server, copied
# so that nothing of the system changes, and pgvector compiled for it from the sources of the next Debian, which is the
# first that has one. Where this is not Debian 12, or a package cannot be had, it says so, and the test is skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

target=$PWD/.venv/services/postgres15
version=0.8.0
[ "$(cat "$target/.installed" 2>/dev/null)" = "$version" ] && exit 0

skip() { echo "install_postgres15.sh: $1: the test of PostgreSQL 15 is skipped" >&2; exit 0; }
command -v apt-get >/dev/null || skip "no apt-get"
grep -q '^VERSION_CODENAME=bookworm' /etc/os-release || skip "PostgreSQL 15 is Debian 12's"
as_root=() && [ "$(id -u)" = 0 ] || as_root=(sudo -n)
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
chmod 755 "$work"

echo "building PostgreSQL 15 with pgvector in $target (once)"
"${as_root[@]}" apt-get update -qq || skip "apt-get reaches nothing"
wanted=(libpq5 libxml2 libldap-2.5-0 libicu72 libssl3 libgssapi-krb5-2 libpam0g liblz4-1 libzstd1 libsystemd0)
command -v gcc >/dev/null || wanted+=(gcc libc6-dev)
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${wanted[@]}" \
  >/dev/null || skip "the libraries or the compiler cannot be installed"
(cd "$work" && apt-get download -qq postgresql-15 postgresql-server-dev-15) || skip "the server cannot be had"

# The sources come by a list of their own, from where this system's packages come: its lists stay as they are.
mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' | awk '$1 == "bookworm" { print $2; exit }')
[ -n "$mirror" ] || skip "it is not told where Debian's packages come from"
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$work/sources.list"
apart=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists"
  -o "Dir::Cache=$work/cache")
apt-get "${apart[@]}" update -qq || skip "the next Debian's list cannot be had"
(cd "$work" && apt-get "${apart[@]}" source -qq --download-only "pgvector=$version-1") || skip "pgvector cannot be had"

for package in "$work"/*.deb; do dpkg -x "$package" "$work/unpacked"; done
mkdir "$work/pgvector" && tar -xzf "$work"/pgvector_*.orig.tar.gz -C "$work/pgvector" --strip-components 1
headers=$work/unpacked/usr/include/postgresql
gcc -shared -fPIC -O2 -ftree-vectorize -D_GNU_SOURCE -I"$headers/15/server" -I"$headers/internal" \
  "$work"/pgvector/src/*.c -o "$work/vector.so" -lm

# As they lie in Debian, so that the programs find their files from where they are.
rm -rf "$target" && mkdir -p "$target/lib/postgresql" "$target/share/postgresql" "$target/bin"
cp -a "$work/unpacked/usr/lib/postgresql/15" "$target/lib/postgresql/"
cp -a "$work/unpacked/usr/share/postgresql/15" "$target/share/postgresql/"
install -m 644 "$work/vector.so" "$target/lib/postgresql/15/lib/"
cp "$work/pgvector/vector.control" "$work"/pgvector/sql/vector--*--*.sql "$target/share/postgresql/15/extension/"
cp "$work/pgvector/sql/vector.sql" "$target/share/postgresql/15/extension/vector--$version.sql"
for program in postgres initdb; do ln -s "../lib/postgresql/15/bin/$program" "$target/bin/$program"; done
chmod -R a+rX "$target"
"$target/bin/postgres" --version >/dev/null
echo "$version" >"$target/.installed"
