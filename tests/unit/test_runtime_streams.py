"""A run's log and metrics on their way to the service."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from aiaas_hub.schemas.jobs import JobLog, JobMetrics
from aiaas_magics.errors import RunOver
from aiaas_magics.runtime import logs
from aiaas_magics.runtime.logs import TAIL, LogBuffer, LogShipper, pause_after
from aiaas_magics.runtime.metrics import MetricSender


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def drain(buffer: LogBuffer) -> str:
    text = ""
    while (piece := buffer.peek()) is not None:
        assert piece.offset == len(text.encode())
        text += piece.text
        buffer.confirm()
    return text


def test_a_character_split_between_two_reads_stays_whole() -> None:
    buffer = LogBuffer()
    first, second = "grün\n".encode()[:3], "grün\n".encode()[3:]
    buffer.feed(first)
    buffer.feed(second)
    assert drain(buffer) == "grün\n"


def test_bytes_that_are_no_text_become_text() -> None:
    buffer = LogBuffer()
    buffer.feed(b"a\xffb\xc3", final=True)
    assert drain(buffer) == "a\ufffdb\ufffd"


def test_a_piece_is_the_same_until_it_is_confirmed() -> None:
    buffer = LogBuffer()
    buffer.feed(b"one\n")
    first = buffer.peek()
    buffer.feed(b"two\n")
    assert buffer.peek() == first
    buffer.confirm()
    assert buffer.peek() == JobLog(offset=4, text="two\n")


def test_a_flood_is_cut_with_its_latest_lines_kept() -> None:
    clock = Clock()
    buffer = LogBuffer(rate=1000, burst=2000, tail=100, clock=clock)
    for number in range(10_000):
        buffer.feed(b"line %06d\n" % number)
    clock.now = 10
    text = drain(buffer)
    assert text.startswith("line 000000\n")
    assert "are left out here" in text
    assert text.endswith("line 009999\n")
    assert len(text) < 2500
    kept = [line for line in text.splitlines() if line.startswith("line ")]
    assert all(len(line) == len("line 000000") for line in kept)
    missing = int(text.partition("[aiaas] ")[2].split()[0])
    assert len(kept) + missing == 10_000


def test_what_waits_for_a_service_that_is_down_is_bounded() -> None:
    clock = Clock()
    buffer = LogBuffer(rate=10**9, burst=10**9, capacity=10_000, tail=1000, clock=clock)
    for number in range(100_000):
        buffer.feed(b"line %06d\n" % number)
    text = drain(buffer)
    buffer.feed(b"", final=True)
    rest = buffer.peek()
    assert rest is not None
    assert len(text) <= 10_000
    assert "are left out here" in rest.text
    assert rest.text.endswith("line 099999\n")


def test_a_flood_is_sent_in_fewer_pieces() -> None:
    # What somebody may read along comes at once.
    assert pause_after(0) == pause_after(TAIL) < pause_after(TAIL + 1)


_SHIPPED = """
import os, sys, subprocess
from aiaas_magics.runtime.logs import LogShipper

received = []
failures = [True]
def send(piece):
    received.append(piece)
