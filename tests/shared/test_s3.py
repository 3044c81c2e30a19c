"""Object storage as an engine: refusals, silence, hostile objects and races, over SeaweedFS."""

import errno
import hashlib
import io
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from ctxfs.model.errors import CommandError
from ctxfs.shared.engines import open_log
from ctxfs.shared.entries import MAX_ENTRY_BYTES
from ctxfs.shared.log import ANSWER_SECONDS, TURN, LogDamaged, LogRefused, Unreachable
from tests.shared.engines import PASSWORD, Proxy
from tests.shared.seaweedfs import ACCESS_KEY, SeaweedFs
from tests.shared.writer import entry_after

pytest.importorskip("obstore")
from ctxfs.shared.object_storage import Bucket, parse_address

KEY = {"AWS_ACCESS_KEY_ID": ACCESS_KEY}


@pytest.fixture
def bucket(seaweedfs: SeaweedFs) -> Bucket:
    return Bucket(parse_address(seaweedfs.url()), PASSWORD, KEY)


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("s3://", "does not name a bucket"),
        ("s3://Upper", "does not name a bucket"),
        ("s3://key:secret-word@memory/x", "holds credentials"),
        ("s3://memory/a/../b", "prefix"),
        ("s3://memory/a%20b", "prefix"),
        ("s3://memory/x?endpoint=ftp://host", "endpoint"),
        ("s3://memory/x?endpoint=http://a:secret-word@host", "endpoint"),
        ("s3://memory/x?endpoint=http://host:99999", "endpoint"),
        ("s3://memory/x?secret=secret-word", "option 'secret'"),
    ],
)
def test_wrong_url_of_a_bucket_is_refused_with_its_fault(url: str, cause: str) -> None:
    with pytest.raises(CommandError, match=cause) as error:
        open_log(url, "store", create=True)
    assert "secret-word" not in str(error.value) + error.value.remedy


def test_missing_credentials_are_named_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    with pytest.raises(LogRefused, match="needs credentials") as error:
        open_log("s3://memory/x?endpoint=http://127.0.0.1:1", "store")
    assert "AWS_SECRET_ACCESS_KEY" in error.value.remedy


def test_wrong_credentials_are_refused_without_naming_them(
    seaweedfs: SeaweedFs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, secret in ((ACCESS_KEY, "secret-word"), ("unknown-key", PASSWORD)):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        with pytest.raises(LogRefused, match="status 403") as error:
            open_log(seaweedfs.url(), "store", secret, create=True)
        assert not any(word in str(error.value) + error.value.remedy for word in (key, secret))


def test_secret_key_is_read_from_the_environment(
    seaweedfs: SeaweedFs, store_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PASSWORD)
    assert open_log(seaweedfs.url(), store_name, create=True).head().number == 0


def test_endpoint_that_is_not_there_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    with pytest.raises(Unreachable):
        open_log("s3://memory/x?endpoint=http://127.0.0.1:1", "store", "x")


@pytest.mark.long
def test_silent_endpoint_is_noticed_within_five_seconds_and_used_again_when_it_answers(
    seaweedfs: SeaweedFs, store_name: str
) -> None:
    proxy = Proxy(seaweedfs.port)
    log = open_log(seaweedfs.url(proxy.port), store_name, PASSWORD, create=True)
    name = hashlib.sha256(b"x").hexdigest()
    acts: list[Callable[[], object]] = [
        log.head,
        lambda: log.wait(0, 1),
        lambda: log.append(entry_after(log)),
        lambda: log.put(name, io.BytesIO(b"x")),
    ]
    try:
        log.append(entry_after(log))
        proxy.cut()
        for act in acts:
            started = time.monotonic()
            with pytest.raises(Unreachable):
                act()
            assert time.monotonic() - started < ANSWER_SECONDS + 1
        proxy.heal()
        with log.lease(TURN):
            log.append(entry_after(log))
        assert log.head().number == 2
    finally:
        proxy.close()


@pytest.mark.parametrize("condition", ["absent", "unchanged"])
def test_one_of_sixteen_writers_to_one_key_succeeds(
    seaweedfs: SeaweedFs, bucket: Bucket, store_name: str, condition: str
) -> None:
    """The others are refused, or give up: the storage makes them wait for its lock."""
    buckets = [Bucket(parse_address(seaweedfs.url()), PASSWORD, KEY) for _ in range(16)]
    etag = bucket.write(f"{store_name}/key", b"before") if condition == "unchanged" else ""
    barrier = threading.Barrier(len(buckets))

    def write(number: int) -> bool:
        barrier.wait(30)
        try:
            data = b"%d" % number
            if etag:
                buckets[number].replace(f"{store_name}/key", data, etag)
            else:
                buckets[number].create(f"{store_name}/key", data)
        except (FileExistsError, Unreachable):
            return False
        return True

    with ThreadPoolExecutor(len(buckets)) as executor:
        won = [number for number, success in enumerate(executor.map(write, range(len(buckets)))) if success]
    assert len(won) == 1
    stored = bucket.read(f"{store_name}/key", 10)
    assert stored is not None
    assert stored.data == b"%d" % won[0]


def test_objects_that_no_node_has_written_are_refused(seaweedfs: SeaweedFs, bucket: Bucket, store_name: str) -> None:
    log = open_log(seaweedfs.url(), store_name, PASSWORD, create=True)
    first = entry_after(log)
    log.append(first)
    for data, cause in ((b"\x91\x01", "format"), (os.urandom(MAX_ENTRY_BYTES + 1), "more than")):
        bucket.write(f"{store_name}/entries/000000000002", data)
        with pytest.raises(LogDamaged, match=cause):
            open_log(seaweedfs.url(), store_name, PASSWORD).entries(0, 10)
    name = hashlib.sha256(b"x").hexdigest()
    bucket.write(f"{store_name}/contents/{name}", os.urandom(1_000_001))
    with pytest.raises(OSError, match="damaged") as error:
        log.get(name, io.BytesIO(), 1 << 30)
    assert error.value.errno == errno.EIO


def test_newest_of_many_entries_is_found_from_any_point(seaweedfs: SeaweedFs, store_name: str) -> None:
    writer = open_log(seaweedfs.url(), store_name, PASSWORD, create=True)
    behind = open_log(seaweedfs.url(), store_name, PASSWORD)
    for number in range(1, 24):
        writer.append(entry_after(writer))
        assert open_log(seaweedfs.url(), store_name, PASSWORD).head() == writer.head()
        if number % 5 == 0:
            assert behind.head() == writer.head()
    assert [entry.number for entry in behind.entries(2, 20)] == list(range(3, 23))


def test_rewritten_newest_entry_is_noticed(seaweedfs: SeaweedFs, bucket: Bucket, store_name: str) -> None:
    """An engine that was restored from a backup holds another entry under the number."""
    log, other = (open_log(seaweedfs.url(), name, PASSWORD, create=True) for name in (store_name, f"{store_name}-b"))
    log.append(entry_after(log))
    log.head()
    other.append(entry_after(other, "another"))
    stored = bucket.read(f"{store_name}-b/entries/000000000001", MAX_ENTRY_BYTES)
    assert stored is not None
    changed = stored.data.replace(b"0" * 39 + b"1", b"0" * 39 + b"9")
    assert changed != stored.data
    bucket.write(f"{store_name}/entries/000000000001", changed)
    assert log.head().commit.endswith("9")


def test_missing_bucket_is_named(seaweedfs: SeaweedFs) -> None:
    with pytest.raises(LogRefused, match="no bucket 's3://not-there'"):
        open_log(seaweedfs.url(bucket="not-there"), "store", PASSWORD)
