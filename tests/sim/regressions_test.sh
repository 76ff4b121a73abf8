#!/usr/bin/env bash
# What has ever been found, and a fixed set of seeds of everything.
set -euo pipefail
"$DST_BUILD/dst-sim" --regressions "$DST_SOURCE/sim/regressions"
"$DST_BUILD/dst-sim" --scenario all --seeds 1..25
"$DST_BUILD/dst-sim" --seeds 1..800
