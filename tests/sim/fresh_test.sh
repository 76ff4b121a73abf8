#!/usr/bin/env bash
# As many fresh seeds as fit in two minutes (SIM_SECONDS: in another time). What fails prints the
# command that replays it.
set -euo pipefail
first=$(od -An -N6 -tu8 /dev/urandom | tr -d ' ')
"$DST_BUILD/dst-sim" --scenario all --seeds "$first..$((first + 1000000))" --seconds "${SIM_SECONDS:-120}"
