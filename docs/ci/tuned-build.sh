#!/usr/bin/env bash
# Compiles a model with kernels that a tuning log knows, reports what that costs beside the last commit, and fails when it
# costs more than was accepted. `docs/ci.md` of tvm_tinyml explains it.
#
#   tuned-build.sh MODEL OUT OPTION...    options of `tvm-tinyml compile`, such as --target, --memory and --tuning-log
#
# FIGURES     file of accepted figures, under version control; default: MODEL.bench.json
# BASE        commit to report against; default: HEAD, which suits work that is not committed yet
# FAIL_ABOVE  percent by which cycles, RAM or flash may be above the accepted figures; default: 1
#
# It exits like tvm-tinyml: 1 when outputs are wrong or figures grew, 2 when an operator has no record or input is bad.
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: $0 MODEL OUT OPTION..." >&2
    exit 2
fi
model=$1
out=$2
shift 2
figures=${FIGURES:-$model.bench.json}
base=${BASE:-HEAD}
accept="tvm-tinyml bench $out --json $figures"

report() { # to the output, and to the page of a job on GitHub
    tee -a "${GITHUB_STEP_SUMMARY:-/dev/null}"
}

tvm-tinyml compile "$model" -o "$out" "$@" --require-tuned --verify

if ! git rev-parse --quiet --verify "$base^{commit}" >/dev/null; then
    echo "There is no commit $base here to compare with: this is the first, or a checkout without history." | report
elif ! git cat-file -e "$base:./$figures" 2>/dev/null; then
    echo "There is no $figures at $base to compare with." | report
else
    git show "$base:./$figures" >"$out/before.json"
    if ! tvm-tinyml bench "$out" --against "$out/before.json" --markdown | report; then
        echo "The figures at $base cannot be compared; the log of this job says why." | report
    fi
fi

if [ ! -e "$figures" ]; then
    echo "No figures were accepted yet. To accept these, commit what this writes: $accept" | report
else
    tvm-tinyml bench "$out" --quiet --against "$figures" --fail-above "${FAIL_ABOVE:-1}" || {
        code=$?
        echo "If that is meant, commit what this writes: $accept" >&2
        exit "$code"
    }
fi
