"""Words beside a number that say what it is."""

from __future__ import annotations

import re

REACH = 48
"""Characters before a number in which its name is looked for."""

CARD = re.compile(r"(?i)\b(?:cards?|credit|debit|visa|master\W?card|amex|american express|maestro|cc|pan)\b")
SSN = re.compile(r"(?i)\b(?:ssns?|ss\W?(?:no|number|#)|(?:social|soc)\W{0,2}(?:security|sec)\b|tax(?:payer)? id|tin)\b")
SSN_HINTS = ("ss", "soc", "tax", "tin")
IP = re.compile(
    r"(?i)(?:\b|_)(?:ips?|ipv[46]|address(?:es)?|addr|hosts?|server|client|remote|dns|ping|from|inet|peer|connect(?:ed)?|login)(?:\b|_)"
)
VERSION = re.compile(
    r"(?i)\b(?:v|ver|versions?|releases?|rev|revision|build|firmware|section|sections|chapter|clause|rfc|oid|driver|§)\W*\Z"
)
OTHER_NUMBER = re.compile(
    r"(?i)\b(?:orders?|tracking|invoices?|serial|part|tickets?|transaction|reference|ref|isbn|issn|ean|gtin|upc|imei|"
    r"barcode|timestamp|version|build|article|item|sku|model|patent|doi|case|product|catalog(?:ue)?|batch|lot|id)"
    r"(?:\W{1,3}(?:number|num|no|nr|id|code))?[ :.#=]{0,4}\Z"
)
PHONE = re.compile(
    r"(?i)\b(?:(?:tele)?phones?|tel|mobiles?|mob|cell(?:ular|phone)?|fax|telefax|facsimile|desk|office|landline|whatsapp|"
    r"sms|hotline|helpline|voicemail|pager|direct|toll.?free|telefono|teléfono|móvil|téléphone|tél|telefon|handy|portable)"
    r"\b(?:[ ](?:numbers?|no|nr|nos|line)\b)?(?:[ ](?:is|was|are)\b)?[^\w\n]{0,4}\n?[^\w\n]{0,4}\Z"
)
CALL = re.compile(
    r"(?i)\b(?:call(?:s|ed|ing)?|dial|ring|rang|text|contact|reach(?:ed)?|answer(?:ing)?|messages?|phoned?|"
    r"(?:my|our|his|her|your|their) (?:new )?number)\b"
    r"(?:\W{1,2}(?!\d)\w{1,12}){0,3}?\W{1,3}(?:at|on|to|is|was|registered|number|me|us|him|her|them)\b[^\w\n]{0,3}\Z"
)
DIAL = re.compile(r"(?i)\b(?:call|dial|phone number|registered)(?: now| us| me| toll.?free)?[: ]{1,3}\Z")
LAST_WORD = re.compile(r"[^\w]{0,10}([^\W\d_]{2,12})")
NAMES = (
    "phone phones telephone telephones tel mobile mobiles mob cell cellular cellphone fax telefax facsimile desk "
    "office landline whatsapp sms hotline helpline voicemail pager direct free tollfree telefono teléfono móvil "
    "téléphone tél telefon handy portable"
)
LAST_WORDS = frozenset(
    f"{NAMES} number numbers no nr nos line is was are at on to registered me us him her them call dial now".split()
)
"""The last words of what `PHONE`, `CALL` and `DIAL` match: looking one up is cheaper than they are."""

PHONE_AFTER = re.compile(
    r"(?i)[ \t]*[-(,]?[ \t]*(?:office|fax|mobile|cell|home|work|phone|tel|direct|desk|landline)\b"
    r"(?=[ \t]*(?:[\n\r.,;)\\]|\Z))"
)


def before(text: str, start: int) -> str:
    """What stands before a number, near enough to name it."""
    return text[max(0, start - REACH) : start]


def is_ssn_named(said: str) -> bool:
    """Whether words before a number say that it is a social security number.

    >>> is_ssn_named("Her SSN is "), is_ssn_named("1234, 5678, ")
    (True, False)
    """
    lowered = said.lower()
    return any(hint in lowered for hint in SSN_HINTS) and SSN.search(said) is not None


def is_phone_named(text: str, start: int, end: int) -> bool:
    """Whether words beside `text[start:end]` say that it is a phone number.

    >>> is_phone_named("Phone: 467 3395", 7, 15), is_phone_named("467 3395 office", 0, 8)
    (True, True)
    """
    said = before(text, start)
    last = LAST_WORD.match(said[::-1])
    if last and last[1][::-1].lower() in LAST_WORDS and (PHONE.search(said) or CALL.search(said) or DIAL.search(said)):
        return True
    return PHONE_AFTER.match(text, end, end + 24) is not None
