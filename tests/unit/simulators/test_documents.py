"""The document store shows the version a clock allows, and only that."""

from __future__ import annotations

import pytest

from tieout_sandbox.simulators.documents import Document, DocumentStore, Query


@pytest.fixture
def store(tmp_path):
    made = DocumentStore.create(tmp_path / "d.sqlite")
    yield made
    made.close()


def document(object_id, visible_at, version=1, stamp=0, **body):
    return Document("stripe", "acct", "customers", object_id, stamp, visible_at, version, body)


def shown(store, now, query=None):
    collection = store.collection("stripe", "acct", "customers")
    return [(r.id, r.version) for r in store.select(collection, now, query or Query(order="id"))]


@pytest.mark.parametrize(
    ("now", "expected"),
    [(9, []), (10, [("a", 1)]), (19, [("a", 1)]), (20, [("a", 2)]), (99, [("a", 3)])],
)
def test_the_newest_visible_version(store, now, expected):
    store.add([document("a", 10), document("a", 20, 2), document("a", 30, 3)])
    store.seal()
    assert shown(store, now) == expected


def test_a_version_that_appears_after_its_successor_is_never_shown(store):
    store.add([document("a", 10), document("a", 50, 2), document("a", 30, 3)])
    store.seal()
    assert [shown(store, now) for now in (10, 30, 50)] == [[("a", 1)], [("a", 3)], [("a", 3)]]


def test_a_version_written_at_run_time_replaces_the_one_before(store):
    store.add([document("a", 10)])
    store.seal()
    store.put(document("a", 40, 2, name="new"))
    assert (shown(store, 39), shown(store, 40)) == ([("a", 1)], [("a", 2)])
    assert store.last_version(store.collection("stripe", "acct", "customers"), "a") == 2


def test_conditions_order_and_slice(store):
    store.add([document(f"c{i}", 1, stamp=i, kind="odd" if i % 2 else "even") for i in range(10)])
    store.seal()
    query = Query(limit=2, offset=1).and_("json_extract(body, '$.kind') = ?", "odd")
    assert shown(store, 1, query) == [("c7", 1), ("c5", 1)]
    collection = store.collection("stripe", "acct", "customers")
    assert store.count(collection, 1) == 10
    assert store.count(collection, 0) == 0


def test_a_file_can_be_opened_again(store, tmp_path):
    store.add([document("a", 10, name="Ä")])
    store.seal()
    store.set_meta("now", 5)
    again = DocumentStore.open(tmp_path / "d.sqlite")
    assert again.meta("now") == 5
    assert again.get(again.collection("stripe", "acct", "customers"), "a", 10).body == {"name": "Ä"}
    again.close()
    with pytest.raises(FileNotFoundError):
        DocumentStore.open(tmp_path / "none.sqlite")
