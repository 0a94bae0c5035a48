"""Usage handed to a cluster: what is asked and answered survives being a file, and half an answer is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tieout.errors import DataError
from tieout.lake.engine import engine
from tieout.usage import Usage, aggregate
from tieout.usage.handed import Request

sys.path.insert(0, str(Path(__file__).parents[2] / "integration" / "usage"))
from events import ENTITIES, METERS, generate


@pytest.fixture
def asked(tmp_path: Path) -> tuple[Request, Usage]:
    with engine() as session:
        given = generate(session, tmp_path / "events", 500, parts=2)
        usage = aggregate(**given, session=session)
    files = {
        name: [paths] if isinstance(paths, str) else paths
        for name, paths in given.items()
        if isinstance(paths, str | list)
    }
    return Request(**files, entities=ENTITIES, meters=METERS, snapshot={}, folder=str(tmp_path / "handed")), usage


def test_a_request_is_read_as_it_was_written_and_so_is_its_answer(asked):
    request, usage = asked
    assert Request.read(request.write()) == request
    request.answer(usage)
    assert request.answered() == usage


def test_without_its_last_file_there_is_no_answer(asked):
    request, usage = asked
    request.answer(usage)
    (Path(request.folder) / "counts.json").unlink()
    with pytest.raises(DataError, match=r"the cluster gave no answer.*spark-submit"):
        request.answered()
    request.forget()
    assert not Path(request.folder).exists()
