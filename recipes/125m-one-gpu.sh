#!/usr/bin/env bash
# 125M parameters on one consumer GPU in a day: 5 billion tokens of public text, measured and exported.
#
# What comes out is a base model: it goes on with a text in English, and does not answer questions (finetune does that).
# Needs: one GPU with 24 GB, 100 GB of disk, the network, pip install 'mamba-slm[data,eval,gguf,hf]'.
# No GPU has run it yet; every command of it runs on a CPU in the tests, with SIZE=nano STEPS=4 and small data.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

GPU=${GPU:-RTX 4090}             # for the plan: mamba-slm models estimate --help names those that it knows
PRICE=${PRICE:-0.40}             # dollars per hour: yours
SIZE=${SIZE:-125M}
TOKENS=${TOKENS:-5B}             # 42 for each parameter; the plan says how long that takes
STEPS=${STEPS:-}                 # stop after so many steps instead, to try the script
VOCABULARY=${VOCABULARY:-32000}
# source           kind   share  tokens to download: curation drops some of them
SOURCES=${SOURCES:-"
fineweb-edu-10b    web    0.80   5B
wikipedia          docs   0.15   1B
gutenberg          books  0.05   400M
"}
MORE_SOURCES=${MORE_SOURCES:-}   # a YAML file with sources of your own: docs/guides/data.md
HELD_OUT=${HELD_OUT:-0.005}       # share of the documents that is measured on and never trained on
DROP=${DROP:-10%}                # the worst of each kind to drop; these sources are clean already
BENCHMARKS=${BENCHMARKS:-hellaswag,arc_easy,piqa,winogrande}
QUESTIONS=${QUESTIONS:-}         # folder with copies of their questions; otherwise they are downloaded
LIMIT=${LIMIT:-}                 # ask only so many of each
OUT=${OUT:-125m}

. "$here/steps.sh"
sources() { grep -v '^ *$' <<< "$SOURCES"; }

say "plan: $SIZE on one $GPU, $TOKENS tokens; downloads and licences below"
plan mamba-slm models estimate "$SIZE" --gpu "$GPU" --price "$PRICE" --tokens "$TOKENS" --vocab-size "$VOCABULARY" \
  --micro-batch-rows 4

# 1. For each source: as few files as the tokens need; then what is worth reading of them, without the questions of
#    the benchmarks where QUESTIONS is given.
while read -r name kind share tokens; do
  step "download $name" "$OUT/raw/$name/download.manifest" \
    mamba-slm data download "$name" --tokens "$tokens" ${MORE_SOURCES:+--sources "$MORE_SOURCES"} --out "$OUT/raw/$name"
  step "curate $name" "$OUT/clean/$name/curation.json" \
    mamba-slm data curate "$kind=$OUT/raw/$name" --drop-share "$DROP" --on-error skip \
    ${QUESTIONS:+--decontaminate "$QUESTIONS"} --out "$OUT/clean/$name"
done < <(sources)

# 2. A vocabulary, from the first part of each source: more text changes it little, and takes memory.
cleaned=()
while read -r name kind share tokens; do cleaned+=("$OUT/clean/$name"); done < <(sources)
step "make a vocabulary" "$OUT/tokenizer/tokenizer.json" \
  mamba-slm data train-tokenizer "${cleaned[@]}" --pattern 'part-00000.*' --vocab-size "$VOCABULARY" \
  --out "$OUT/tokenizer"

# 3. Tokens of each source, and the mixture: which share of the training each of them gets.
shares=()
while read -r name kind share tokens; do
  step "tokens of $name" "$OUT/tokens/$name/tokenizer.json" \
    mamba-slm data tokenize "$OUT/clean/$name" --tokenizer "$OUT/tokenizer" --validation-share "$HELD_OUT" \
    --out "$OUT/tokens/$name"
  shares+=("$name=$OUT/tokens/$name:$share")
done < <(sources)
step "mix the sources" "$OUT/mixture.yaml" \
  mamba-slm data mix "${shares[@]}" --tokens "$TOKENS" --context-tokens 2048 --out "$OUT/mixture.yaml"

# 4. Training. What differs from the settings of the size stands in 125m-one-gpu.yaml.
length=(--max-tokens "$TOKENS")
[ -z "$STEPS" ] || length=(--max-steps "$STEPS")
GPU_FLAGS=(--gpu "$GPU" --price "$PRICE")
run_step "train" "$OUT/base" "$OUT/base/model" \
  mamba-slm train "$SIZE" --config "$here/125m-one-gpu.yaml" --data "$OUT/mixture.yaml" --vocab-size "$VOCABULARY" \
  "${length[@]}" --out "$OUT/base"

# 5. What it knows: text that was held out of each source, and benchmarks.
texts=()
while read -r name kind share tokens; do texts+=(--perplexity "$OUT/tokens/$name/validation"); done < <(sources)
step "measure it on held-out text" "$OUT/perplexity/perplexity.json" \
  mamba-slm eval "$OUT/base" "${texts[@]}" --out "$OUT/perplexity"
step "ask benchmarks" "$OUT/scores/results.json" \
  mamba-slm eval "$OUT/base" --benchmarks "$BENCHMARKS" ${QUESTIONS:+--data-dir "$QUESTIONS"} \
  ${LIMIT:+--limit "$LIMIT"} --out "$OUT/scores"

# 6. For transformers and vLLM, and for llama.cpp, Ollama and LM Studio.
step "export for transformers" "$OUT/hf" \
  mamba-slm export hf "$OUT/base" --dtype bfloat16 --out "$OUT/hf"
step "export for llama.cpp" "$OUT/model-q8.gguf" \
  mamba-slm export gguf "$OUT/base" --type Q8_0 --out "$OUT/model-q8.gguf"

say "let it write: mamba-slm generate $OUT/base \"The history of tea begins\""
