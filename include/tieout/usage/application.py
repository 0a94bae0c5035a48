"""The program that spark-submit starts: `spark-submit application.py REQUEST`, the URI of a request (`handed`).

Needs this package and `requirements-spark.txt` where the driver runs, nothing where the executors run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> None:
    """Sum up what the request names, and answer it."""
    from tieout.lake.spark import spark
    from tieout.usage.handed import Request
    from tieout.usage.summary import aggregate

    (uri,) = arguments
    asked = Request.read(uri)
    with spark(None, f"{asked.folder}/work", name="tieout usage") as session:
        asked.answer(
            aggregate(
                asked.events,
                asked.subscriptions,
                asked.subscription_items,
                asked.products,
                entities=asked.entities,
                meters=asked.meters,
                former_prices=asked.former_prices,
                billed=asked.billed_periods(),
                until=asked.until,
                session=session,
            )
        )


if __name__ == "__main__":
    main(sys.argv[1:])
