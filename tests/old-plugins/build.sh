#!/usr/bin/env bash
# Builds the plugins that are kept for ever, one folder a version of the plugin ABI, from the examples as they are now. To be run
# once, when a version is released; what lies there already is not built again.
set -euo pipefail
cd "$(dirname "$0")/../.."

number() { sed -n "s/^#define QUIRE_PAGER_ABI_$1 //p" include/quire_pager.h; }
version="$(number MAJOR).$(number MINOR)"
out=tests/old-plugins/$version
if [ -e "$out" ]; then
    echo "$out is there already: the plugins of a released version are never built again" >&2
    exit 1
fi
mkdir -p "$out"

shared=(-shared -fPIC -O2 -s -Iinclude)
gcc -std=c99 "${shared[@]}" examples/pagers/file_pager.c -o "$out/file.so"
gcc -std=c99 "${shared[@]}" examples/drivers/framebuffer.c -o "$out/framebuffer.so"
g++ -std=c++11 "${shared[@]}" examples/pagers/cpp_pager.cpp -o "$out/cpp.so"
g++ -std=c++11 "${shared[@]}" -D_GNU_SOURCE examples/drivers/ring.cpp -o "$out/ring.so"
# No path of the machine that builds them is to stay in them.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/old-plugins
RUSTFLAGS="--remap-path-prefix=$HOME=/home/builder --remap-path-prefix=$PWD=/quire" \
    cargo build --quiet --release -p quire-example-ram-pager -p quire-example-snapshot
target=$CARGO_TARGET_DIR/release
for rust in ram snapshot; do
    strip -o "$out/$rust.so" "$target/libquire_pager_$rust.so"
done
# What the snapshot driver is to show: 20 pages of counting bytes, two pages a block.
python3 -c 'import sys; sys.stdout.buffer.write(bytes((i ^ i >> 12) & 255 for i in range(20 * 4096)))' >"$out/image.raw"
"$target/quire-snapshot" "$out/image.raw" "$out/image" 8192
rm "$out/image.raw"
chmod 644 "$out"/*
ls -l "$out"
