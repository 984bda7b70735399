#!/bin/sh
# Generates src/bindings from ../wit. Needs: cargo install wit-bindgen-cli --version 0.61.1
set -eu
cd "$(dirname "$0")"
for world in features architecture; do
    wit-bindgen rust ../wit --world "$world" --out-dir src/bindings --format \
        --runtime-path crate::rt --bitflags-path crate::rt \
        --pub-export-macro --export-macro-name "export_$world" \
        --default-bindings-module "alphaplus_plugin::bindings::$world"
done
