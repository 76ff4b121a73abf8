#!/usr/bin/env bash
# Every gate that needs no run of the program: tools/check.sh [--fast]
# --fast leaves out clang-tidy, which takes minutes (and a build), and the model, which takes one.
# Says what failed and how to mend it; all gates run even if one fails.
set -euo pipefail
cd "$(dirname "$0")/.."

fast=false
case "${1:-}" in
    "") ;;
    --fast) fast=true ;;
    *)
        echo "usage: tools/check.sh [--fast]" >&2
        exit 2
        ;;
esac
tools/install-packages test

# files PATTERN...: ours that match, tracked or not yet.
files() {
    git ls-files -co --exclude-standard --deduplicate -z -- "$@" |
        while IFS= read -r -d '' name; do if [ -f "$name" ]; then printf '%s\0' "$name"; fi; done
}

failed=()
# gate NAME HOW_TO_MEND COMMAND...
gate() {
    local name=$1 mend=$2
    shift 2
    if ! "$@"; then
        echo "^ $name. $mend"
        echo
        failed+=("$name")
    fi
}

check_format() {
    local found
    found=$(files '*.cc' '*.h' | xargs -0 -r clang-format-19 --dry-run -Werror 2>&1) && return
    grep -E '\<[Ee]rror' <<<"$found"
    return 1
}

check_scripts() {
    local bad=0 name line python=()
    while IFS= read -r -d '' name; do
        IFS= read -r line <"$name" || true
        case "$line" in
            '#!'*python*) python+=("$name") ;;
            '#!'*sh) bash -n "$name" || bad=1 ;;
            *)
                if [[ $name = *.py ]]; then python+=("$name"); fi
                continue
                ;;
        esac
        if [ ! -x "$name" ]; then
            echo "$name: starts with #! and is not executable (chmod +x)"
            bad=1
        fi
    done < <(files . ':!*.cc' ':!*.h' ':!*.md')
    # Like py_compile, without its files.
    python3 -c 'import ast, sys; [ast.parse(open(f).read(), f) for f in sys.argv[1:]]' \
        "${python[@]}" || bad=1
    return $bad
}

check_machine_names() {
    # A path or a package mirror that exists on one machine only.
    local pattern='(^|[^[:alnum:]_./-])/(work|root)/|https?://[^ /]*(registry|artifactory|nexus|proxy)'
    local found
    found=$(files . | xargs -0 -r grep -nIE -- "$pattern" || true)
    if [ -n "$found" ]; then
        echo "$found"
        return 1
    fi
}

check_model() {
    local table
    table=$(docs/model/run --short 2>&1) && return
    echo "$table"
    return 1
}

check_tidy() { tools/build && tools/tidy.py; }

gate "layers" "The order is in tools/layers.py; move the code to where it belongs." tools/layers.py
gate "clang-format" "Mend with: clang-format-19 -i FILE" check_format
gate "scripts" "Mend the syntax or the mode." check_scripts
gate "machine names" "Use paths relative to the repository, or a temporary directory." check_machine_names
if ! $fast; then
    gate "model" "docs/model/README.md; 'docs/model/run NAME' prints the steps to a counterexample." check_model
    gate "clang-tidy" "Mend the code; NOLINT(name) with a reason where it is wrong." check_tidy
fi

if [ ${#failed[@]} -gt 0 ]; then
    echo "check.sh: failed: $(IFS=, && echo "${failed[*]}")"
    exit 1
fi
echo "check.sh: all gates passed"
