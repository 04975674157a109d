#!/usr/bin/env bash
# Build the sdist, and the wheel from it; install the wheel into a clean environment outside the checkout; use it there.
# PYTHON names the interpreter, WHEEL a wheel that is there already.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/env"
bin=$work/env/bin
if [ -z "${WHEEL:-}" ]; then
	"$bin/pip" install --quiet build
	"$bin/python" -m build --outdir "$work/dist" . > "$work/build.log" || { cat "$work/build.log"; exit 1; }
	WHEEL=$(ls "$work"/dist/*.whl)
fi
size=$(stat -c %s "$WHEEL")
[ "$size" -lt 30000000 ] || { echo "the wheel has $size bytes; 30 MB are the most"; exit 1; }
"$bin/pip" install --quiet --constraint "${CONSTRAINTS:-.ci/constraints.txt}" "$WHEEL"
"$bin/pip" check
export STOPCLI_HOME=$work/home HF_HUB_OFFLINE=1
cd "$work"
"$bin/stop" --version
"$bin/python" -c "import stopcli; assert not stopcli.__file__.startswith('$root'), stopcli.__file__"
"$bin/stop" samples samples --quiet
"$bin/stop" classify --model mini --top-k 1 --quiet samples
"$bin/stop" retrieve --model mini --quiet --top-k 1 "a dog moving left" samples | grep -q a-dog-moving-left
"$bin/stop" embed --model mini --quiet samples -o v.npz > /dev/null
printf 'path,label\n' > t.csv
for f in samples/*.mp4; do printf '%s,%s\n' "$f" "$(case $f in *moving*) echo moving ;; *) echo other ;; esac)"; done >> t.csv
"$bin/stop" finetune t.csv --model mini --epochs 0 -o tuned --quiet > /dev/null
"$bin/stop" classify --model tuned --quiet samples/a-dog-moving-left.mp4 | grep -q moving
echo "$(basename "$WHEEL"), $((size / 1000)) kB: built, installed, and used with $("$python" --version)"
