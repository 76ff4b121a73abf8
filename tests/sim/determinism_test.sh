#!/usr/bin/env bash
# The same seed gives the same trace, byte for byte: twice, and in another kind of build (with
# sanitizers and other optimizations; ./test builds it).
set -euo pipefail
other=$DST_BUILD/asan/dst-sim
if [ ! -x "$other" ]; then
    echo "needs a second build: tools/build asan dst-sim"
    exit 1
fi

compared=0
for words in "--seed 1" "--seed 2" "--seed 3" "--scenario default --seed 11" "--scenario stacked --seed 5" \
    "--scenario local-disks --seed 7" "--scenario plain-clients --seed 9" "--scenario commands --seed 3" \
    "--scenario mirror3 --seed 4" "--scenario two_heads --seed 4"; do
    # The last lines tell how long it took.
    read -r -a options <<<"$words"
    first=$("$DST_BUILD/dst-sim" "${options[@]}" --trace | grep -v "runs a minute" | sha256sum)
    again=$("$DST_BUILD/dst-sim" "${options[@]}" --trace | grep -v "runs a minute" | sha256sum)
    there=$("$other" "${options[@]}" --trace | grep -v "runs a minute" | sha256sum)
    if [ "$first" != "$again" ] || [ "$first" != "$there" ]; then
        echo "dst-sim $words --trace: $first, again $again, with sanitizers $there"
        exit 1
    fi
    compared=$((compared + 1))
done
echo "$compared traces are the same in every build"
