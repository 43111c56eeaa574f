"""`ctx` in this process, and in two that are joined by gloo: no Ray."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pynvml
import pytest
import torch
from contexts import LocalRun, local_run
from torch import nn
from two_workers import in_two_workers

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.runs import EarlyStop, WorkerUsage
from aiaas_magics.runtime.api import JobApi
from aiaas_magics.runtime.context import Context, current, entered
from aiaas_magics.runtime.early_stopping import EarlyStopping
from aiaas_magics.runtime.surroundings import LocalSurroundings
from aiaas_magics.runtime.usage import UsageSampler


@pytest.fixture
def run(tmp_path: Path) -> Iterator[LocalRun]:
    with local_run(tmp_path) as local:
        yield local


@pytest.fixture
def api(run: LocalRun) -> Iterator[JobApi]:
    with closing(JobApi(run.service.url, run.recorded.job.run_id, run.recorded.token)) as calls:
        yield calls


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def rows(seed: int = 0, count: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] > x[:, 1]).long()


def test_what_is_no_metric_is_refused_in_a_sentence(run: LocalRun) -> None:
    with run.attempt() as ctx:
        for metrics, step in (
            ({"x" * 300: 1.0}, 1),
            ({f"m{n}": 1.0 for n in range(500)}, 1),
            ({"loss": 1.0}, 10**20),
        ):
            with pytest.raises(InvalidInput, match="is not valid"):
                ctx.report(step=step, **metrics)
        with pytest.raises(InvalidInput, match="not a number but str"):
            ctx.report(loss="low")
        ctx.report(step=1, loss=torch.tensor([0.5], requires_grad=True))
    assert run.points == [(1, {"loss": 0.5})]


def test_progress_arrives_and_a_step_below_zero_is_refused(run: LocalRun) -> None:
    with run.attempt() as ctx:
        ctx.progress(1, total=10)
        ctx.progress(3, total=10)
        with pytest.raises(InvalidInput, match="step is not valid"):
            ctx.progress(-1)
    assert run.recorded.progress is not None
    assert (run.recorded.progress.step, run.recorded.progress.total) == (3, 10)


def test_a_checkpoint_goes_back_into_model_and_optimizer(run: LocalRun) -> None:
    x, y = rows()
    with run.attempt() as ctx:
        assert ctx.restore() is None
        model = ctx.prepare(net())
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        nn.functional.cross_entropy(model(x), y).backward()
        ctx.step(optimizer)
        ctx.checkpoint(model=model, optimizer=optimizer, epoch=7)
        after = model(x)
    with run.attempt() as ctx:
        other = net()
        fresh = torch.optim.Adam(other.parameters(), lr=0.5)
        state = ctx.restore(model=other, optimizer=fresh)
        assert state is not None
        assert state["epoch"] == 7
        assert torch.equal(other(x), after)
        assert fresh.param_groups[0]["lr"] == 0.1
        with pytest.raises(InvalidInput, match="has no 'schedule'; it has: model, optimizer"):
            ctx.restore(schedule=fresh)
        with pytest.raises(InvalidInput, match="nothing to save"):
            ctx.checkpoint()


@pytest.mark.parametrize("precision", [None, "bf16", "fp16"])
def test_every_precision_learns_and_keeps_float32_weights(run: LocalRun, precision: Any) -> None:
    x, y = rows(count=256)
    with run.attempt() as ctx:
        model = ctx.prepare(net(), precision=precision)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        for _ in range(60):
            with ctx.autocast():
                logits = model(x)
                loss = nn.functional.cross_entropy(logits, y)
            ctx.backward(loss)
            ctx.step(optimizer, max_norm=1.0)
        expected = {None: torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        assert logits.dtype == expected
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        assert (model(x).argmax(1) == y).float().mean() > 0.9


def test_accumulated_gradients_are_those_of_the_whole_batch(run: LocalRun) -> None:
    x, y = rows()
    with run.attempt() as ctx:
        model, whole = ctx.prepare(net()), net()
        nn.functional.cross_entropy(whole(x), y).backward()
        lasts = []
        for step, (part, truth) in enumerate(zip(x.split(16), y.split(16), strict=True), 1):
            with ctx.accumulate(model, step, every=4) as last:
                ctx.backward(nn.functional.cross_entropy(model(part), truth))
                lasts.append(last)
        for one, other in zip(model.parameters(), whole.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad)
        assert lasts == [False, False, False, True]
        with pytest.raises(InvalidInput, match="over 0 batches"), ctx.accumulate(model, 1, 0):
            pass


@pytest.mark.parametrize(
    ("options", "says"),
    [({"strategy": "zero"}, "not a strategy"), ({"precision": "int8"}, "not a precision")],
)
def test_an_unknown_way_to_prepare_is_refused(
    run: LocalRun, options: dict[str, Any], says: str
) -> None:
    with run.attempt() as ctx, pytest.raises(InvalidInput, match=says) as refusal:
        ctx.prepare(net(), **options)
    assert "Use " in refusal.value.remedy


@pytest.mark.parametrize(
    ("rule", "values", "stops_after"),
    [
        (EarlyStop(metric="loss", patience=2), [3.0, 2.0, 2.5, 2.0, 1.0], 4),
        (EarlyStop(metric="loss", patience=2), [3.0, 2.0, 2.5, 1.9, 1.8, 1.7], None),
        (EarlyStop(metric="loss", patience=2, min_delta=0.5), [3.0, 2.8, 2.7, 1.0], 3),
        (EarlyStop(metric="loss", patience=1), [float("nan"), 1.0], 1),
        (EarlyStop(metric="loss", patience=9, threshold=0.1), [3.0, 0.1], 2),
        (EarlyStop(metric="acc", mode="max", patience=2), [0.5, 0.6, 0.6, 0.55], 4),
        (EarlyStop(metric="acc", mode="max", threshold=0.9), [0.5, 0.95], 2),
    ],
)
def test_early_stop_counts_reports_without_an_improvement(
    rule: EarlyStop, values: list[float], stops_after: int | None
) -> None:
    early = EarlyStopping(rule)
    stopped = None
    for count, value in enumerate(values, 1):
        early.observe({"other": 0.0})
        early.observe({rule.metric: value})
        if early.reason is not None and stopped is None:
            stopped = count
    assert stopped == stops_after


def test_a_run_stops_early_and_says_why_once(
    run: LocalRun, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = EarlyStop(metric="accuracy", mode="max", threshold=0.9)
    with run.attempt(early_stop=rule) as ctx:
        assert not ctx.should_stop
        ctx.report(accuracy=0.95)
        assert ctx.should_stop
        ctx.report(accuracy=0.1)
        assert ctx.should_stop
    out = capsys.readouterr().out
    assert out.splitlines() == ["[aiaas] stopping: accuracy reached 0.95 (the threshold is 0.9)"]


def test_an_early_stop_by_a_metric_that_never_comes_is_told(
    run: LocalRun, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = EarlyStop(metric="acc", mode="max", threshold=0.9)
    for metric in ("accuracy", "acc"):
        with run.attempt(early_stop=rule) as ctx, entered(ctx):
            ctx.report(**{metric: 0.5})
    out = capsys.readouterr().out
    assert out == "[aiaas] early stop waited in vain: no report had 'acc'; they had accuracy\n"


def test_a_run_stops_at_its_time_limit(run: LocalRun, capsys: pytest.CaptureFixture[str]) -> None:
    with run.attempt(time_limit=3600) as ctx:
        assert not ctx.should_stop
    with run.attempt(time_limit=0) as ctx:
        assert ctx.should_stop
    # Its attempt began in another worker's time.
    with run.attempt(time_limit=3600, time_left=0) as ctx:
        assert ctx.should_stop
    assert "time limit of 0 s is over" in capsys.readouterr().out


def test_another_workers_reason_is_told_as_what_it_is(
    run: LocalRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Worker 1's clock struck first."""
    with run.attempt(time_limit=3600) as ctx:
        ctx.world_size = 2
        monkeypatch.setattr("torch.distributed.all_reduce", lambda flag, op: flag.fill_(2))
        assert ctx.should_stop
    assert "time limit of 3600 s is over" in capsys.readouterr().out


