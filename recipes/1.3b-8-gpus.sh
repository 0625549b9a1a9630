#!/usr/bin/env bash
# 1.3B parameters on eight GPUs of one machine: 30 billion tokens in two phases. The second (anneal), while the learning
# rate falls, reads the best sources more often. Benchmarks are asked while it trains.
#
# What comes out is a base model. Needs: eight GPUs with 80 GB, 700 GB of disk that all machines see, the network,
# pip install 'mamba-slm[data,eval,gguf,hf,scale]'. Curation runs here, on Ray or on Slurm; training here or on Slurm.
# No GPU has run it yet; every command of it runs on a CPU in the tests, with SIZE=nano GPUS=2 STEPS=4 and small data.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

GPU=${GPU:-H100 80GB}            # for the plan
GPUS=${GPUS:-8}
PRICE=${PRICE:-2.60}             # dollars per GPU and hour: yours
SIZE=${SIZE:-1.3B}
TOKENS=${TOKENS:-30B}
CONTEXT=${CONTEXT:-4096}         # tokens of a row
ANNEAL_FROM=${ANNEAL_FROM:-27B}  # where the mixture changes; decay_share in 1.3b-8-gpus.yaml is the rest
STEPS=${STEPS:-}                 # stop after so many steps instead, to try the script
VOCABULARY=${VOCABULARY:-65536}  # the most that two bytes per token hold
# source           kind   share  in the anneal  tokens to download: curation drops some of them
SOURCES=${SOURCES:-"
fineweb-edu        web    0.72   0.40           30B
stackexchange      docs   0.10   0.25           5B
arxiv              docs   0.08   0.05           4B
wikipedia          docs   0.06   0.25           3500M
gutenberg          books  0.04   0.05           2500M
"}
MORE_SOURCES=${MORE_SOURCES:-}   # a YAML file with sources of your own: docs/guides/data.md
HELD_OUT=${HELD_OUT:-0.001}       # share of the documents that is measured on and never trained on
DROP=${DROP:-10%}                # the worst of each kind to drop
ENGINE=${ENGINE:-local}          # of curation and tokens: local, ray (RAY_ADDRESS) or slurm
WORKERS=${WORKERS:-$(nproc)}     # of these, each with one core and 4 GB
LAUNCHER=${LAUNCHER:-local}      # of training: local or slurm
BENCHMARKS=${BENCHMARKS:-hellaswag,arc_easy,piqa}
QUESTIONS=${QUESTIONS:-}         # folder with copies of their questions; otherwise they are downloaded
LIMIT=${LIMIT:-}                 # ask only so many of each
OUT=${OUT:-1.3b}

. "$here/steps.sh"
sources() { grep -v '^ *$' <<< "$SOURCES"; }

say "plan: $SIZE on $GPUS x $GPU, $TOKENS tokens"
plan mamba-slm models estimate "$SIZE" --gpus "$GPUS" --gpu "$GPU" --price "$PRICE" --tokens "$TOKENS" \
  --vocab-size "$VOCABULARY" --engine fsdp --sharding grad_optimizer --micro-batch-rows 1 --no-gradient-checkpointing

# 1. The data, part by part on as many workers as there are. A worker that dies costs its part, not the run.
while read -r name kind share anneal tokens; do
  step "download $name" "$OUT/raw/$name/download.manifest" \
    mamba-slm data download "$name" --tokens "$tokens" ${MORE_SOURCES:+--sources "$MORE_SOURCES"} --out "$OUT/raw/$name"
  step "curate $name" "$OUT/clean/$name/curation.json" \
    mamba-slm data curate "$kind=$OUT/raw/$name" --drop-share "$DROP" --on-error skip --engine "$ENGINE" \
    --workers "$WORKERS" ${QUESTIONS:+--decontaminate "$QUESTIONS"} --out "$OUT/clean/$name"
done < <(sources)
cleaned=()
while read -r name kind share anneal tokens; do cleaned+=("$OUT/clean/$name"); done < <(sources)
step "make a vocabulary" "$OUT/tokenizer/tokenizer.json" \
  mamba-slm data train-tokenizer "${cleaned[@]}" --pattern 'part-00000.*' --vocab-size "$VOCABULARY" \
  --out "$OUT/tokenizer"

# 2. The mixture, and how it changes for the anneal.
shares=() change=
while read -r name kind share anneal tokens; do
  step "tokens of $name" "$OUT/tokens/$name/tokenizer.json" \
    mamba-slm data tokenize "$OUT/clean/$name" --tokenizer "$OUT/tokenizer" --validation-share "$HELD_OUT" \
    --engine "$ENGINE" --workers "$WORKERS" --out "$OUT/tokens/$name"
  shares+=("$name=$OUT/tokens/$name:$share")
  change+=,$name=$anneal
done < <(sources)
step "mix the sources" "$OUT/mixture.yaml" \
  mamba-slm data mix "${shares[@]}" --change "$ANNEAL_FROM:${change#,}" --tokens "$TOKENS" --context-tokens "$CONTEXT" \
  --out "$OUT/mixture.yaml"

# 3. Before it costs money: do the processes of this machine add up right, and how fast?
examine() { mamba-slm doctor --distributed --nproc "$GPUS" --folder "$OUT" --json > "$OUT/doctor.unfinished" &&
  mv "$OUT/doctor.unfinished" "$OUT/doctor.json"; }
[ "$LAUNCHER" = slurm ] || step "examine the machine" "$OUT/doctor.json" examine

# 4. Training, on this machine's GPUs or as a job. A job: run this script again when it is done.
length=(--max-tokens "$TOKENS")
[ -z "$STEPS" ] || length=(--max-steps "$STEPS")
where=(--nproc "$GPUS")
GPU_FLAGS=(--gpu "$GPU" --price "$PRICE")
if [ "$LAUNCHER" = slurm ]; then
  where=(--launcher slurm --slurm.nodes 1 --slurm.gpus-per-node "$GPUS" --slurm.time-limit 48:00:00)
  GPU_FLAGS=()  # a dry run shows the script for sbatch
fi
run_step "train" "$OUT/base" "$OUT/base/model" \
  mamba-slm train "$SIZE" --config "$here/1.3b-8-gpus.yaml" --data "$OUT/mixture.yaml" --vocab-size "$VOCABULARY" \
  "${length[@]}" "${where[@]}" --benchmarks "$BENCHMARKS" ${QUESTIONS:+--benchmark-data-dir "$QUESTIONS"} \
  ${LIMIT:+--benchmark-limit "$LIMIT"} --out "$OUT/base"
if [ -z "$DRY_RUN" ] && [ ! -e "$OUT/base/model" ]; then
  say "the job trains: mamba-slm runs show $OUT/base; run this script again when it is done"
  exit 0
fi

# 5. All questions at the end, and what others need to run it.
step "ask benchmarks" "$OUT/scores/results.json" \
  mamba-slm eval "$OUT/base" --benchmarks "$BENCHMARKS" ${QUESTIONS:+--data-dir "$QUESTIONS"} \
  ${LIMIT:+--limit "$LIMIT"} --out "$OUT/scores"
step "export for transformers" "$OUT/hf" \
  mamba-slm export hf "$OUT/base" --dtype bfloat16 --out "$OUT/hf"
step "export for llama.cpp" "$OUT/model-q8.gguf" \
  mamba-slm export gguf "$OUT/base" --type Q8_0 --out "$OUT/model-q8.gguf"

say "let it write: mamba-slm generate $OUT/base \"The history of tea begins\""
