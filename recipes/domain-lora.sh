#!/usr/bin/env bash
# A trained model learns a field of its own on one consumer GPU: first the texts of the field, then questions with
# answers, both as adapters (QLoRA: the model itself lies in 4 bits). Measured before and after, on the field and on
# what it knew before; then merged and exported.
#
# Needs: a model (of 1.3b-8-gpus.sh, convert-llama-3.2-1b.sh or another), your texts, some of them held out, and
# questions with answers; one GPU with 12 GB or more; pip install 'mamba-slm[bnb,data,eval,finetune,gguf]'.
# No GPU has run it yet; every command of it runs on a CPU in the tests, with a nano model, STEPS=4 and small data.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

GPU=${GPU:-RTX 4090}             # for the plan
PRICE=${PRICE:-0.40}             # dollars per hour: yours
SIZE=${SIZE:-1.3B}               # of the model, for the plan
TOKENS=${TOKENS:-100M}           # of your texts, for the plan
MODEL=${MODEL:-1.3b/base}        # run, checkpoint or model folder to begin with
TEXTS=${TEXTS:-domain/texts}     # folder of the field's texts
KIND=${KIND:-docs}               # what kind of text: docs, books, web, code or chat
HELD_OUT=${HELD_OUT:-domain/held-out}        # folder of texts that are never trained on
QUESTIONS=${QUESTIONS:-domain/questions.jsonl}  # {"prompt": …, "completion": …} in each line
GENERAL=${GENERAL:-}             # text of what it knew before, such as 1.3b/tokens/wikipedia/validation
METHOD=${METHOD:-qlora}          # or lora: 8.8 instead of 7.2 GiB by the estimate
RANK=${RANK:-32}
CONTEXT=${CONTEXT:-2048}         # tokens of a row
EPOCHS=${EPOCHS:-1}              # times that the texts are read; questions: three times
STEPS=${STEPS:-}                 # stop after so many steps instead, to try the script
OUT=${OUT:-domain-model}

. "$here/steps.sh"

say "plan: $METHOD of $SIZE on one $GPU, $TOKENS tokens of text"
plan mamba-slm models estimate "$SIZE" --task "$METHOD" --rank "$RANK" --gpu "$GPU" --price "$PRICE" \
  --context-tokens "$CONTEXT" --micro-batch-rows 1 --gradient-checkpointing --tokens "$TOKENS"

# 1. What it knows of the field, and in general, before.
texts=(--perplexity "$HELD_OUT")
[ -z "$GENERAL" ] || texts+=(--perplexity "$GENERAL")
step "measure before" "$OUT/before/perplexity.json" \
  mamba-slm eval "$MODEL" "${texts[@]}" --out "$OUT/before"

# 2. The texts, cleaned; then learned. The loss on a twentieth of them before and after stands in the report.
step "clean the texts" "$OUT/clean/curation.json" \
  mamba-slm data curate "$TEXTS" --kind "$KIND" --drop-share 10% --on-error skip --out "$OUT/clean"
common=(--method "$METHOD" --rank "$RANK" --context-tokens "$CONTEXT" --gradient-checkpointing --micro-batch-rows 1)
[ -z "$STEPS" ] || common+=(--max-steps "$STEPS")
run_step "learn the texts" "$OUT/texts" "$OUT/texts/model" \
  mamba-slm finetune "$MODEL" --data "$OUT/clean" --form text --too-long cut --epochs "$EPOCHS" "${common[@]}" \
  --merge --out "$OUT/texts"

# 3. On top of that, questions and answers. Only the answers are learned.
run_step "learn to answer" "$OUT/answers" "$OUT/answers/adapter" \
  mamba-slm finetune "$OUT/texts/model" --data "$QUESTIONS" --epochs 3 "${common[@]}" --out "$OUT/answers"

# 4. One model again, and what became of it: the field should be better, the rest hardly worse.
step "merge" "$OUT/model" \
  mamba-slm adapters merge "$OUT/answers" --into base --dtype bfloat16 --out "$OUT/model"
step "measure after" "$OUT/after/perplexity.json" \
  mamba-slm eval "$OUT/model" "${texts[@]}" --out "$OUT/after"

# 5. For llama.cpp, Ollama and LM Studio.
step "export for llama.cpp" "$OUT/model-q8.gguf" \
  mamba-slm export gguf "$OUT/model" --type Q8_0 --out "$OUT/model-q8.gguf"

say "ask it: mamba-slm chat $OUT/model"