def test_a_script_finds_the_context_of_its_run_and_no_other(run: LocalRun) -> None:
    with pytest.raises(InvalidInput, match="There is no run here"):
        current()
    with run.attempt() as ctx, entered(ctx):
        assert current() is ctx
    with pytest.raises(InvalidInput, match="There is no run here"):
        current()


def test_a_worker_tells_what_it_uses(run: LocalRun, api: JobApi) -> None:
    sampler = UsageSampler(api.send_usage, 3, interval=0.01)
    sampler.start()
    until(lambda: len(run.recorded.usage) >= 2)
    sampler.close()
    until(lambda: not sampler.is_alive)
    sample: WorkerUsage = run.recorded.usage[-1]
    assert sample.worker == 3
    assert 10_000_000 < sample.memory_bytes < sample.memory_total_bytes
    assert sample.gpu_percent is None


class _ManagementLibrary:
    """In place of NVIDIA's libnvidia-ml.so, as NVIDIA's own Python calls it: one GPU."""

    def __init__(self, status: int) -> None:
        self._status = status

    def nvmlInitWithFlags(self, flags: int) -> int:  # noqa: N802 - NVIDIA's names
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: object, handle: object) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetUtilizationRates(self, handle: object, rates: Any) -> int:  # noqa: N802
        rates._obj.gpu, rates._obj.memory = 55, 20
        return self._status


