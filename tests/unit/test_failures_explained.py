"""Failures explained: the real exceptions of the real libraries, as training code raises them."""

from __future__ import annotations

import datetime
import importlib
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.exceptions
import torch
from ray.core.generated.common_pb2 import ActorDiedErrorContext
from ray.train import WorkerGroupError
from torch import distributed

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.jobs import Job
from aiaas_hub.schemas.runs import PinnedDataset, Resources, RunError, Snapshot
from aiaas_magics.runtime import failures, sweep

PARAMS = {"lr": 0.1, "batch_size": 64}


def a_job(
    params: dict[str, Any] | None = None,
    entry: str = "cell.py",
    *,
    workers: int = 1,
    retries: int = 0,
) -> Job:
    return Job(
        run_id="run-1",
        attempt=1,
        name="cnn",
        owner="ada",
        snapshot=Snapshot(digest="0" * 64, entry=entry, python="3.11", client="0"),
        datasets=[PinnedDataset(owner="ada", name="digits", version=1)],
        params=PARAMS if params is None else params,
        resources=Resources(workers=workers),
        retries=retries,
    )


def fails(body: str, job: Job | None = None) -> RunError:
    """What is said of a cell whose `train` has this body."""
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    source = (
        f"import torch, numpy as np, pandas as pd\nfrom torch import nn\ndef train():\n{indented}"
    )
    failures.remember_source("cell.py", source)
    cell: dict[str, Any] = {}
    exec(compile(source, "cell.py", "exec"), cell)  # noqa: S102  (as a worker does)
    try:
        cell["train"]()
    except BaseException as error:
        return failures.describe(error, ("cell.py",), job or a_job())
    raise AssertionError("the cell did not fail")