shipper = LogShipper(send)
print("from python")
sys.stderr.write("from stderr\\n")
os.write(1, b"from the descriptor\\n")
subprocess.run(["sh", "-c", "echo from a child"], check=True)
# A child that outlives the run must not keep it from ending.
subprocess.Popen(["sleep", "30"])
shipper.settle(limit=1)
shipper.close(timeout=5)
text = "".join(piece.text for piece in received)
print("AFTER", sorted(text.split("\\n")))
"""


@pytest.mark.parametrize("system", ["", "import fcntl; del fcntl.F_SETPIPE_SZ"])
def test_everything_that_reaches_the_descriptors_is_shipped(system: str) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", f"{system}\n{_SHIPPED}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert done.stdout.startswith("AFTER ")
    for said in ("from python", "from stderr", "from the descriptor", "from a child"):
        assert said in done.stdout
    assert time.monotonic() - began < 40


class Sink:
    def __init__(self) -> None:
        self.batches: list[JobMetrics] = []
        self.open = threading.Event()
        self.error: Exception | None = None

    def __call__(self, batch: JobMetrics) -> None:
        self.open.wait(10)
        if self.error is not None:
            raise self.error
        self.batches.append(batch)


def test_metrics_are_numbered_without_gaps_and_all_sent_at_the_end() -> None:
    sink = Sink()
    sink.open.set()
    sender = MetricSender(sink, attempt_began=time.time(), interval=0.05)
    for step in range(500):
        sender.put(step, {"loss": 1.0 / (step + 1)})
        if step % 200 == 0:
            time.sleep(0.1)  # so that there are several batches
    sender.close()
    assert len(sink.batches) > 1
    expected = sink.batches[0].sequence
    for batch in sink.batches:
        assert batch.sequence == expected
        expected += len(batch.points)
    assert [point.step for batch in sink.batches for point in batch.points] == list(range(500))


def test_flushed_metrics_are_with_the_service() -> None:
    sink = Sink()
    sink.open.set()
    sender = MetricSender(sink, attempt_began=time.time(), interval=60)
    for step in range(3):
        sender.put(step, {"loss": 1})
        sender.flush()
        assert sink.batches[-1].points[-1].step == step
    sink.open.clear()
    sender.put(3, {"loss": 1})
    sender.flush(timeout=0.01)
    # The service is down: training does not wait for it every time.
    began = time.monotonic()
    sender.flush(timeout=60)
    assert time.monotonic() - began < 30
    sink.open.set()
    sender.close()
    assert [point.step for batch in sink.batches for point in batch.points] == [0, 1, 2, 3]


def test_what_comes_while_points_are_sent_waits_for_the_next_batch() -> None:
    batches: list[list[int]] = []

    def send(batch: JobMetrics) -> None:
        batches.append([point.step for point in batch.points])
        if len(batches) < 5:
            sender.put(len(batches), {"loss": 1})
        sent.set()

    sent = threading.Event()
    sender = MetricSender(send, attempt_began=time.time(), interval=60)
    sender.put(0, {"loss": 1})
    # The first at once.
    assert sent.wait(10)
    time.sleep(0.1)
    # Each would be a request; a step takes less time than one.
    assert batches == [[0]]
    # Who waits for all points gets them all.
    sender.flush()
    assert batches == [[0], [1], [2], [3], [4]]
    sender.close()


def test_what_comes_while_a_piece_is_sent_waits_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logs, "pause_after", lambda sent: 60)
    pieces: list[str] = []

    def send(piece: JobLog) -> None:
        pieces.append(piece.text)
        if len(pieces) < 5:
            shipper.write(b"%d\n" % len(pieces))

    shipper = LogShipper(send)
    try:
        shipper.write(b"0\n")
        shipper.flush()
        time.sleep(0.1)
        said = list(pieces)
    finally:
        shipper.close()
    assert said == ["0\n"]
    assert pieces == ["0\n", "1\n", "2\n", "3\n", "4\n"]


def test_a_flushed_log_is_with_the_service() -> None:
    arrived: list[str] = []
    up = threading.Event()
    up.set()

    def send(piece: JobLog) -> None:
        up.wait(10)
        arrived.append(piece.text)

    shipper = LogShipper(send)
    try:
        for number in range(20):
            shipper.write(b"line %d\n" % number)
            shipper.flush(timeout=60)
            assert arrived[-1].endswith(f"line {number}\n")
        up.clear()
        shipper.write(b"last\n")
        shipper.flush(timeout=0.01)
        # The service is down: nobody waits for it every time.
        began = time.monotonic()
        shipper.flush(timeout=60)
        assert time.monotonic() - began < 30
    finally:
        up.set()
        shipper.close()
    assert "".join(arrived) == "".join(f"line {number}\n" for number in range(20)) + "last\n"


def test_a_later_worker_of_the_attempt_numbers_above_the_one_before() -> None:
    sink = Sink()
    sink.open.set()
    for began in (time.time(), time.time() - 60):
        sender = MetricSender(sink, attempt_began=began)
        sender.put(1, {"loss": 1})
        sender.close()
    assert sink.batches[1].sequence >= sink.batches[0].sequence + 50_000_000


def test_metrics_for_a_service_that_is_down_are_thinned_and_the_newest_stays() -> None:
    sink = Sink()
    sender = MetricSender(sink, attempt_began=time.time(), interval=0.01, capacity=100)
    for step in range(1000):
        sender.put(step, {"loss": 1})
    sink.open.set()
    sender.close()
    steps = [point.step for batch in sink.batches for point in batch.points]
    assert len(steps) <= 220
    assert steps[-1] == 999
    assert steps == sorted(steps)


def test_metrics_of_a_run_that_is_over_stop_quietly() -> None:
    sink = Sink()
    sink.error = RunOver("cancelled")
    sink.open.set()
    sender = MetricSender(sink, attempt_began=time.time())
    sender.put(1, {"loss": 1})
    sender.close()
    sender.put(2, {"loss": 1})
    assert sink.batches == []