@pytest.mark.parametrize(
    ("status", "percent"), [(pynvml.NVML_SUCCESS, 55.0), (pynvml.NVML_ERROR_NOT_SUPPORTED, None)]
)
def test_a_worker_tells_what_it_uses_of_its_gpu(
    monkeypatch: pytest.MonkeyPatch, status: int, percent: float | None
) -> None:
    monkeypatch.setattr(pynvml, "nvmlLib", _ManagementLibrary(status))
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    # What CUDA itself would say.
    for name, said in (
        ("is_available", True),
        ("is_initialized", True),
        ("current_device", 0),
        ("memory_reserved", 3 << 30),
    ):
        monkeypatch.setattr(torch.cuda, name, lambda said=said: said)
    sample = UsageSampler(lambda _: None, 0).sample()
    # A GPU that is divided among several has no figure of its own, and its memory is known.
    assert (sample.gpu_percent, sample.gpu_memory_bytes) == (percent, 3 << 30)


def test_a_sampler_goes_on_without_the_service_and_ends_with_the_run(
    run: LocalRun, api: JobApi
) -> None:
    run.service.unavailable = True
    sampler = UsageSampler(api.send_usage, 0, interval=0.01)
    sampler.start()
    refused = run.service.refused
    until(lambda: run.service.refused > refused)
    assert sampler.is_alive
    run.service.unavailable = False
    until(lambda: bool(run.recorded.usage))
    run.recorded.cancelled = True
    until(lambda: not sampler.is_alive)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def train_together(ctx: Context) -> dict[str, Any]:
    """Train on a half each, checkpoint, and go on in a model and optimizer of other values."""
    torch.manual_seed(ctx.rank)
    strategy: Any = ctx.params.strategy
    data, truth = (tensor[ctx.rank :: ctx.world_size] for tensor in rows(count=128))

    def fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
        blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))

        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.into, self.blocks, self.out = nn.Linear(4, 8), blocks, nn.Linear(8, 2)

            def forward(self, features: torch.Tensor) -> torch.Tensor:
                hidden = self.into(features)
                for block in self.blocks:
                    hidden = torch.tanh(block(hidden))
                return self.out(hidden)

        model = ctx.prepare(Net(), strategy=strategy, precision="bf16")
        return model, torch.optim.AdamW(model.parameters(), lr=0.03)

    model, optimizer = fresh()
    for step in range(1, 81):
        with ctx.accumulate(model, step, every=2) as last, ctx.autocast():
            ctx.backward(nn.functional.cross_entropy(model(data).float(), truth))
            if last:
                ctx.step(optimizer, max_norm=5.0)
    ctx.checkpoint(model=model, optimizer=optimizer, epoch=1)
    with torch.no_grad():
        accuracy = float((model(data).argmax(1) == truth).float().mean())
        before = model(data)
        again, its_optimizer = fresh()
        state = ctx.restore(model=again, optimizer=its_optimizer)
        assert state is not None
        difference = float((again(data) - before).abs().max())
    whole = ctx.whole(model)
    # Only one worker has a reason; both stop.
    ctx.report(loss=0.0 if ctx.rank == 0 else 1.0)
    stops = ctx.should_stop
    if ctx.rank == 0:
        with torch.no_grad():
            difference = max(difference, float((whole(data) - before).abs().max()))
    ctx.save_model(model, data[:2], data, licence="MIT", metrics={"f1": 1.0})
    moments = sum(len(group["params"]) for group in its_optimizer.param_groups)
    return {
        "accuracy": accuracy,
        "difference": difference,
        "stops": stops,
        "epoch": state["epoch"],
        "kept": sum(parameter.numel() for parameter in _local(model)),
        "restored": len(its_optimizer.state) == moments,
    }