@pytest.mark.parametrize(
    ("body", "says", "remedy"),
    [
        ("nn.Linear(20, 5)(torch.zeros(32, 10))",
         "the layer takes 20 features and its input of 32x10 has 10", "nn.Linear(10, 5)"),
        ("nn.Conv2d(3, 8, 3)(torch.zeros(4, 1, 8, 8))",
         "takes 3 channels and its input [4, 1, 8, 8] has 1", "for 1 channels"),
        ("nn.Conv2d(3, 8, 3)(torch.zeros(4, 8))", "got [4, 8]", "unsqueeze"),
        ("torch.zeros(3) + torch.zeros(4)", "3 and 4 values in dimension 0", "Print both"),
        ("torch.zeros(10).view(3, 4)", "10 values cannot be viewed as [3, 4]", "view(len(x), -1)"),
        ("nn.functional.cross_entropy(torch.zeros(4, 3), torch.zeros(5, dtype=torch.long))",
         "output has 4 rows and the target 5", "first dimension"),
        ("nn.functional.cross_entropy(torch.zeros(4, 3), torch.tensor([0, 1, 2, 7]))",
         "class 7", "one output for each class"),
        ("nn.functional.cross_entropy(torch.zeros(4, 3), torch.zeros(4, 1, dtype=torch.long))",
         "a dimension too many", "squeeze(1)"),
        ("nn.functional.binary_cross_entropy(torch.rand(4, 1), torch.rand(4))",
         "the target is [4] and the model's output [4, 1]", "squeeze(1)"),
        ("nn.functional.binary_cross_entropy_with_logits(torch.rand(4, 1), torch.rand(4))",
         "the target is [4] and the model's output [4, 1]", "squeeze(1)"),
        ("nn.BatchNorm1d(4)(torch.zeros(2, 5))", "for 4 features and its input has 5", "for 5"),
        ("nn.BatchNorm1d(4)(torch.zeros(1, 4))", "batch of one row", "drop_last=True"),
        ("nn.LayerNorm(4)(torch.zeros(2, 5))", "takes [4] and its input is [2, 5]", "last"),
        ("nn.LSTM(4, 2)(torch.zeros(2, 3, 5))", "takes 4 features and its input has 5",
         "input_size=5"),
        ("nn.Embedding(4, 2)(torch.tensor([9]))", "embedding", "num_embeddings"),
        ("torch.stack([torch.zeros(2), torch.zeros(3)])", "[2] and [3]", "Pad"),
        ("torch.cat([torch.zeros(2, 2), torch.zeros(3, 3)])", "2 and 3 values", "dimension 0"),
        ("nn.Linear(2, 2).load_state_dict(nn.Linear(3, 3).state_dict())",
         "not one of this Linear: size mismatch for weight", "without restoring"),
        ("np.zeros(3) + np.zeros(4)", "could not be broadcast", "Print the shapes"),
        ("np.zeros((2, 3)) @ np.zeros((2, 3))", "core dimension", "Print the shapes"),
        ("nn.Linear(2, 2)(torch.zeros(2, 2, dtype=torch.double))",
         "the input is Double and the layer Float", "x.float()"),
        ("nn.Conv1d(2, 2, 1)(torch.zeros(2, 2, 2, dtype=torch.double))",
         "the input is double and the layer float", "x.float()"),
        ("nn.functional.cross_entropy(torch.zeros(2, 3), torch.tensor([0, 1.]))",
         "Long or Byte is expected and Float was given", "target.long()"),
        ("nn.Embedding(4, 2)(torch.tensor([1.0]))", "Long, Int is expected and FloatTensor",
         "x.long()"),
        ("torch.from_numpy(np.array(['a'], dtype=object))", "cannot become a tensor", "Encode"),
        ("torch.zeros(2, device='cuda')", "no GPU", "ctx.device"),
        ("torch.zeros(2).backward()", "does not depend on any trainable weight", "no_grad"),
        ("x = torch.ones(2, requires_grad=True)\ny = (x * x).sum()\ny.backward()\ny.backward()",
         "backward() was called twice", ".detach()"),
        ("with torch.autograd.set_detect_anomaly(True):\n"
         "    x = torch.zeros(1, requires_grad=True)\n    (torch.sqrt(x) * 0).sum().backward()",
         "the gradient of Sqrt is not a number", "learning rate"),
        ("pd.DataFrame({'label': [1], 'pixels': [2]})['lable']",
         "there is no column 'lable'; there are: label, pixels", "Write 'label' if that is meant; "
         "'%aiaas preview ada/digits'"),
        ("pd.DataFrame({'label': [1]})[['label', 'pixel']]", "no column 'pixel'", "preview"),
        ("pd.DataFrame({'label': [1]}).drop(columns='labels')", "no column 'labels'", "'label'"),
        ("pd.DataFrame({'label': [1]}).groupby('lab')", "'lab'", "'label'"),
        ("batch = {'pixels': 1, 'label': 2}\nbatch['pixel']",
         "there is no key 'pixel'; there are: pixels, label", "'pixels'"),
        ("open('/home/ada/digits.csv')", "no file '/home/ada/digits.csv' on the worker",
         "%aiaas register"),
        ("pd.read_csv('data/digits.csv')", "no file 'data/digits.csv'", "--dataset NAME"),
        ("with open('/dev/full', 'w') as file:\n    file.write('x' * 100_000)", "disk is full",
         "'%aiaas resume run-1'"),
        ("import cv2_absent", "no module 'cv2_absent'", "install 'cv2_absent'"),
        ("from torch import nothing_there", "nothing_there", "which version of torch"),
        ("assert 1 == 2, 'one is two'", "an assertion does not hold: one is two", "Print"),
        ("assert 1 == 2", "an assertion does not hold: assert 1 == 2", "Print"),
        ("undefined + 1", "name 'undefined' is not defined", "import undefined in the cell"),
        ("raise SystemExit(2)", "called exit with 2", "Return from train(ctx)"),
        ("import pickle, threading\npickle.dumps(threading.Lock())", "type _thread.lock",
         "num_workers=0"),
        ("import pickle\npickle.dumps(lambda: 1)", "inside a function", "top of the cell"),
        ("import socket\nsocket.create_connection(('no-such-host.invalid', 80))",
         "does not reach an address outside", "dataset"),
    ],
)  # fmt: skip
def test_the_real_exception_is_recognised(body: str, says: str, remedy: str) -> None:
    error = fails(body)
    assert says in error.message
    assert remedy in error.remedy
    assert error.message.startswith("Training failed at cell.py, line ")
    # The user's own line first, then the library's own words.
    first, line, *_ = error.traceback.splitlines()
    assert first.startswith("cell.py, line ")
    assert line.strip() in body


