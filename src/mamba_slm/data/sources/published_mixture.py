"""The published mixture, with the shares of sources that cannot be had given to others, loudly."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mamba_slm.core.errors import DataError
from mamba_slm.data.sources.source import Source, find_source


@dataclass(frozen=True, kw_only=True)
class PublishedMixture:
    """Weights by source, and what was changed about them."""

    weights: dict[str, float]
    """Shares of the training tokens; they sum to 1."""

    remarks: tuple[str, ...]
    """One line for each share that went to others. Whoever shows the weights shows these."""


def published_mixture(
    sources: Mapping[str, Source], *, have: Collection[str] = (), without: Collection[str] = ()
) -> PublishedMixture:
    """C4 30%, The Pile 25%, StarCoder 15%, Books3 10%, Wikipedia, ArXiv, OpenWebText and Stack Exchange 5% each.

    A source that is withdrawn or not wanted gives its share to the one named as `instead`; without such a one, to all
    others in proportion to their own.

    Args:
        sources: the table.
        have: withdrawn sources of which the user has a copy.
        without: sources that are not wanted.

    Raises:
        DataError: nothing is left.
        UnknownNameError: a name that is in no table.
    """
    for name in (*have, *without):
        find_source(dict(sources), name)
    shares = {name: source.mixture_percent / 100 for name, source in sources.items() if source.mixture_percent}
    remarks: list[str] = []
    for name in list(shares):
        source = sources[name]
        withdrawn = source.access == "withdrawn" and name not in have
        if not withdrawn and name not in without:
            continue
        share = shares.pop(name)
        reason = "is withdrawn" if withdrawn else "is not wanted"
        heir = source.instead
        if heir is not None and heir in sources and heir not in without and sources[heir].access != "withdrawn":
            shares[heir] = shares.get(heir, 0.0) + share
            remarks.append(f"{name} {reason}: its {share:.0%} go to {heir} ({sources[heir].title})")
            continue
        rest = sum(shares.values())
        if rest <= 0:
            raise DataError("nothing is left of the mixture", hint="leave out fewer sources")
        shares = {other: value + share * value / rest for other, value in shares.items()}
        remarks.append(f"{name} {reason}: its {share:.0%} go to the others in proportion to their own")
    total = sum(shares.values())
    return PublishedMixture(weights={name: share / total for name, share in shares.items()}, remarks=tuple(remarks))
