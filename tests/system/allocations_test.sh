#!/usr/bin/env bash
# No request allocates heap memory in steady state: counted, not believed.
set -euo pipefail
exec "$DST_BUILD/allocation_count"
