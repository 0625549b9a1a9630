"""`mamba-slm prefs rate`: make pairs of answers where there are none, and ask which one is better."""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from mamba_slm.cli import console
from mamba_slm.cli.keys import Keys, keys_of_stdin
from mamba_slm.cli.runtime_flags import add_runtime_flags
from mamba_slm.core.errors import DataError, UsageError
from mamba_slm.core.units import parse_count
from mamba_slm.runs.preferences.choices import CHOICES

if TYPE_CHECKING:
    from mamba_slm.data.conversations.example import Prompt
    from mamba_slm.runs.preferences.session import RatingSession
    from mamba_slm.runs.preferences.store import PreferenceSet

KEYS = {choice.key: name for name, choice in CHOICES.items()}
BY_KEYS = "1 A much, 2 A, 3 tie, 4 B, 5 B much, 6 both bad, e edit the better one, s skip, u undo, q quit"


def add_rate_flags(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm prefs rate`."""
    parser.description = (
        "Compare two answers to each prompt without knowing which model made which. Keys: "
        f"{BY_KEYS}. Without a terminal, one key a line is read from stdin. Every choice is on disk at once; the same "
        "command goes on. Without --model, the pairs that the set has are rated."
    )
    parser.add_argument(
        "--model", action="append", default=[], metavar="MODEL", help="that answers; twice for two, once for one "
        "model against itself"
    )  # fmt: skip
    parser.add_argument("--prompts", metavar="FILE", help="text, one prompt a line, or any form that finetune reads")
    parser.add_argument("--limit", type=parse_count, metavar="N", help="take at most N prompts of the file")
    parser.add_argument("--rater", default="me", metavar="NAME", help="who rates, default me")
    parser.add_argument(
        "--repeats", type=float, default=0.1, metavar="SHARE",
        help="of the pairs that come again with their sides exchanged, default 0.1",
    )  # fmt: skip
    parser.add_argument("--prepare", action="store_true", help="make the answers, and rate later")
    parser.add_argument(
        "--judge", metavar="REWARD",
        help="let a program rate all pairs: math, format=REGEX, length=TOKENS, code or FILE.py:FUNCTION, as in align",
    )  # fmt: skip
    group = parser.add_argument_group("answers")
    group.add_argument("--max-new-tokens", type=parse_count, default=256, metavar="N", help="default 256")
    group.add_argument("--temperature", type=float, default=0.8, metavar="T", help="0 is greedy, default 0.8")
    group.add_argument("--top-p", type=float, default=0.95, metavar="P", help="of the mass of tokens, default 0.95")
    group.add_argument("--seed", type=parse_count, metavar="N", help="of the draws; default: a new one, printed")
    group.add_argument("--batch-rows", type=parse_count, default=16, metavar="N", help="answers at a time, default 16")
    add_runtime_flags(parser)


def rate(args: argparse.Namespace) -> int:
    """Run the command."""
    from mamba_slm.runs.preferences.session import RatingSession
    from mamba_slm.runs.preferences.store import PreferenceSet

    if len(args.model) > 2:
        raise UsageError(f"two models at most, got {len(args.model)}", hint="compare the others in sets of their own")
    if args.model and not args.prompts:
        raise UsageError("which prompts shall be answered?", hint="--prompts FILE")
    if (args.prompts and not (args.model or args.judge)) or (args.prepare and not args.model):
        raise UsageError(f"who answers for {'--prepare' if args.prepare else '--prompts'}?", hint="--model MODEL")
    prompts = prompts_of(args) if args.prompts else []
    if args.model:
        preferences = PreferenceSet.open_or_create(args.name, args.home, seed=args.seed)
        make_pairs(args, preferences, prompts)
    else:
        preferences = PreferenceSet.open(args.name, args.home)
    if args.judge:
        judge(args, preferences, prompts)
    elif not args.prepare:
        session = RatingSession(preferences, rater=args.rater, repeats=args.repeats)
        if not session.pairs:
            raise DataError(f"{preferences.path} has no pairs to rate", hint="make some: --model MODEL --prompts FILE")
        work(session)
        console.say(f"{session.made:,} choices in {preferences.path}; mamba-slm prefs stats {preferences.name}")
    return 0


def prompts_of(args: argparse.Namespace) -> list[Prompt]:
    """The prompts of the file."""
    from mamba_slm.data.conversations.read import read_prompts

    return list(read_prompts(args.prompts, limit=args.limit, say=console.say).items)


def make_pairs(args: argparse.Namespace, preferences: PreferenceSet, prompts: list[Prompt]) -> None:
    """Answers to the prompts that these models have not answered in this set yet."""
    from mamba_slm.cli.runtime_flags import runtime_settings
    from mamba_slm.finetuning.preferences.answering import (
        Answered,
        Answerer,
        AnswerSettings,
        Prompted,
        answer_pairs,
    )
    from mamba_slm.generation.loading import load
    from mamba_slm.runs.preferences.rows import prompt_key

    models = list(dict.fromkeys(args.model))
    seed = secrets.randbelow(1 << 31) if args.seed is None else args.seed
    settings = AnswerSettings(
        max_new_tokens=args.max_new_tokens, temperature=args.temperature, top_p=args.top_p, seed=seed,
        batch_rows=args.batch_rows,
    )  # fmt: skip
    names = {models[0], models[-1]}
    done = {
        prompt_key(pair.prompt) for pair in preferences.pairs() if {answer.model for answer in pair.answers} == names
    }
    asked = [Prompted(prompt.messages, prompt.origin) for prompt in prompts if prompt_key(prompt.messages) not in done]
    if len(asked) < len(prompts):
        console.say(f"{len(prompts) - len(asked):,} prompts were answered before")
    if not asked:
        return
    answerers = []
    for model in models:
        loaded = load(model, runtime=args.runtime, settings=runtime_settings(args))
        answerers.append(Answerer.of(model, loaded))
        console.say(f"{loaded.folder}, {loaded.runtime.description} ({loaded.reason})")
        console.say(answerers[-1].reason)
    console.say(f"answering {len(asked):,} prompts, seed {seed}")
    answered = Answered()
    with console.progress(len(asked), "prompts", "answering") as bar:
        for pairs in answer_pairs(answerers, asked, settings, answered):
            preferences.add_pairs(pairs)
            bar.advance(min(settings.batch_rows, len(asked) - bar.done))
    for reason, count in answered.left_out.items():
        if count:
            console.say(f"left out {count:,} prompts: {reason}")
    console.say(f"{answered.pairs:,} pairs in {preferences.path}")


def judge(args: argparse.Namespace, preferences: PreferenceSet, prompts: list[Prompt]) -> None:
    """Let a reward rate."""
    from mamba_slm.finetuning.preferences.judging import judge_pairs
    from mamba_slm.finetuning.rewards.named import reward_named

    known = {prompt.origin: {**prompt.fields, "answer": prompt.answer} for prompt in prompts}
    ratings = judge_pairs(
        preferences,
        reward_named(args.judge),
        count_tokens=token_counter(args),
        fields_of=lambda pair: known.get(pair.origin, {}),
    )
    ties = sum(rating.choice == "tie" for rating in ratings)
    console.say(f"{args.judge} rated {len(ratings):,} pairs ({ties:,} ties); mamba-slm prefs stats {preferences.name}")


def token_counter(args: argparse.Namespace) -> Callable[[str], int]:
    """How long an answer is: in tokens of the first model, in words where none is named."""
    if not args.model:
        console.say("lengths are counted in words: no --model says how to cut tokens")
        return lambda text: len(text.split())
    from pathlib import Path

    from mamba_slm.model.checkpoint import resolve_model_folder
    from mamba_slm.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(resolve_model_folder(Path(args.model[0])))
    return lambda text: len(tokenizer.encode(text))


def work(session: RatingSession) -> None:
    """Show pair after pair until all are rated or the rater has enough."""
    from mamba_slm.cli.prefs_screen import headline, screen
    from mamba_slm.runs.preferences.statistics import measure

    with keys_of_stdin() as keys:
        while session.shown is not None:
            mine = [rating for rating in session.ratings if rating.rater == session.rater]
            line = headline(
                session.preferences.name, session.num_rated, len(session.pairs), measure(session.pairs, mine)
            )
            clear()
            console.say(screen(session.shown, headline=line, columns=min(shutil.get_terminal_size().columns, 140)))
            if not one_choice(session, keys):
                return
    console.say("every pair is rated")


def one_choice(session: RatingSession, keys: Keys) -> bool:
    """Wait for a key that does something. False: the rater stops here."""
    while (key := keys.next()) not in (None, "q"):
        if key == "u":
            if session.undo() is None:
                console.say("there is nothing to undo")
                continue
            return True
        if key == "e":
            if edit(session, keys):
                return True
            continue
        if key in KEYS:
            session.choose(KEYS[key])
            return True
        console.say(f"{key!r} means nothing here: {BY_KEYS}")
    return False


def edit(session: RatingSession, keys: Keys) -> bool:
    """Ask which answer is better, and take it as the rater would have it. False: nothing came of it."""
    console.say("which one is better, and shall be edited? 1 2 A · 4 5 B")
    choice = KEYS.get(keys.next() or "", "")
    side = CHOICES[choice].side if choice else None
    if session.shown is None or side is None:
        console.say("nothing edited")
        return False
    before = (session.shown.left if side == "left" else session.shown.right).text
    text = edited_text(before, keys)
    if not text.strip() or text == before:
        console.say("nothing changed, so this is no edit; press a key for your choice")
        return False
    session.choose(choice, edited=text)
    return True


def edited_text(before: str, keys: Keys) -> str:
    """The text after `$EDITOR`; without a terminal the next line."""
    if not keys.is_terminal:
        return keys.next() or ""
    import subprocess
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "answer.txt"
        file.write_text(before, encoding="utf-8")
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        with keys.paused():
            code = subprocess.run([*editor.split(), str(file)], check=False).returncode
        if code:
            console.say(f"{editor} failed, so nothing is changed; another one: EDITOR=nano")
            return before
        text = file.read_text(encoding="utf-8")
    return text if before.endswith("\n") else text.removesuffix("\n")


def clear() -> None:
    """An empty screen on a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write("\033[2J\033[H")
