"""Sets of preferences in the homes: what a rater sees next, without a word about who answered, and what was said."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DataError, MambaSlmError, UnknownNameError, UsageError
from mamba_slm.runs.layout import default_home
from mamba_slm.runs.preferences.rows import Answer, Pair, Rating
from mamba_slm.runs.preferences.session import RatingSession
from mamba_slm.runs.preferences.statistics import measure, remarks
from mamba_slm.runs.preferences.store import FOLDER, PreferenceSet, folder_of, now
from mamba_slm.runs.preferences.verdicts import labelled_rows, preference_rows, verdicts

ROLES = ("system", "user", "assistant")
MOST_CHARACTERS = 200_000
MOST_BYTES = 64 * 2**20
"""Of a file of a set: a page reads it at every choice."""


def sets_in(homes: Sequence[Path]) -> list[dict[str, Any]]:
    """Every set: home, name, and how many pairs and ratings it has; a damaged one says so as `problem`."""
    found = []
    for number, home in enumerate(homes):
        folder = home / FOLDER
        if not folder.is_dir():
            continue
        for name in sorted(entry.name for entry in folder.iterdir() if (entry / "set.json").is_file()):
            row: dict[str, Any] = {"home": number, "name": name, "problem": None}
            try:
                preferences = find_set(homes, number, name)
                row |= {"pairs": len(preferences.pairs()), "ratings": len(preferences.ratings())}
            except (MambaSlmError, ValueError) as error:
                problem = error.message if isinstance(error, MambaSlmError) else f"damaged: {error}"
                row |= {"pairs": None, "ratings": None, "problem": problem}
            found.append(row)
    return found


def find_set(homes: Sequence[Path], home: int, name: str) -> PreferenceSet:
    """The set of a name in a home.

    Raises:
        UnknownNameError: there is none.
        ConfigError: a name that would leave the home.
        DataError: its files are damaged, not plain files, or too long for a page.
    """
    if not 0 <= home < len(homes):
        raise UnknownNameError("home", str(home), [])
    folder = folder_of(name, homes[home])
    for file in (folder / "set.json", folder / "pairs.jsonl", folder / "ratings.jsonl"):
        if not file.resolve().is_relative_to(homes[home].resolve()):
            raise DataError(f"{file} leads out of its home", hint=f"rate it in a terminal: mamba-slm prefs rate {name}")
        if file.exists() and not file.is_file():
            raise DataError(f"{file} is not a file")
        if file.is_file() and file.stat().st_size > MOST_BYTES:
            raise DataError(
                f"{file} is too long for a page", hint=f"rate it in a terminal: mamba-slm prefs rate {name}"
            )
    found = PreferenceSet.open(name, homes[home])
    return KeptSet(found.path, found.seed)


class KeptSet(PreferenceSet):
    """A set whose pairs are read once for each version of their file: a page asks for them at every choice."""

    def pairs(self) -> list[Pair]:
        """As of every set."""
        if not self.pairs_file.exists():
            return []
        status = self.pairs_file.stat()
        return list(pairs_in(self.path, status.st_mtime_ns, status.st_size))


@functools.lru_cache(maxsize=8)
def pairs_in(path: Path, modified: int, size: int) -> tuple[Pair, ...]:
    """The pairs of a set whose file is of this version.

    Raises:
        DataError: a damaged line.
    """
    return tuple(PreferenceSet(path, 0).pairs())


def source_of(preferences: PreferenceSet) -> str:
    """What `--data` calls a set for a command that starts where this process was started."""
    own = default_home() / FOLDER / preferences.name
    is_own = own.resolve() == preferences.path.resolve()
    return f"prefs:{preferences.name if is_own else preferences.path.resolve()}"


def session_of(preferences: PreferenceSet, rater: str, *, seconds: float = 0.0) -> RatingSession:
    """The rater at this moment.

    Args:
        seconds: that the pair has been looked at.

    Raises:
        ConfigError: a rater without a name.
    """
    times = itertools.chain([0.0], itertools.repeat(seconds))
    return RatingSession(preferences, rater=rater, clock=lambda: next(times))


def turn_of(session: RatingSession) -> str:
    """A mark of what is shown now: a choice that was made about anything else does not count."""
    mine = [rating.id for rating in session.ratings if rating.rater == session.rater]
    shown = session.shown.pair.id if session.shown else "end"
    return f"{len(mine)}.{mine[-1] if mine else 'begin'}.{shown}"


def state_of(session: RatingSession) -> dict[str, Any]:
    """What the page shows. Neither who answered nor on which side which stored answer stands is in `shown`."""
    pairs, ratings, shown = session.pairs, session.ratings, session.shown
    found = measure(pairs, ratings)
    reached = verdicts(pairs, ratings)
    own = [rating for rating in ratings if rating.rater == session.rater]
    mine = measure(pairs, own)
    return {
        "rater": session.rater,
        "turn": turn_of(session),
        "rated": session.num_rated,
        "total": len(pairs),
        "today": sum(rating.time[:10] == now()[:10] for rating in own),
        "shown": None
        if shown is None
        else {
            "prompt": [{"role": str(m["role"]), "content": str(m.get("content"))} for m in shown.pair.prompt],
            "left": shown.left.text,
            "right": shown.right.text,
        },
        "last": last_choice(ratings, session.rater),
        "agreement": mine.self_agreement.as_json(),
        "statistics": found.as_json(),
        "remarks": remarks(found),
        "raters": sorted({rating.rater for rating in ratings}),
        "usable": {"pairs": len(preference_rows(reached)[0]), "answers": len(labelled_rows(reached)[0])},
    }


def pair_of(body: Mapping[str, Any]) -> Pair:
    """Two answers to a conversation, as a page sends them.

    Raises:
        UsageError: it is no conversation with two different answers, or too long.
    """
    prompt, answers = body.get("prompt"), body.get("answers")
    if not isinstance(prompt, list) or not prompt or not isinstance(answers, list) or len(answers) != 2:
        raise UsageError("a pair is {prompt: [messages], answers: [{text, model}, {text, model}]}")
    messages = [text_fields(each, ("role", "content")) for each in prompt]
    first, second = (text_fields(each, ("text", "model")) for each in answers)
    if any(message["role"] not in ROLES for message in messages) or messages[-1]["role"] != "user":
        raise UsageError("the prompt ends with what the user says")
    if first["text"] == second["text"]:
        raise UsageError("both answers are the same")
    return Pair(
        tuple(messages), (Answer(first["text"], first["model"]), Answer(second["text"], second["model"])), "chat"
    )


def text_fields(value: object, names: Sequence[str]) -> dict[str, str]:
    """These fields of an object.

    Raises:
        UsageError: one is missing, no text, or too long.
    """
    found = {name: value.get(name) for name in names} if isinstance(value, dict) else {}
    kept = {name: text for name, text in found.items() if isinstance(text, str) and len(text) <= MOST_CHARACTERS}
    if len(kept) < len(names):
        raise UsageError(f"expected texts of at most {MOST_CHARACTERS:,} characters: {', '.join(names)}")
    return kept


def last_choice(ratings: Sequence[Rating], rater: str) -> str | None:
    """What this rater said last, and an undo would take back."""
    return next((rating.choice for rating in reversed(ratings) if rating.rater == rater), None)
