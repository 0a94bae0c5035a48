"""The most pairs that are possible: nearest pairs alone can leave rows unpaired that another pairing would serve.

Where rows of both sides are left over, pairs are led on along augmenting paths (Hopcroft–Karp). A row that has a
partner keeps one, and amounts are tried from equal to farthest apart, so that a wider tolerance never takes a row's
partner away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tieout.reconcile.session import Session
from tieout.reconcile.sides import SIDES, SideName

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]

_PAIRS = pa.schema([("own", pa.int64()), ("other", pa.int64())])


def complete(session: Session, own: SideName, index: int) -> None:
    """Grow `paired_<index>` (left_no, right_no, gap) to the greatest number of pairs that `rivalry_<index>` allows.

    Candidates of one block share what must be equal: only blocks where rows are left over on both sides are looked at.
    `own` names the side whose rows are paired in order, so that swapped sides give the mirror image.
    """
    other = "right" if own == "left" else "left"
    session.make(f"unsettled_{index}", _unsettled(index))
    if not session.rows(f"SELECT 1 FROM unsettled_{index} LIMIT 1"):
        return
    session.make(
        f"reopened_{index}",
        f"SELECT c.left_no, c.right_no, dense_rank() OVER (ORDER BY c.gap) AS tier,\n"
        "  p.left_no IS NOT NULL AS is_paired\n"
        f"FROM rivalry_{index} c SEMI JOIN unsettled_{index} USING (block)\n"
        f"LEFT JOIN paired_{index} p ON p.left_no = c.left_no AND p.right_no = c.right_no",
    )
    found = session.connection.execute(
        f"SELECT {own}_no AS own, {other}_no AS other, tier, is_paired FROM reopened_{index} ORDER BY ALL"
    ).fetchnumpy()
    paired = _most_pairs(found["own"], found["other"], found["tier"], found["is_paired"])
    session.connection.register(f"completed_{index}", pa.table(paired, schema=_PAIRS))
    session.run(
        f"paired_{index}",
        f"DELETE FROM paired_{index} WHERE left_no IN (SELECT left_no FROM reopened_{index} WHERE is_paired)",
    )
    session.run(
        f"paired_{index}",
        f"INSERT INTO paired_{index} SELECT left_no, right_no, gap FROM rivalry_{index}"
        f" JOIN completed_{index} ON {own}_no = own AND {other}_no = other",
    )
    session.connection.unregister(f"completed_{index}")


def _unsettled(index: int) -> str:
    """Blocks in which, on both sides, a row is unpaired or paired farther away than it could be."""
    late = (
        f"SELECT c.block FROM rivalry_{index} c LEFT JOIN paired_{index} p USING ({{0}}_no)\n"
        "GROUP BY c.{0}_no, c.block HAVING coalesce(any_value(p.gap) > min(c.gap), true)"
    )
    left, right = (late.format(side) for side in SIDES)
    return f"{left}\nINTERSECT\n{right}"


def _most_pairs(own: Numbers, other: Numbers, tier: Numbers, is_paired: NDArray[np.bool_]) -> dict[str, Any]:
    """The greatest matching of a bipartite graph given by its edges, as (own, other); nearer tiers first."""
    import numpy as np
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components, maximum_bipartite_matching

    owns, a = np.unique(own, return_inverse=True)
    others, b = np.unique(other, return_inverse=True)
    count = len(owns), len(others)
    mate_of_a, mate_of_b = np.full(count[0], -1), np.full(count[1], -1)
    for current in np.unique(tier):
        near = (tier == current) & is_paired & (mate_of_a[a] < 0) & (mate_of_b[b] < 0)
        mate_of_a[a[near]], mate_of_b[b[near]] = b[near], a[near]
        reached = tier <= current
        if not ((mate_of_a[a[reached]] < 0).any() and (mate_of_b[b[reached]] < 0).any()):
            continue
        edges = np.ones(reached.sum(), dtype=np.int8), (a[reached], b[reached])
        best = maximum_bipartite_matching(csr_array(edges, shape=count), perm_type="column")
        # where both pairings differ they form paths and rings; only a path on which the best has one pair more is taken
        mine, its = np.flatnonzero(mate_of_a >= 0), np.flatnonzero(best >= 0)
        ends = np.concatenate([mine, its]), count[0] + np.concatenate([mate_of_a[mine], best[its]])
        graph = csr_array((np.ones(len(ends[0]), dtype=np.int8), ends), shape=(sum(count), sum(count)))
        paths, path = connected_components(graph, directed=False)
        gain = np.bincount(path[its], minlength=paths) - np.bincount(path[mine], minlength=paths)
        taken = its[gain[path[its]] > 0]
        mate_of_a[taken], mate_of_b[best[taken]] = best[taken], taken
    have = np.flatnonzero(mate_of_a >= 0)
    return {"own": owns[have], "other": others[mate_of_a[have]]}