@pytest.mark.parametrize(
    "body",
    [
        "np.zeros((10**7, 10**7))",
        "torch.zeros(10**13)",
        # What CUDA would raise: the class is real, no GPU of this machine can be filled.
        "raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has')",
    ],
)
def test_out_of_memory_names_the_command_with_half_the_batch(body: str) -> None:
    error = fails(body)
    assert "memory" in error.message
    assert error.remedy == (
        "Go on with half the batch: '%aiaas resume run-1 --param batch_size=32'."
    )
    without = fails(body, a_job({}))
    assert "in the cell" in without.remedy
    assert "batch_size=16" in without.remedy


def test_what_the_user_raised_from_a_known_error_is_still_explained() -> None:
    error = fails(
        "try:\n    open('/home/ada/x.csv')\n"
        "except OSError as error:\n    raise ValueError('cannot read') from error"
    )
    assert "no file '/home/ada/x.csv'" in error.message
    assert error.traceback.endswith("ValueError: cannot read")


def test_an_unknown_failure_keeps_its_own_words() -> None:
    error = fails("raise ValueError('my own words')")
    assert error.message == "Training failed at cell.py, line 4: ValueError: my own words"
    assert error.remedy == "Correct the code and run it again."


def test_a_missing_file_of_ones_own_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "mylib").mkdir()
    own = tmp_path / "mylib" / "__init__.py"
    own.touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        with pytest.raises(ModuleNotFoundError) as caught:
            importlib.import_module("mylib.layers")
    error = failures.describe(caught.value, ("cell.py", str(own)), a_job())
    assert "No module named 'mylib.layers' among the files that came with the run" in error.message


def test_our_own_sentences_stay() -> None:
    error = failures.describe(
        InvalidInput("There is no dataset 'x'.", remedy="See '%aiaas datasets'."), (), a_job()
    )
    assert (error.message, error.remedy) == ("There is no dataset 'x'.", "See '%aiaas datasets'.")


