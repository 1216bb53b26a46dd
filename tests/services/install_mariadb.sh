#!/usr/bin/env bash
# Installs a MariaDB server for the tests of MySQL sources; does nothing when it is there. No service is started: the
# tests start a server of their own on a socket in a temporary folder.
set -eu
if command -v mariadbd >/dev/null && command -v mariadb-install-db >/dev/null; then exit 0; fi
if ! command -v apt-get >/dev/null; then
  echo "the MySQL tests need mariadbd and mariadb-install-db on PATH; install them, then run make test-services again"
  exit 1
fi
sudo="" && [ "$(id -u)" = 0 ] || sudo="sudo"
echo "installing mariadb-server (once)"
was_there=$(pgrep -x mariadbd || true)
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends mariadb-server >/dev/null
# Where Debian starts it by itself, stop what was just started.
if [ -z "$was_there" ] && pgrep -x mariadbd >/dev/null; then $sudo service mariadb stop >/dev/null 2>&1 || true; fi
