#!/usr/bin/env bash
# From text to chat on a laptop, without a GPU and without the network: clean the text, make a vocabulary and tokens,
# train a small model, measure it, teach it to answer, let preferences shape its answers, store it in 8 bits, serve it.
#
# What comes out is a toy: it writes text like yours, and answers in the form of the questions that it was taught.
# Needs: pip install 'mamba-slm[data,finetune,serve]'. Training takes MINUTES; what lies around it was not measured.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

TEXT=${TEXT:-python-library}     # a file, a folder, or python-library: the sources of Python's standard library
KIND=${KIND:-code}               # what kind of text it is: code, docs, books, web or chat
SIZE=${SIZE:-nano}               # nano (minutes) or tiny (an hour); mamba-slm models list
MINUTES=${MINUTES:-8}            # of training
STEPS=${STEPS:-}                 # stop every training after so many steps instead, to try the script
VOCABULARY=${VOCABULARY:-4096}   # tokens; 8192 for tiny
QUESTIONS=${QUESTIONS:-$here/laptop/questions.jsonl}        # question and answer, one pair in a line
PREFERENCES=${PREFERENCES:-$here/laptop/preferences.jsonl}  # two answers to a question, the better one named; or none
EPOCHS=${EPOCHS:-20}             # times that the questions are read
PORT=${PORT:-8000}               # of the server, on this machine alone
OUT=${OUT:-laptop}               # everything is written here

. "$here/steps.sh"

say "plan: $SIZE on this machine, from $TEXT to $OUT"
plan mamba-slm models estimate "$SIZE" --gpus 0 --vocab-size "$VOCABULARY"

# 1. Most of any collection is not worth reading. What went, and why, stands in clean/report.html.
step "clean the text" "$OUT/clean/curation.json" \
  mamba-slm data curate "$TEXT" --kind "$KIND" --out "$OUT/clean"

# 2. A vocabulary of its own: frequent words of this text become one token each.
step "make a vocabulary" "$OUT/tokenizer/tokenizer.json" \
  mamba-slm data train-tokenizer "$OUT/clean" --vocab-size "$VOCABULARY" --out "$OUT/tokenizer"

# 3. Text becomes numbers. One document in twenty is held out, to measure the model on what it never read.
step "make tokens" "$OUT/tokens/tokenizer.json" \
  mamba-slm data tokenize "$OUT/clean" --tokenizer "$OUT/tokenizer" --validation-share 0.05 --out "$OUT/tokens"

# 4. Training. Ctrl-C saves; this script again goes on.
length=(--max-minutes "$MINUTES") tuning=()
[ -z "$STEPS" ] || { length=(--max-steps "$STEPS") tuning=(--max-steps "$STEPS"); }
run_step "train" "$OUT/base" "$OUT/base/model" \
  mamba-slm train "$SIZE" --data "$OUT/tokens" --vocab-size "$VOCABULARY" "${length[@]}" --out "$OUT/base"

# 5. Bits for each byte of the held-out text: the fewer, the better the model knows what comes next.
step "measure it on held-out text" "$OUT/base-scores/perplexity.json" \
  mamba-slm eval "$OUT/base" --perplexity "$OUT/tokens/validation" --out "$OUT/base-scores"

# 6. The same model learns the form of questions and answers. Only the answers are learned.
run_step "teach it to answer" "$OUT/answers" "$OUT/answers/model" \
  mamba-slm finetune "$OUT/base" --data "$QUESTIONS" --method full --epochs "$EPOCHS" \
  "${tuning[@]}" --out "$OUT/answers"
model=$OUT/answers

# 7. Of two answers the better one becomes likelier than the other (DPO). PREFERENCES=none leaves it out.
if [ "$PREFERENCES" != none ]; then
  run_step "learn what is preferred" "$OUT/preferred" "$OUT/preferred/model" \
    mamba-slm align "$OUT/answers" dpo --data "$PREFERENCES" "${tuning[@]}" --merge --out "$OUT/preferred"
  model=$OUT/preferred
fi

# 8. A quarter of the memory, and faster. The report says what it costs.
step "store it in 8 bits" "$OUT/int8/report.json" \
  mamba-slm quantize "$model" --to int8 --text "$OUT/tokens/validation" --sensitivity none --no-speed --out "$OUT/int8"

# 9. The model behind OpenAI's API, asked once; then the server ends.
ask_the_server() {
  mamba-slm serve "$OUT/int8" --port "$PORT" --name laptop 2> "$OUT/server.log" &
  local server=$! tries
  trap 'kill $server 2>/dev/null || true' EXIT
  for tries in $(seq 1500); do
    curl --silent --fail --output /dev/null "http://127.0.0.1:$PORT/ready" && break
    kill -0 $server 2>/dev/null || { cat "$OUT/server.log" >&2; return 1; }
    sleep 0.2
  done
  curl --silent --fail "http://127.0.0.1:$PORT/v1/chat/completions" -H 'Content-Type: application/json' -d \
    '{"model": "laptop", "max_tokens": 32, "messages": [{"role": "user", "content": "What is the module json for?"}]}' \
    > "$OUT/answer.unfinished"
  kill $server
  wait $server || true
  trap - EXIT
  mv "$OUT/answer.unfinished" "$OUT/answer.json"
}
step "serve it, and ask it something" "$OUT/answer.json" ask_the_server

# 10. One page with curves, samples, settings, plan and outcome for each run.
step "write the reports" "$OUT/base.html" \
  mamba-slm report "$OUT/base" --format html --out "$OUT/base.html"
step "write the report of the answers" "$OUT/answers.html" \
  mamba-slm report "$OUT/answers" --format html --out "$OUT/answers.html"

say "talk to it: mamba-slm chat $OUT/int8"
