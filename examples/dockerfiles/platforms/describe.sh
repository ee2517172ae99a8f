#!/bin/sh
cat <<TEXT
platform=$TARGETPLATFORM
os=$TARGETOS
architecture=$TARGETARCH
variant=$TARGETVARIANT
TEXT
