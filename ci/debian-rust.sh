#!/usr/bin/env bash
# Unpacks a Rust toolchain of Debian's packages into a folder, beside the one in use, which it leaves alone.
#
#   ci/debian-rust.sh FOLDER VERSION [sources]
#
# VERSION: as in 1.85, or "newest". "sources": with those of the standard library, and the sanitizers of the toolchain in
# use. FOLDER/rustc is the last thing made; if it is there, nothing is done. Exits with 3, and says why, where this cannot be had.
set -euo pipefail
folder=$1 version=$2 with_sources=${3:-}
[ -x "$folder/rustc" ] && exit

fail() {
  echo "$1"
  exit 3
}

command -v apt-get dpkg-deb >/dev/null || fail 'this is no Debian'
apt-get -qq update || fail 'the package lists cannot be fetched'
if [ "$version" = newest ]; then
  package=$(apt-cache policy rustc-web | awk '/Candidate/ { print $2 }')
else
  package=$(apt-cache madison rustc-web | awk -v v="$version." 'index($3, v) == 1 { print $3; exit }')
fi
[ -n "$package" ] || fail "there is no package of Rust $version"
std=$(apt-cache depends "libstd-rust-web-dev=$package" | awk '$2 ~ /^libstd-rust-web-[0-9]/ { print $2; exit }')
llvm=$(apt-cache depends "$std=$package" | awk '$2 ~ /^libllvm/ { print $2; exit }')
wanted=("rustc-web=$package" "libstd-rust-web-dev=$package" "$std=$package" "$llvm")
[ -z "$with_sources" ] || wanted+=("rust-web-src=$package")
rm -rf "$folder"
mkdir -p "$folder/packages"
folder=$(realpath "$folder")
(cd "$folder/packages" && apt-get -qq -o APT::Sandbox::User=root download "${wanted[@]}") ||
  fail "the packages of Rust $version cannot be fetched"
for file in "$folder"/packages/*.deb; do dpkg-deb -x "$file" "$folder"; done
rm -r "$folder/packages"
if [ -n "$with_sources" ]; then
  for file in "$(rustc --print sysroot)"/lib/rustlib/x86_64-unknown-linux-gnu/lib/librustc-*_rt.*.a; do
    cp "$file" "$folder/usr/lib/rustlib/x86_64-unknown-linux-gnu/lib/librustc-stable_rt.${file##*_rt.}"
  done
fi
for tool in rustdoc rustc; do
  [ -x "$folder/usr/bin/$tool" ] || continue
  printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' \
    "$folder/usr/lib/$(uname -m)-linux-gnu" "$folder/usr/bin/$tool" >"$folder/$tool"
  chmod +x "$folder/$tool"
done
