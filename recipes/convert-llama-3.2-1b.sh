#!/usr/bin/env bash
# Llama 3.2 1B becomes a hybrid: ten of its sixteen attention layers become Mamba-2, and learn from the Llama what they
# are to do. Measured beside the Llama, exported for transformers and llama.cpp.
#
# What comes out is a base model whose memory for a conversation hardly grows with its length. Needs: one GPU with 80 GB
# for most of a day, 50 GB of disk, an account that accepted the Llama 3.2 Community Licence (its terms hold for the
# hybrid, too: "Built with Llama"), HF_TOKEN, pip install 'mamba-slm[data,eval,gguf,hf]'.
# Neither a GPU nor this Llama was there when this was written; every command runs on a CPU in the tests, with a Llama
# of a few hundred thousand parameters, STEPS=4 and small data.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

GPU=${GPU:-H100 80GB}            # for the plan
PRICE=${PRICE:-2.60}             # dollars per hour: yours
LLAMA=${LLAMA:-llama-3.2-1b}     # its folder; it is downloaded where there is none
HUB=${HUB:-meta-llama/Llama-3.2-1B}
TOKENS=${TOKENS:-1B}             # to learn from; published conversions used 2 to 20 billion
STEPS=${STEPS:-}                 # stop after so many steps instead, to try the script
CONTEXT=${CONTEXT:-2048}         # tokens of a row
BATCH=${BATCH:-512Ki}            # tokens of a step
SOURCE=${SOURCE:-fineweb-edu-10b}
SOURCE_TOKENS=${SOURCE_TOKENS:-1300M}  # to download: curation drops some of them
HELD_OUT=${HELD_OUT:-0.005}       # share of the documents that is measured on and never trained on
MORE_SOURCES=${MORE_SOURCES:-}   # a YAML file with sources of your own: docs/guides/data.md
BENCHMARKS=${BENCHMARKS:-hellaswag,arc_easy,piqa,winogrande}
QUESTIONS=${QUESTIONS:-}         # folder with copies of their questions; otherwise they are downloaded
LIMIT=${LIMIT:-}                 # ask only so many of each
OUT=${OUT:-llama-hybrid}

. "$here/steps.sh"

shape=$LLAMA
[ -e "$LLAMA/config.json" ] || shape=$here/llama-3.2-1b  # its sizes alone, for the plan
GPU_FLAGS=(--gpu "$GPU" --price "$PRICE")
learning=(--context-tokens "$CONTEXT" --batch-tokens "$BATCH" --micro-batch-rows 2 --learning-rate 1e-4
  --precision bf16)
say "plan: $HUB on one $GPU, $TOKENS tokens"
plan mamba-slm convert "$shape" --keep-attention 0.35 --rotation plain --max-tokens "$TOKENS" "${learning[@]}" \
  --dry-run "${GPU_FLAGS[@]}"

# 1. The Llama: config.json, safetensors and tokenizer.
step "download the Llama" "$LLAMA/config.json" \
  hf download "$HUB" --local-dir "$LLAMA" --exclude 'original/*'

# 2. Text of the kind that it knows, in its own tokens.
step "download text" "$OUT/raw/download.manifest" \
  mamba-slm data download "$SOURCE" --tokens "$SOURCE_TOKENS" ${MORE_SOURCES:+--sources "$MORE_SOURCES"} \
  --out "$OUT/raw"
step "curate it" "$OUT/clean/curation.json" \
  mamba-slm data curate "web=$OUT/raw" --drop-share 10% --on-error skip ${QUESTIONS:+--decontaminate "$QUESTIONS"} \
  --out "$OUT/clean"
step "make tokens" "$OUT/tokens/tokenizer.json" \
  mamba-slm data tokenize "$OUT/clean" --tokenizer "$LLAMA" --validation-share "$HELD_OUT" --out "$OUT/tokens"

# 3. The hybrid. First each new layer learns what the attention did that it replaces, then all weights learn the next
#    tokens, half as the Llama expects them. --rotation plain: what stays of the attention gives up Llama 3's stretched
#    positions, which no GGUF of a hybrid can hold; leave it out if you want transformers and vLLM only.
length=(--max-tokens "$TOKENS")
[ -z "$STEPS" ] || length=(--max-steps "$STEPS")
run_step "convert, and learn" "$OUT/hybrid" "$OUT/hybrid/model" \
  mamba-slm convert "$LLAMA" --keep-attention 0.35 --rotation plain --distill "$OUT/tokens" "${length[@]}" \
  "${learning[@]}" --out "$OUT/hybrid"

# 4. Beside the Llama, which is read by the same program with all of its attention.
step "read the Llama as it is" "$OUT/llama" \
  mamba-slm convert "$LLAMA" --keep-attention 1 --out "$OUT/llama"
for model in llama hybrid; do
  step "measure the $model on held-out text" "$OUT/$model-perplexity/perplexity.json" \
    mamba-slm eval "$OUT/$model" --perplexity "$OUT/tokens/validation" --window "$CONTEXT" \
    --out "$OUT/$model-perplexity"
  step "ask the $model benchmarks" "$OUT/$model-scores/results.json" \
    mamba-slm eval "$OUT/$model" --benchmarks "$BENCHMARKS" ${QUESTIONS:+--data-dir "$QUESTIONS"} \
    ${LIMIT:+--limit "$LIMIT"} --out "$OUT/$model-scores"
done
step "compare them" "$OUT/comparison.html" \
  mamba-slm eval compare "$OUT/llama-scores" "$OUT/hybrid-scores" --html "$OUT/comparison.html"

# 5. For transformers and vLLM, and for llama.cpp, Ollama and LM Studio.
step "export for transformers" "$OUT/hf" \
  mamba-slm export hf "$OUT/hybrid" --dtype bfloat16 --out "$OUT/hf"
step "export for llama.cpp" "$OUT/hybrid-q8.gguf" \
  mamba-slm export gguf "$OUT/hybrid" --type Q8_0 --out "$OUT/hybrid-q8.gguf"

say "let it write: mamba-slm generate $OUT/hybrid \"The history of tea begins\""