def _local(model: nn.Module) -> list[torch.Tensor]:
    return [getattr(parameter, "_local_tensor", parameter) for parameter in model.parameters()]


def test_two_workers_train_one_model(run: LocalRun) -> None:
    rule = EarlyStop(metric="loss", threshold=0.5)
    jobs = [
        run.recorded.job.model_copy(update={"early_stop": rule, "params": {"strategy": strategy}})
        for strategy in ("ddp", "fsdp")
    ]

    results = in_two_workers(run, jobs, train_together)

    everything = 4 * 8 + 8 + 2 * (8 * 8 + 8) + 8 * 2 + 2
    # Copies, then shards.
    for kept, *workers in zip((2 * everything, everything), *results, strict=True):
        for worker in workers:
            assert worker["accuracy"] > 0.85
            assert worker["difference"] < 1e-5
            assert worker["stops"] is True
            assert worker["epoch"] == 1
            assert worker["restored"]
        assert sum(worker["kept"] for worker in workers) == kept
    (answer,) = run.model().run(None, {"features": np.ones((5, 4), np.float32)})
    assert answer.shape == (5, 2)
    assert run.recorded.model is not None
    assert run.recorded.model["card"] == {"description": "", "licence": "MIT", "metrics": {"f1": 1}}


def test_there_is_a_whole_checkpoint_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    made.mkdir()
    kept = tmp_path / "kept"
    surroundings = LocalSurroundings(kept)

    def report(value: str) -> None:
        (made / "value").write_text(value)
        surroundings.report({}, made)

    def last() -> str:
        with LocalSurroundings(kept).last_checkpoint() as directory:
            assert directory is not None
            return (directory / "value").read_text()

    report("first")
    report("second")
    assert (last(), len(list(kept.iterdir()))) == ("second", 1)

    def killed(*_: object, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            raise KeyboardInterrupt

    for step, then in ((Path, "rename"), (shutil, "copytree")):
        with monkeypatch.context() as patch:
            patch.setattr(step, then, killed)
            with pytest.raises(KeyboardInterrupt):
                report("third")
        assert last() == "second"
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            report("fourth")
    assert last() == "fourth"
    for number in range(5, 12):
        report(str(number))
    assert (last(), len(list(kept.iterdir()))) == ("11", 1)


def test_another_directory_has_no_checkpoint(tmp_path: Path) -> None:
    with LocalSurroundings(tmp_path).last_checkpoint() as directory:
        assert directory is None
