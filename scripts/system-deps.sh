#!/bin/sh
# Installs the programs that a make target needs and the system lacks: as root on Debian or Ubuntu, and only what is
# missing. Elsewhere it names what is missing and how to get it, and fails.
#
#   scripts/system-deps.sh chromium fonts redis postgres
set -eu

found() {
  case $1 in
  chromium)
    [ -n "${CHROMIUM:-}" ] && return
    for program in /usr/bin/chromium /usr/bin/chromium-browser /usr/bin/google-chrome \
      /Applications/Chromium.app/Contents/MacOS/Chromium "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"; do
      [ -x "$program" ] && return
    done
    return 1
    ;;
  # Only Linux needs them: a bare system has none, and Chromium then draws empty boxes.
  fonts) [ "$(uname)" != Linux ] || ls /usr/share/fonts/*/liberation* >/dev/null 2>&1 || ls /usr/share/fonts/liberation* >/dev/null 2>&1 ;;
  redis) [ -n "${REDIS_URL:-}" ] || command -v redis-server >/dev/null ;;
  # With its programs: what is found in node_modules has no pg_dump.
  postgres) command -v pg_dump >/dev/null && { ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null; } ;;
  *)
    echo "system-deps: unknown program $1" >&2
    exit 2
    ;;
  esac
}

missing=
packages=
for name in "$@"; do
  found "$name" && continue
  missing="$missing $name"
  case $name in
  chromium) packages="$packages chromium" ;;
  fonts) packages="$packages fonts-liberation" ;;
  redis) packages="$packages redis-server" ;;
  postgres) packages="$packages postgresql" ;;
  esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing$packages"
  log=$(mktemp)
  # RUNLEVEL keeps Debian from starting a Redis server that nobody asked for.
  # shellcheck disable=SC2086 # a list of names
  if apt-get update >"$log" 2>&1 &&
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages >>"$log" 2>&1; then
    rm "$log"
    exit 0
  fi
  tail -n 30 "$log" >&2
  rm "$log"
  exit 1
fi

echo "Missing:$missing. Get it with one of" >&2
echo "  Debian, Ubuntu:  sudo apt-get install$packages" >&2
echo "  Fedora:          sudo dnf install$(echo "$packages" | sed 's/fonts-liberation/liberation-fonts/; s/redis-server/redis/; s/postgresql/postgresql-server/')" >&2
echo "  macOS:           brew install$(echo "$packages" | sed 's/ chromium/ --cask chromium/; s/redis-server/redis/; s/ fonts-liberation//')" >&2
case $missing in *chromium*) echo "or name another Chromium or Chrome in CHROMIUM" >&2 ;; esac
case $missing in *redis*) echo "or name a running Redis in REDIS_URL" >&2 ;; esac
exit 1
