#!/usr/bin/env bash
# Installs headless Chromium and its driver, which the tests of tests/browser need; does nothing when they are there.
set -eu
if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then exit 0; fi
if ! command -v apt-get >/dev/null; then
  echo "the browser tests need chromium and chromedriver on PATH; install them, then run make test-services again"
  exit 1
fi
sudo="" && [ "$(id -u)" = 0 ] || sudo="sudo"
echo "installing chromium and chromium-driver (once)"
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends chromium chromium-driver fonts-dejavu-core >/dev/null
