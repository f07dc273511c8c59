#!/bin/sh
# Generates again and fails if that changes anything. It compares with what is in the work tree, not with the last
# commit, so that it also tells of generated files that are not committed yet, and of ones that nobody generated.
#
#   scripts/check-generated.sh PATH...
set -eu

before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT
for path in "$@"; do
  mkdir -p "$before/$(dirname "$path")"
  [ ! -e "$path" ] || cp -R "$path" "$before/$path"
done

"${MAKE:-make}" --no-print-directory generate

status=0
for path in "$@"; do
  diff -ru "$before/$path" "$path" >"$before/diff" 2>&1 && continue
  status=1
  head -n 60 "$before/diff" >&2
done
[ $status = 0 ] || echo "Generated files were out of step with their sources; now they are in step: review and commit them." >&2
exit $status
