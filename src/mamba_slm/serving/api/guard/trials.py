"""Schemas and patterns from requests, tried in a process that can be stopped before the server itself prepares them.

llguidance bounds the work of every token, but not the preparation: `{"type": "integer", "multipleOf": 999983}` takes it
minutes, and 300 `patternProperties` more than one (1.9.1, measured). It does that without Python's lock, so that nobody
waits, but a thread cannot be stopped. What consists of harmless words in bounded number is not tried.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections import OrderedDict
from typing import Any

from mamba_slm.core.errors import ConfigError
from mamba_slm.serving.engine.core import QueueFullError

MOST_SCHEMA_CHARACTERS = 256 * 1024
MOST_DEPTH = 32
MOST_HARMLESS_PARTS = 500
CPU_SECONDS = 2
WALL_SECONDS = 20.0
MEMORY_BYTES = 2**30
TRIALS_AT_ONCE = 2
MOST_VERDICTS = 1024
HARMLESS = frozenset(
    {
        *("type", "properties", "required", "items", "additionalProperties", "enum", "const", "anyOf", "$defs", "$ref"),
        *("title", "description", "default", "examples", "definitions", "strict", "nullable", "$schema", "minimum"),
        *("maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems"),
    }
)
"""Words whose preparation takes time in proportion to the size of the schema."""
NAMED_BY_USERS = ("properties", "$defs", "definitions")
"""Words whose entries have names of the user's choice, not words of JSON Schema."""

TRIAL = f"""
import json, resource, sys
resource.setrlimit(resource.RLIMIT_CPU, ({CPU_SECONDS}, {CPU_SECONDS + 1}))
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY_BYTES}, {MEMORY_BYTES}))
import llguidance
class Bytes:
    eos_token_id, bos_token_id, special_token_ids = 256, None, [256]
    tokens = [bytes([value]) for value in range(256)] + [b"<end>"]
    def __call__(self, text):
        return list(text if isinstance(text, bytes) else text.encode())
kind, given = json.load(sys.stdin)
make = llguidance.LLMatcher.grammar_from_json_schema if kind == "schema" else llguidance.LLMatcher.grammar_from_regex
vocabulary = llguidance.LLTokenizer(llguidance.TokenizerWrapper(Bytes()), eos_token=[256])
try:
    llguidance.LLMatcher(vocabulary, make(given), log_level=0).compute_bitmask()
except MemoryError:
    sys.exit(9)
except Exception:
    pass
"""
"""Prepares what stdin says, and the mask of the first token. An error that can be caught is for the server to find."""

_running = threading.BoundedSemaphore(TRIALS_AT_ONCE)
_verdicts: OrderedDict[str, bool] = OrderedDict()
_lock = threading.Lock()


def check_schema(schema: Any) -> None:
    """Refuse a JSON schema that is too large or takes too long to prepare. May take seconds: not for the event loop.

    Raises:
        ConfigError: what is too much.
        QueueFullError: others are being tried.
    """
    parts, depth, words = measured(schema)
    if depth > MOST_DEPTH:
        raise ConfigError(f"the JSON schema is {depth} levels deep, more than {MOST_DEPTH}", hint="flatten it")
    text = json.dumps(schema)
    if len(text) > MOST_SCHEMA_CHARACTERS:
        raise ConfigError(f"the JSON schema has {len(text):,} characters, more than {MOST_SCHEMA_CHARACTERS:,}")
    if parts > MOST_HARMLESS_PARTS or not words <= HARMLESS:
        try_out("schema", schema, "the JSON schema")


def check_pattern(regex: str) -> None:
    """The same for a regular expression."""
    if len(regex) > MOST_SCHEMA_CHARACTERS:
        raise ConfigError(f"the pattern has {len(regex):,} characters, more than {MOST_SCHEMA_CHARACTERS:,}")
    try_out("regex", regex, "the pattern")


def measured(schema: Any) -> tuple[int, int, set[str]]:
    """How many parts a schema has, how deep they are nested, and the words of JSON Schema in it.

    >>> parts, depth, words = measured({"type": "object", "properties": {"pattern": {"type": "string"}}})
    >>> parts, depth, sorted(words)
    (5, 3, ['properties', 'type'])
    """
    parts, deepest, words = 0, 0, set()
    left: list[tuple[Any, int, bool]] = [(schema, 1, False)]
    while left:
        value, depth, is_named = left.pop()
        parts, deepest = parts + 1, max(deepest, depth if isinstance(value, (dict, list)) else 0)
        if depth > 4 * MOST_DEPTH:
            break
        if isinstance(value, dict):
            words |= set() if is_named else set(value)
            left += [(item, depth + 1, not is_named and name in NAMED_BY_USERS) for name, item in value.items()]
        elif isinstance(value, list):
            left += [(item, depth + 1, False) for item in value]
    return parts, deepest, words


def try_out(kind: str, given: Any, what: str) -> None:
    """Prepare it elsewhere; remembers the verdict.

    Raises:
        ConfigError: it took too long or too much memory.
        QueueFullError: others are being tried, or the machine is too busy.
    """
    asked = json.dumps([kind, given])
    name = hashlib.sha256(asked.encode("utf-8", "surrogatepass")).hexdigest()
    with _lock:
        verdict = _verdicts.get(name)
    if verdict is None:
        if not _running.acquire(blocking=False):
            raise QueueFullError(f"{TRIALS_AT_ONCE} schemas are being checked already", hint="try again in a moment")
        try:
            verdict = ends(asked)
        finally:
            _running.release()
        with _lock:
            _verdicts[name] = verdict
            if len(_verdicts) > MOST_VERDICTS:
                _verdicts.popitem(last=False)
    if not verdict:
        raise ConfigError(
            f"{what} takes too long to prepare: more than {CPU_SECONDS} s or {MEMORY_BYTES // 2**30} GiB",
            hint="use fewer or simpler patterns, formats and multipleOf",
        )


def ends(asked: str) -> bool:
    """Whether a process that prepares it comes to a good end within its limits.

    Raises:
        QueueFullError: the machine is so busy that it did not even get its share of a processor.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", TRIAL],
            input=asked.encode("utf-8", "surrogatepass"),
            timeout=WALL_SECONDS,
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:  # says nothing about the schema
        raise QueueFullError("the machine is too busy to check the schema", hint="try again in a moment") from error
    return done.returncode == 0
