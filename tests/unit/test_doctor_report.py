"""Test the reports of the checks: only failed ones, from one process for some minutes, and a reason if there are none."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from ctxfs.services.doctor import MAX_AGE_SECONDS, Doctor, Report
from ctxfs.store.layout import Layout

CHECKS = [
    {"name": "disk", "ok": True, "detail": "9 GB free", "remedy": ""},
    {"name": "fuse", "ok": False, "detail": "no /dev/fuse", "remedy": "modprobe fuse"},
]
COUNTED = "import sys; open(sys.argv[1], 'a').write('x'); print(sys.argv[2]); sys.exit(6)"


class Checks:
    """A program that writes the checks, and counts its runs."""

    def __init__(self, folder: Path, output: str = json.dumps(CHECKS)) -> None:
        self.runs = folder / "runs"
        self.now = 0.0
        self.doctor = Doctor(
            Layout(folder), [sys.executable, "-c", COUNTED, str(self.runs), output], clock=lambda: self.now
        )

    def count(self) -> int:
        return len(self.runs.read_text())


def test_report_has_only_failed_checks_with_their_remedies(tmp_path: Path) -> None:
    report = trio.run(Checks(tmp_path).doctor.report)
    assert report.checks == 2
    assert [(finding.name, finding.detail, finding.remedy) for finding in report.findings] == [
        ("fuse", "no /dev/fuse", "modprobe fuse")
    ]
    assert not report.fault


def test_report_is_kept_for_some_minutes_unless_a_newer_one_is_wanted(tmp_path: Path) -> None:
    checks = Checks(tmp_path)

    async def read_at(now: float, *age: float) -> int:
        checks.now = now
        await checks.doctor.report(*age)
        return checks.count()

    assert trio.run(read_at, 0.0) == 1
    assert trio.run(read_at, MAX_AGE_SECONDS - 1) == 1
    assert trio.run(read_at, MAX_AGE_SECONDS) == 2
    assert trio.run(read_at, MAX_AGE_SECONDS, 0.0) == 3


def test_requests_at_once_share_one_process(tmp_path: Path) -> None:
    checks = Checks(tmp_path)

    async def ask_together() -> Sequence[Report]:
        reports: list[Report] = []

        async def ask() -> None:
            reports.append(await checks.doctor.report())

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
        return reports

    assert len(set(map(id, trio.run(ask_together)))) == 1
    assert checks.count() == 1


@pytest.mark.parametrize("output", ["", "not JSON", "[1]", '[{"name": "x"}]', "[" * 100_000])
def test_output_of_another_form_is_a_fault_and_no_clean_report(tmp_path: Path, output: str) -> None:
    report = trio.run(Checks(tmp_path, output).doctor.report)
    assert "ended with 6" in report.fault
    assert not report.findings


def test_checks_that_cannot_start_or_do_not_end_are_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cannot be started" in trio.run(Doctor(Layout(tmp_path), ["/no/such/program"]).report).fault
    monkeypatch.setattr("ctxfs.services.doctor._TIMEOUT_SECONDS", 0.2)
    assert "did not end" in trio.run(Doctor(Layout(tmp_path), ["sleep", "60"]).report).fault
    assert "ended with" in trio.run(Doctor(Layout(tmp_path), ["yes"]).report).fault
