"""How a run looks while it is followed: state, progress, curves, resources and last log lines.

Nothing in it can be operated: it is drawn again while one looks at it, and whatever was opened,
scrolled or focused would be lost.
"""

from __future__ import annotations

from aiaas_hub.schemas import runs as wire
from aiaas_magics import display, plot
from aiaas_magics.client.runs import Update
from aiaas_magics.curves import Curves
from aiaas_magics.log_tail import PLATFORM, LogTail
from aiaas_magics.run_facts import metrics_line, timing, waiting

# Beside each other they can be read; more of them are one after the other in `%aiaas logs`.
_MOST_TAILS = 4
_MOST_WORKERS = 16
_MOST_METRICS = 12


class RunView:
    """What is known of a run while it is followed. `worker` shows the log of that one alone."""

    def __init__(self, record: wire.Run, worker: int | None = None) -> None:
        self.record = record
        self.trouble = ""
        self.interruptible = True
        """Whether a cell waits here, which an interrupt ends."""
        self.curves = Curves()
        self._step: int | None = None
        self._worker = worker
        self._tail = LogTail(record.resources.workers)
        self._plot: str | None = ""
        """None: to be drawn again. Clock ticks show the old one."""

    def take(self, update: Update) -> None:
        self.trouble = ""
        if isinstance(update, wire.Run):
            self.record = update
        elif isinstance(update, wire.Metrics):
            self._take_metrics(update)
        elif isinstance(update, wire.LogChunk):
            self._tail.take(update.text)
        else:
            self.trouble = f"The line to the platform is broken ({update.reason}); trying again."

    def _take_metrics(self, update: wire.Metrics) -> None:
        if not update.points:
            return
        self.curves.add(update.points)
        self._step = update.points[-1].step
        self._plot = None

    @property
    def log_tail(self) -> str:
        """The last lines as one text; each begins with its worker's rank where there are more."""
        tails = self._shown_tails()
        if len(tails) < 2:
            return "".join(tails.values())
        return "\n".join(
            f"[{_who(worker)}] {line}"
            for worker, tail in tails.items()
            for line in tail.split("\n")
        )

    def _shown_tails(self) -> dict[int, str]:
        tails = self._tail.tails()
        if self._worker is not None:
            return {worker: tail for worker, tail in tails.items() if worker == self._worker}
        workers = [worker for worker in tails if worker != PLATFORM][:_MOST_TAILS]
        return {worker: tail for worker, tail in tails.items() if worker in (*workers, PLATFORM)}

    def _progress(self) -> tuple[float | None, str]:
        """How much is done (0 to 1, if that is known), and that in words."""
        progress = self.record.progress
        step = max(self._step or 0, progress.step if progress is not None else 0)
        total = progress.total if progress is not None else None
        if not step and not total:
            return None, ""
        words = [f"step {step:,}"]
        done = min(1.0, step / total) if total else None
        if total:
            words = [f"step {step:,} of {total:,}"]
        each = self.curves.seconds_per_step()
        if each is not None and self.record.state is wire.RunState.RUNNING:
            words.append(f"{display.duration(each)} a step" if each >= 1 else f"{1 / each:.3g}/s")
            if total and step < total:
                words.append(f"about {display.duration(each * (total - step))} left")
        return done, " · ".join(words)

    def _metrics(self) -> str:
        """The last value of each metric: not all of them are in every report."""
        last = {name: curve.last for name, curve in self.curves.items()} or self.record.last_metrics
        return metrics_line(dict(list(last.items())[:_MOST_METRICS]))

    def line(self) -> str:
        record = self.record
        parts = [f"{record.name} · {record.id}: {record.state}"]
        parts += [waiting(record).rstrip("."), self._progress()[1], self._metrics()]
        if record.state.is_terminal:
            parts.append(timing(record))
        return display.clean(" · ".join(part for part in parts if part))

    def html(self) -> str:
        record = self.record
        terminal = record.state.is_terminal
        done, words = self._progress()
        bar = display.bar(done, words) if done is not None and not terminal else ""
        facts = [
            ("now", display.escape(waiting(record))),
            ("resumed from", display.code(record.resumed_from) if record.resumed_from else ""),
            ("attempt", str(record.attempt) if record.attempt > 1 else ""),
            ("progress", bar + display.escape(words)),
            ("metrics", display.escape(self._metrics())),
            ("time", display.escape(timing(record))),
            ("model", display.escape(record.model) if record.model else ""),
            ("", display.muted(self.trouble) if self.trouble else ""),
        ]
        if self._plot is None:
            self._plot = plot.html(plot.panels(self.curves))
        more = [self._plot]
        if not terminal and record.usage:
            more.append(_usage(record.usage))
        if record.error is not None and record.error.traceback:
            more.append(display.pre(record.error.traceback))
        more.append(self._log_html())
        if not terminal and self.interruptible:
            hint = f"Interrupt to stop watching; '%aiaas cancel {record.id}' stops the run."
            more.append(display.muted(hint))
        return display.card(f"{record.name} · {record.id}", str(record.state), facts, *more)

    def _log_html(self) -> str:
        tails = self._shown_tails()
        if not tails:
            return ""
        if self.record.resources.workers == 1:
            return display.log(next(iter(tails.values())))
        boxes = {
            worker: display.log(tail, f"worker {worker}" if worker != PLATFORM else "platform")
            for worker, tail in tails.items()
        }
        own = [box for worker, box in boxes.items() if worker != PLATFORM]
        hidden = self.record.resources.workers - len(own)
        more = boxes.get(PLATFORM, "")
        if hidden > 0 and len(own) == _MOST_TAILS:
            more += display.muted(
                f"{hidden} more workers: '%aiaas attach {self.record.id} --worker N' shows one."
            )
        return display.grid(own) + more

    def text(self) -> str:
        parts = [self.line(), self.trouble, plot.text(plot.panels(self.curves))]
        if self.record.error is not None:
            parts.append(display.clean(self.record.error.traceback))
        parts.append(self.log_tail)
        return "\n".join(part for part in parts if part)


def _who(worker: int) -> str:
    return "platform" if worker == PLATFORM else str(worker)


def _usage(samples: list[wire.WorkerUsage]) -> str:
    """A row for each worker, the busiest first where there are many."""
    gpu = any(map(_gpu, samples))
    shown = samples
    if len(samples) > _MOST_WORKERS:
        shown = sorted(samples, key=lambda sample: -sample.memory_bytes)[:_MOST_WORKERS]
    rows = [
        [
            f"{sample.worker}",
            display.escape(sample.host),
            display.escape(f"{sample.cpu_percent:.0f} %"),
            _memory(sample),
            *([_gpu(sample)] if gpu else []),
        ]
        for sample in shown
    ]
    table = display.table(["worker", "host", "CPU", "memory", *(["GPU"] if gpu else [])], rows)
    rest = len(samples) - len(shown)
    return table + (display.muted(f"and {rest} more with less memory") if rest else "")


def _memory(sample: wire.WorkerUsage) -> str:
    used = display.size(sample.memory_bytes)
    if not sample.memory_total_bytes:
        return display.escape(used)
    share = min(1.0, sample.memory_bytes / sample.memory_total_bytes)
    words = f"{used} of {display.size(sample.memory_total_bytes)}"
    return display.bar(share, words, width="5em") + display.escape(words)


def _gpu(sample: wire.WorkerUsage) -> str:
    percent = "" if sample.gpu_percent is None else f"{sample.gpu_percent:.0f} %"
    memory = display.size(sample.gpu_memory_bytes) if sample.gpu_memory_bytes else ""
    return display.escape(" · ".join(filter(None, (percent, memory))))
