"""Keys and tokens in the forms that their services publish, and private keys in PEM."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from mamba_slm.data.curation.personal.entropy import bits_per_character
from mamba_slm.data.curation.personal.span import Span

W = "[A-Za-z0-9_-]"
KEYS = re.compile(
    r"(?<![A-Za-z0-9+_])(?:"
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}"  # Amazon Web Services
    r"|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{60,255}|glpat-[A-Za-z0-9_-]{20,64}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{20,250}"  # Slack
    rf"|(?:https://)?hooks\.slack\.com/services/T{W}{{6,14}}/B{W}{{6,14}}/{W}{{20,32}}"
    r"|(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,128}|whsec_[A-Za-z0-9]{24,64}"  # Stripe
    rf"|(?P<vague>sk-(?:proj-|ant-|svcacct-|admin-|or-)?{W}{{20,200}})"  # OpenAI, Anthropic and others
    rf"|AIza{W}{{35}}|ya29\.{W}{{20,500}}|GOCSPX-{W}{{20,40}}"  # Google
    r"|hf_[A-Za-z0-9]{30,64}|npm_[A-Za-z0-9]{36}"
    rf"|pypi-{W}{{50,300}}|SG\.{W}{{22}}\.{W}{{43}}"  # SendGrid
    r"|(?:SK|AC)[0-9a-f]{32}|key-[0-9a-f]{32}|[0-9a-f]{32}-us[0-9]{1,2}"  # Twilio, Mailgun, Mailchimp
    r"|do[opr]_v1_[0-9a-f]{64}|shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}|dapi[0-9a-f]{32}"  # DigitalOcean, Shopify, Databricks
    rf"|[0-9]{{8,10}}:AA{W}{{33}}"  # Telegram
    rf"|(?<!-)eyJ{W}{{10,4000}}\.eyJ{W}{{10,8000}}\.{W}{{10,2000}}"  # JSON Web Token
    rf"|hvs\.{W}{{24,120}}|(?:glsa|figd|sbp|ntn|lin_api)_{W}{{30,100}}"  # Vault, Grafana, Figma, Supabase
    r")(?![A-Za-z0-9])"
)
LEAST_BITS = 2.5
"""Of Shannon entropy per character: what repeats characters, as AKIAXXXXXXXXXXXXXXXX does, only stands for a key."""

PEM_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
LONGEST_PEM = 16_384
SHORTEST_PEM = 16


def find_keys(text: str, start: int, end: int) -> Iterator[Span]:
    """Keys in the run `text[start:end]` of characters that keys are written in.

    >>> text = "id=AKIA2JLVQWBO5UHN4RTX"
    >>> list(find_keys(text, 0, len(text)))
    [Span(start=3, end=23, kind='key')]
    """
    for match in KEYS.finditer(text, start, min(end + 1, len(text))):
        key = match[0]
        if bits_per_character(key[4:]) < LEAST_BITS:
            continue
        if match["vague"] and not is_random(key):
            continue
        yield Span(match.start(), match.end(), "key")


def is_random(key: str) -> bool:
    """Whether what follows a short prefix mixes characters as a key does and a name in a style sheet does not.

    >>> is_random("sk-fading-circle1-blue-big"), is_random("sk-proj-a8Gh2kLm9QrStUv3"), is_random("sk-0a1b2c3d4e5f6a")
    (False, True, True)
    """
    has_digit, has_lower, has_upper = (re.search(one, key[3:]) is not None for one in ("[0-9]", "[a-z]", "[A-Z]"))
    return has_digit and ((has_upper and has_lower) or "-" not in key[3:])


def find_pems(text: str, places: Sequence[int]) -> Iterator[Span]:
    """Private keys between their two lines, these too.

    Args:
        text: where to look.
        places: ends of opening lines.
    """
    for place, following in itertools.zip_longest(places, places[1:], fillvalue=len(text)):
        closing = PEM_END.search(text, place, min(following, place + LONGEST_PEM))
        if closing and closing.start() - place >= SHORTEST_PEM:
            start = text.rindex("-----BEGIN ", max(0, place - 96), place)
            yield Span(start, closing.end(), "key")
