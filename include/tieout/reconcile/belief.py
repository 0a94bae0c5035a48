"""How probable pairs are against the rivals of their rows: belief propagation over arrays of pairs.

A row has at most one counterpart, so a pair's probability is its share of all ways to pair the rows, each as probable
as the product of its pairs' odds. Every row tells each candidate how free it is of the others, round by round. It is
exact where rivals do not form rings. Bayati et al., "Simple Deterministic Approximation Algorithms for Counting
Matchings", 2007.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]
    Floats = NDArray[np.float64]

_UNITS = 1e12  # claims and shares are added up as integers: exact, in whatever order the pairs come
_SHARE_UNITS = 1e9


class Beliefs:
    """Pairs (left_no, right_no), and how free either row of each is of its other candidates."""

    def __init__(self, left_no: Numbers, right_no: Numbers) -> None:
        self._rows = [np.unique(numbers, return_inverse=True)[1] for numbers in (left_no, right_no)]
        self.free: list[Floats] = [np.ones(len(left_no)), np.ones(len(right_no))]

    def go_on(self, odds: Floats, *, halfway: bool = True) -> None:
        """One round, by what the rows said in the last; `odds` are those of each pair were there no rivals.

        Halfway to what they said, because whole steps swing to and fro where rivals form rings.
        """
        left, right = self.free
        said = [1 / (1 + _others(odds * free, rows)) for free, rows in zip((right, left), self._rows, strict=True)]
        self.free = [np.sqrt(f * s) for f, s in zip(self.free, said, strict=True)] if halfway else said

    def probabilities(self, odds: Floats) -> Floats:
        """The probability that a pair is one event, as far as the rounds have come."""
        weighed = odds * self.free[0] * self.free[1]
        return weighed / (1 + weighed)


def total(shares: Floats, by: Numbers) -> dict[int, float]:
    """The sum of shares (0 to 1) by number, from 0 to the greatest."""
    sums = np.zeros(by.max(initial=-1) + 1, np.int64)
    np.add.at(sums, by, np.rint(shares * _SHARE_UNITS).astype(np.int64))
    return {number: units / _SHARE_UNITS for number, units in enumerate(sums.tolist())}


def _others(claims: Floats, rows: NDArray[np.intp]) -> Floats:
    """Of each claim, what the others of its row add up to."""
    whole = np.floor(claims)
    parts = np.rint((claims - whole) * _UNITS).astype(np.int64)
    found = np.zeros(len(claims))
    for units, size in ((whole.astype(np.int64), 1.0), (parts, 1 / _UNITS)):
        sums = np.zeros(rows.max(initial=-1) + 1, np.int64)
        np.add.at(sums, rows, units)
        found += (sums[rows] - units) * size
    return found
