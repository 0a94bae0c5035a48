"""How much the likeness of two rows says about their being one event: Fellegi and Sunter's theory of record linkage.

A comparison puts every pair of rows on one of its levels. `m` is the share of pairs that belong together on each level,
`u` that of pairs that do not; m/u is how many times more probable a pair on that level is to belong together. A text
that one of two rows lacks says nothing. Fellegi and Sunter, "A Theory for Record Linkage", 1969.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tieout.reconcile.definition import FuzzyPass, Likelihood

MISSING = -1
"""The level of a pair of which one row lacks the text."""

_LEAST = 1e-6
_GREATEST_ODDS = 1e9
_SOME = 0.5  # added to every count, so that what was never seen stays possible


@dataclass(frozen=True)
class Compared:
    """One comparison: its name, what its levels are called, and whether they go from most to least alike."""

    name: str
    levels: tuple[str, ...]
    is_ranked: bool
    given: Likelihood | None


@dataclass(frozen=True)
class Pattern:
    """Pairs that are on the same level of every comparison, and how many there are."""

    number: int
    levels: tuple[int, ...]
    pairs: int


@dataclass(frozen=True)
class Model:
    """`m` and `u` of every level of every comparison, and how probable a pair is before anything is compared."""

    prior: float
    m: tuple[tuple[float, ...], ...]
    u: tuple[tuple[float, ...], ...]

    @property
    def prior_odds(self) -> float:
        """How many to one a pair belongs together before anything is compared, were there no other candidates."""
        return self.prior / (1 - self.prior)

    def odds(self, pattern: Pattern) -> float:
        """How many to one pairs of a pattern belong together, were there no other candidates."""
        odds = self.prior_odds
        for m, u, level in zip(self.m, self.u, pattern.levels, strict=True):
            if level != MISSING:
                odds *= m[level] / u[level]
        return min(max(odds, 1 / _GREATEST_ODDS), _GREATEST_ODDS)

    def said(self, compared: Sequence[Compared], pattern: Pattern) -> str:
        """What each comparison adds to the match weight of a pattern, in bits."""
        weights = [
            (f"{one.name} {one.levels[level]}", math.log2(m[level] / u[level]))
            for one, m, u, level in zip(compared, self.m, self.u, pattern.levels, strict=True)
            if level != MISSING
        ]
        total = math.fsum(weight for _, weight in weights)
        return f"match weight {total:+.1f}: " + ", ".join(f"{what} {weight:+.1f}" for what, weight in weights)

    def written(self, compared: Sequence[Compared]) -> dict[str, Any]:
        """The model as the definition's settings."""
        likelihoods = {
            one.name: {"m": [_text(p) for p in m], "u": [_text(p) for p in u]}
            for one, m, u in zip(compared, self.m, self.u, strict=True)
        }
        return {"prior": _text(self.prior), "likelihoods": likelihoods}


def comparisons(match_pass: FuzzyPass) -> tuple[Compared, ...]:
    """What a pass compares: the amount, the days between, and each text."""
    units = match_pass.amount.levels
    amounts = (*("equal" if n == 0 else f"within {n} minor units" for n in units), "within the tolerance")
    firsts = (match_pass.window.earliest, *(end + 1 for end in match_pass.window.ends))
    lags = tuple(
        f"of {first} days" if first == last else f"of {first} to {last} days"
        for first, last in zip(firsts, (*match_pass.window.ends, match_pass.window.latest), strict=True)
    )
    texts = [
        Compared(t.name, ("equal", *(f"at least {p:f} alike" for p in t.levels), "different"), True, t.likelihood)
        for t in match_pass.texts
    ]
    return (
        Compared("amount", amounts, True, match_pass.amount.likelihood),
        Compared("lag", lags, False, match_pass.window.likelihood),
        *texts,
    )


def first_guess(compared: Sequence[Compared], strangers: Sequence[Mapping[int, int]], prior: float | None) -> Model:
    """Where training starts: `u` from strangers, pairs that cannot belong together; `m` the greater the more alike.

    `strangers` has for each comparison how many of them are on each level.
    """
    m, u = [], []
    for one, counts in zip(compared, strangers, strict=True):
        if one.given:
            m.append(tuple(map(float, one.given.m)))
            u.append(tuple(map(float, one.given.u)))
            continue
        chance = _shares([counts.get(level, 0) for level in range(len(one.levels))])
        falling = [4.0**-level for level in range(len(one.levels))]
        m.append(tuple(share / sum(falling) for share in falling) if one.is_ranked else chance)
        u.append(chance)
    return Model(prior if prior is not None else 0.5, tuple(m), tuple(u))


def learned(
    model: Model,
    compared: Sequence[Compared],
    patterns: Sequence[Pattern],
    expected: Mapping[int, float],
    by_chance: float | None,
    rows: int,
) -> Model:
    """The model that makes what is expected of each pattern (how many of its pairs belong together) most probable.

    `by_chance` is how many pairs the prior alone would expect; without it the prior stays. `rows` are those of the side
    that has fewer. `u` and what the definition gives stay as they are. Levels of more likeness never weigh less.
    """
    m = list(model.m)
    for place, one in enumerate(compared):
        if one.given:
            continue
        m[place] = _shares(
            [
                math.fsum(expected[p.number] for p in patterns if p.levels[place] == level)
                for level in range(len(one.levels))
            ]
        )
        if one.is_ranked:
            m[place] = _falling(m[place], model.u[place])
    prior = model.prior
    if by_chance:
        found = math.fsum(expected.values())
        odds = model.prior_odds * (found / max(rows - found, _SOME)) / (by_chance / max(rows - by_chance, _SOME))
        prior = _within(odds / (1 + odds), 0.001, 0.999)
    return replace(model, prior=prior, m=tuple(m))


def change(one: Model, other: Model) -> float:
    """The greatest difference of any parameter."""
    both = [*zip(one.m, other.m, strict=True), ((one.prior,), (other.prior,))]
    return max(abs(a - b) for left, right in both for a, b in zip(left, right, strict=True))


def _shares(counts: Sequence[float]) -> tuple[float, ...]:
    total = math.fsum(counts) + _SOME * len(counts)
    return tuple(_within((count + _SOME) / total, _LEAST, 1.0) for count in counts)


def _falling(m: Sequence[float], u: Sequence[float]) -> tuple[float, ...]:
    """`m` with m/u falling from level to level: neighbours that would rise share what they have."""
    pools: list[tuple[float, float, int]] = []
    for share, chance in zip(m, u, strict=True):
        pool = share, chance, 1
        while pools and pools[-1][0] * pool[1] < pool[0] * pools[-1][1]:
            last = pools.pop()
            pool = last[0] + pool[0], last[1] + pool[1], last[2] + pool[2]
        pools.append(pool)
    ratios = [share / chance for share, chance, levels in pools for _ in range(levels)]
    return tuple(_within(ratio * chance, _LEAST, 1.0) for ratio, chance in zip(ratios, u, strict=True))


def _within(value: float, least: float, greatest: float) -> float:
    """A parameter at six places, so that one that is written down and given again is the same."""
    return min(max(round(value, 6), least), greatest)


def _text(value: float) -> str:
    return f"{value:.6f}"