def _gloo_pair(timeout: float) -> list[Any]:
    # Torch's types do not know what it takes from its C++ side.
    gloo: Any = distributed
    store = gloo.HashStore()
    groups: dict[int, Any] = {}

    def join(rank: int) -> None:
        limit = datetime.timedelta(seconds=timeout)
        groups[rank] = gloo.ProcessGroupGloo(store, rank, 2, limit)

    threads = [threading.Thread(target=join, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [groups[0], groups[1]]


def _caught(act: Callable[[], object]) -> BaseException:
    with pytest.raises(RuntimeError) as caught:
        act()
    return caught.value


def test_a_worker_that_waits_in_vain_is_told_why() -> None:
    groups = _gloo_pair(timeout=0.2)
    late = _caught(lambda: groups[0].allreduce(torch.ones(1)).wait())
    error = failures.describe(late, (), a_job())
    assert "waited for the others until the time was up" in error.message
    assert "'%aiaas resume run-1'" in error.remedy
    assert failures.TrainingFailed.of(late, 0, (), a_job()).secondary


def test_a_worker_that_lost_its_peer_is_not_the_cause() -> None:
    groups = _gloo_pair(timeout=20)
    groups.pop()
    lost = _caught(lambda: groups[0].allreduce(torch.ones(1)).wait())
    peer = failures.TrainingFailed.of(lost, 0, (), a_job())
    assert "lost the line to another one" in peer.error.message
    assert peer.secondary
    cause = failures.TrainingFailed.of(ValueError("mine"), 1, (), a_job())
    cause.at = peer.at + 1
    group = WorkerGroupError("", {0: peer, 1: cause})
    assert "ValueError: mine" in failures.explain(group, a_job()).message
    # A worker that died outright is the cause, too, though only its peers could say anything.
    died = WorkerGroupError("", {0: peer, 1: ray.exceptions.ActorDiedError()})
    assert failures.explain(died, a_job()).message.startswith("Worker 1 died: ")


@pytest.mark.parametrize(
    ("death", "says", "remedy"),
    [
        (ray.exceptions.OutOfMemoryError("Task was killed due to the node running low on memory."),
         "more memory than its machine has left", "--param batch_size=32"),
        (ray.exceptions.WorkerCrashedError(), "died", "'%aiaas resume run-1'"),
        (ray.exceptions.NodeDiedError("The node abc has died."), "its machine went away",
         "'%aiaas resume run-1'"),
        (ray.exceptions.ActorDiedError(ActorDiedErrorContext(actor_id=bytes(16), error_message=
            "Worker unexpectedly exits with a connection error code 2. End of file. Some "
            "common causes include: (1) the process was killed by the OOM killer due to high "
            "memory usage, (2) ray stop --force was called, or (3) the worker crashed unexpectedly "
            "due to SIGSEGV or another unexpected error.")),
         "most often the kernel killed it for lack of memory", "--param batch_size=32"),
    ],
)  # fmt: skip
def test_a_worker_that_died_without_a_word(death: Exception, says: str, remedy: str) -> None:
    error = failures.explain(WorkerGroupError("", {1: death}), a_job())
    assert error.message.startswith("Worker 1 died: ")
    assert says in error.message
    assert remedy in error.remedy


def _died_without_a_word() -> Exception:
    # Ray's src/ray/core_worker and raylet: the same of every process that ends.
    death: Exception = ray.exceptions.ActorDiedError(
        ActorDiedErrorContext(
            actor_id=bytes(16),
            error_message="Worker unexpectedly exits with a connection error code 2. End of file. "
            "There are some potential root causes. (1) The process is killed by SIGKILL by OOM "
            "killer due to high memory usage. (2) ray stop --force is called. (3) The worker is "
            "crashed unexpectedly due to SIGSEGV or other unexpected errors.",
        )
    )
    return death


# As torch 2.6 logged it (github.com/XPixelGroup/BasicSR, issue 737): WorkNCCL::checkTimeout and
# handleException in torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp. No NCCL was there to try.
WATCHDOG = """\
[rank{0}]:[E626 06:24:44.903881913 ProcessGroupNCCL.cpp:616] [Rank {0}] Watchdog caught collective \
operation timeout: WorkNCCL(SeqNum=808, OpType=ALLREDUCE, NumelIn=9801523, NumelOut=9801523, \
Timeout(ms)=600000) ran for 600020 milliseconds before timing out.
[rank{0}]:[E626 06:24:44.906457629 ProcessGroupNCCL.cpp:1785] [PG ID 0 PG GUID 0(default_pg) \
Rank {0}] Exception (either an error or timeout) detected by watchdog at work: 808, last enqueued \
NCCL work: 811, last completed NCCL work: 807.
[rank{0}]:[E626 06:24:45.115598131 ProcessGroupNCCL.cpp:630] [Rank {0}] Some NCCL operations have \
failed or timed out. Due to the asynchronous nature of CUDA kernels, subsequent GPU operations \
might run on corrupted/incomplete data.
[rank{0}]:[E626 06:24:45.115617251 ProcessGroupNCCL.cpp:636] [Rank {0}] To avoid data \
inconsistency, we are taking the entire process down.
"""


@pytest.mark.parametrize("forwarded", [False, True])
def test_nccls_watchdog_is_not_told_as_lack_of_memory(forwarded: bool) -> None:
    # A worker of this machine has its rank before each line; Ray forwards those of others.
    before = "(RunWorker pid=411, ip=10.0.0.3) " if forwarded else "[1] "
    log = "[0] step 807\n" + "".join(
        f"{before}{line}" for line in WATCHDOG.format(1).splitlines(True)
    )
    job = a_job(workers=2)
    group = WorkerGroupError("", {0: _died_without_a_word(), 1: _died_without_a_word()})
    error = failures.explain(group, job, log)
    assert error.message == (
        "Worker 1 died: it waited 600 s for the others in ALLREDUCE, until the time was up"
    )
    assert "the same number of batches" in error.remedy
    assert "'%aiaas resume run-1'" in error.remedy
    # Of a death that the engine knows the reason of, the log says what came of it.
    low = ray.exceptions.OutOfMemoryError("Task was killed due to the node running low on memory.")
    known = failures.explain(WorkerGroupError("", {1: low}), job, log)
    assert "more memory than its machine has left" in known.message
    # What another worker said is no reason for this one.
    alone = failures.explain(WorkerGroupError("", {0: _died_without_a_word()}), job, log)
    assert "for lack of memory" in alone.message


def test_a_crash_that_was_logged_is_not_told_as_lack_of_memory() -> None:
    log = "step 1\n*** SIGSEGV received at time=1751000000 on cpu 3 ***\n"
    group = WorkerGroupError("", {0: _died_without_a_word()})
    assert failures.explain(group, a_job(), log).message == (
        "Worker 0 died: it crashed in compiled code"
    )


def test_who_has_retries_is_not_told_to_have_some() -> None:
    for death in (_died_without_a_word(), ray.exceptions.NodeDiedError("The node abc has died.")):
        group = WorkerGroupError("", {0: death})
        assert "--retries 2" in failures.explain(group, a_job()).remedy
        retried = failures.explain(group, a_job(retries=2)).remedy
        assert "%aiaas resume run-1" in retried
        assert "--retries" not in retried


def test_a_failure_of_the_engine_itself_has_a_sentence() -> None:
    error = failures.explain(RuntimeError("first\nlast line"), a_job())
    assert error.message == "The run failed in Ray: last line"
    assert error.remedy
    # As pyarrow says it where Ray Train writes a checkpoint.
    full = OSError(28, "Error writing bytes to file. Detail: [errno 28] No space left on device")
    error = failures.explain(ray.exceptions.RayTaskError("run", str(full), full), a_job())
    assert error.message == "The run failed in Ray: the platform's disk is full"
    assert "'%aiaas resume run-1'" in error.remedy


def test_no_line_of_the_wire_is_too_long() -> None:
    error = fails("raise ValueError('x' * 100_000)")
    assert len(error.message) <= 500
    assert len(error.traceback) <= 20_000


@pytest.mark.parametrize(
    ("death", "sentence"),
    [
        (
            ray.exceptions.OutOfMemoryError(
                "Task was killed due to the node running low on memory."
            ),
            "The trial's worker died: it used more memory than its machine has left",
        ),
        (ray.exceptions.WorkerCrashedError(), "The trial's worker died."),
        (None, "The trial's worker died."),
    ],
)
def test_the_worker_of_a_trial_that_died_is_explained(
    tmp_path: Path, death: Exception | None, sentence: str
) -> None:
    # As Ray Tune leaves it: a file beside the trial, or none.
    file = tmp_path / "error.pkl"
    file.write_bytes(ray.cloudpickle.dumps(death))
    trial = SimpleNamespace(pickled_error_file=str(file) if death else None)
    error = sweep.failure_of(trial)
    assert error.message.startswith(sentence)
    assert error.message.endswith(".")
    assert "--concurrency" in error.remedy
