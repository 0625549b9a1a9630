# What every recipe shares. A recipe is a plan, then steps; a step whose result is there is left out, so that a recipe
# that was interrupted goes on when it is run again.
#
#   plan COMMAND …                         an estimate, printed before anything is done
#   step "WHAT" RESULT COMMAND …           run COMMAND unless RESULT is there
#   run_step "WHAT" RUN RESULT COMMAND …   the same as step; COMMAND trains in RUN, and goes on where that has begun
#
# DRY_RUN=1, or --dry-run as the only argument, prints the plan and every command, with what the command says about
# itself under --dry-run, and does nothing. GPU_FLAGS holds the GPU that training is counted for: --gpu NAME --price USD.

DRY_RUN=${DRY_RUN:-}
case "${1:-}" in
  "") ;;
  --dry-run) DRY_RUN=1 ;;
  *) echo "usage: ${0##*/} [--dry-run]; the settings are variables at the top of the file" >&2; exit 2 ;;
esac
command -v mamba-slm > /dev/null || {
  echo "error: mamba-slm is not on the PATH" >&2
  echo "hint: source .venv/bin/activate" >&2
  exit 3
}
GPU_FLAGS=()
step_number=0

say() { printf '\n== %s\n' "$*" >&2; }

show() {  # the command as one could type it
  printf '+' >&2
  printf ' %q' "$@" >&2
  printf '\n' >&2
}

plan() {
  show "$@"
  "$@"
}

begin_step() {  # "WHAT" RESULT: whether there is anything to do
  step_number=$((step_number + 1))
  say "$step_number. $1"
  if [ -e "$2" ]; then
    echo "already there: $2" >&2
    return 1
  fi
}

step() {
  begin_step "$1" "$2" || return 0
  shift 2
  show "$@"
  if [ -n "$DRY_RUN" ]; then foresee "$@"; else "$@"; fi
}

foresee() {  # what the command says about itself with --dry-run, where it can before its input is there
  [ "$1" = mamba-slm ] || return 0
  case "$2 ${3:-}" in
    "train "*) "$@" --dry-run "${GPU_FLAGS[@]}" | grep -v ' default$' ;;
    "convert "*) [ ! -e "$3/config.json" ] || "$@" --dry-run "${GPU_FLAGS[@]}" ;;
    "data download") "$@" --dry-run ;;
    "data curate") [ ! -e "${4#*=}" ] && [ "$4" != python-library ] || "$@" --dry-run | grep -v ' default$' ;;
    "finetune "* | "align "* | "quantize "*) ! are_there "$@" || "$@" --dry-run | grep -v ' default$' ;;
  esac
}

are_there() {  # the model of a command, and the data, so that a folder that will be made is not looked for on the hub
  [ -e "$3" ] || return 1
  while [ $# -gt 1 ]; do
    [ "$1" != --data ] || [ -e "$2" ] || return 1
    shift
  done
}

run_step() {
  begin_step "$1" "$3" || return 0
  local run=$2
  shift 3
  if [ -e "$run/config.yaml" ]; then  # it was interrupted
    set -- mamba-slm runs resume "$run"
  fi
  show "$@"
  if [ -n "$DRY_RUN" ]; then foresee "$@"; else "$@"; fi
}
