#!/bin/sh
# Make mini from nothing, from the root of the checkout: sh training/mini/make.sh OUT [--toy]
# OUT/mini is the folder that ships, OUT/samples the clips. Three hours on two CPU cores and a few gigabytes;
# --toy takes every step of it in a few minutes and makes a useless model. A round that is done is not run again.
set -eu
out=$1
python=${PYTHON:-python}
clips="" toy="" count=500
if [ "${2:-}" = --toy ]; then
    clips="--train 300 --stills 300 --varied 300 --test 20" toy="--steps 3 --batch 8" count=20
fi

round() { # NAME MODULE ARGUMENT...: OUT/NAME appears when the module has written all of it
    name=$1 module=$2
    shift 2
    if [ -e "$out/$name" ]; then return; fi
    rm -rf "$out/$name.part"
    echo "== $name"
    "$python" -m "training.mini.$module" "$@" -o "$out/$name.part"
    mv "$out/$name.part" "$out/$name"
}
backbone() { # NUMBER OPTION...
    number=$1
    shift
    round "backbone-$number" pretrain "$out/data" "$@" $toy
}
prompts() { # NUMBER BACKBONE OPTION...
    number=$1 on=$out/backbone-$2
    shift 2
    round "prompts-$number" train_prompts "$out/data" "$on" "$@" $toy
}

"$python" -m training.world.files "$out/data" $clips
"$python" -m training.mini.cache "$out/data"
backbone 1
backbone 2 --init "$out/backbone-1/pretrained.safetensors" --seed 1 --steps 1000 --lr 7e-4
backbone 3 --init "$out/backbone-2/pretrained.safetensors" --seed 2 --steps 300 --lr 5e-4 --turns 0.35
backbone 4 --init "$out/backbone-3/pretrained.safetensors" --seed 3 --steps 1300 --lr 7e-4 \
    --turns 0.2 --turned 0.35 --words --set train
backbone 5 --init "$out/backbone-4/backbone.safetensors" --seed 4 --steps 900 --lr 5e-4 \
    --turns 0.2 --turned 0.35 --words --set varied
prompts 1 5 --set varied --steps 2000
mkdir -p "$out/unmeasured"
round unmeasured/mini finish "$out/backbone-5" "$out/prompts-1"
round scores.json evaluate --model "$out/unmeasured/mini" --data "$out/data" --count "$count"
round mini finish "$out/backbone-5" "$out/prompts-1" --scores "$out/scores.json"
"$python" -m training.world.samples "$out/samples"

mkdir -p "$out/logs" # what training/mini/logs holds
for i in 1 2 3 4 5; do sed "s/^{/{\"round\": $i, /" "$out/backbone-$i/log.jsonl"; done > "$out/logs/pretrain.jsonl"
cp "$out/prompts-1/log.jsonl" "$out/logs/prompts.jsonl"
