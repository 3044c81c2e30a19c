"""The status of the indexer, as the response of `status` contains it."""

from ctxfs.index.indexer_status import IndexerState, IndexerStatus, parse_indexer_status, render_indexer_status

RENDERED = {
    IndexerStatus(IndexerState.STARTING): "starting",
    IndexerStatus(IndexerState.SCANNING): "scanning",
    IndexerStatus(IndexerState.INDEXING_WORDS): "indexing words",
    IndexerStatus(IndexerState.EMBEDDING): "embedding",
    IndexerStatus(IndexerState.IDLE): "idle",
    IndexerStatus(IndexerState.RESTARTING): "restarting",
    IndexerStatus(IndexerState.ERROR, "model: not found: x"): "error: model: not found: x",
    IndexerStatus(IndexerState.ERROR): "error: ",
    IndexerStatus(IndexerState.DOWN, "the indexer keeps ending"): "down: the indexer keeps ending",
}


def test_rendered_status_is_the_documented_string_and_parses_back() -> None:
    assert {status.state for status in RENDERED} == set(IndexerState)
    for status, text in RENDERED.items():
        assert render_indexer_status(status) == text
        assert parse_indexer_status(text) == status


def test_state_of_another_version_has_no_status() -> None:
    assert parse_indexer_status("sleeping") is None
    assert parse_indexer_status("") is None
