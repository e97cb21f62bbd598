#!/bin/sh
# Runs a program of .mobile/debian in there: its libraries are newer than this machine's.
root=$(dirname "$0")/../../.mobile/debian
exec unshare --map-root-user --mount sh -c 'mount --rbind /proc "$0/proc" && exec chroot "$0" "$@"' "$root" "$@"
