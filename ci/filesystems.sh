#!/usr/bin/env bash
# The log on real file systems that are small: filled until they are full by several threads, truncated without a free
# byte, filled again, its writer killed, unmounted and mounted again; where the file system can be cut off from its disk,
# that too, in place of a power cut. One line each. Says "skipped" where it cannot be done: it takes root and loop devices.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
  echo "skipped: $1"
  exit 0
}

if [ "${1:-}" != mounting ]; then
  [ "$(uname -s)" = Linux ] || skip 'this is no Linux'
  [ "$(id -u)" = 0 ] || skip 'only root may mount'
  unshare -m true 2>/dev/null || skip 'no mounts of its own'
  losetup --find >/dev/null 2>&1 || skip 'there are no loop devices'
  if ! { command -v mkfs.xfs && command -v mkfs.btrfs; } >/dev/null && command -v apt-get >/dev/null; then
    { apt-get -qq update && apt-get -qq install --no-install-recommends xfsprogs btrfs-progs; } >/dev/null 2>&1 || true
  fi
  cargo test --locked --quiet --release --test filesystems --no-run
  exec unshare -m ci/filesystems.sh mounting # what is mounted there is gone with it, whatever happens
fi

work=$(mktemp -d)
mkdir "$work/mount" "$work/notes"
clean() {
  umount "$work/mount" 2>/dev/null || true
  rm -rf "$work"
}
trap clean EXIT
export MAPWAL_MOUNT=$work/mount MAPWAL_NOTES=$work/notes

# TEST: one step, whose counts go to the line of the file system
step() {
  timeout 600 cargo test --locked --quiet --release --test filesystems -- --exact --nocapture "$1" \
    >"$work/output" 2>&1 || {
    cat "$work/output"
    echo "FAILED: $kind: $1"
    exit 1
  }
  counts+=$(sed -n 's/.*counts: /, /p' "$work/output")
}

mount_it() {
  mount -o loop "$work/image" "$work/mount"
}

remount() {
  [ "$kind" = tmpfs ] && return # it would be gone
  umount "$work/mount"
  mount_it
}

# KIND MEGABYTES [MKFS...]
try() {
  kind=$1 counts=
  local megabytes=$2
  shift 2
  if [ "$kind" = tmpfs ]; then
    mount -t tmpfs -o "size=${megabytes}M" tmpfs "$work/mount"
  elif ! command -v "$1" >/dev/null; then
    echo "$kind: skipped: there is no $1"
    return
  else
    truncate -s "${megabytes}M" "$work/image"
    "$@" "$work/image" >"$work/output" 2>&1 || {
      cat "$work/output"
      exit 1
    }
    if ! mount_it 2>"$work/output"; then
      echo "$kind: skipped: $(cat "$work/output")"
      return
    fi
  fi
  step a_full_disk_takes_records_again_and_its_writer_is_killed
  remount
  step what_was_acknowledged_is_there_and_the_log_goes_on
  remount
  step a_closed_log_is_there_whole
  step a_full_disk_takes_records_again_and_its_writer_is_killed # and opened while it is full
  step what_was_acknowledged_is_there
  if [ "$kind" = ext4 ] || [ "$kind" = xfs ] && command -v xfs_io >/dev/null; then
    step a_full_disk_takes_records_again_and_its_writer_is_killed
    xfs_io -x -c shutdown "$work/mount" # nothing reaches the disk any more
    remount
    MAPWAL_CUT=1 step what_was_acknowledged_is_there
    counts+=' after a cut'
  fi
  umount "$work/mount"
  rm -f "$work/image" "$work/notes"/*
  echo "$kind, $megabytes MiB$counts"
}

try ext4 64 mkfs.ext4 -q
try xfs 300 mkfs.xfs -q
# On a full btrfs a store that crosses from one page to the next may never end (seen with Linux 6.18): for either page the
# kernel looks for room first, and to find some it writes the other back, which then is to be made writable again. So
# there the log has a limit, and leaves room.
MAPWAL_LIMIT=24 try btrfs 128 mkfs.btrfs -q
try tmpfs 64
