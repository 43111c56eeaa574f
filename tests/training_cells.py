"""Cells as users would type them."""

DIGITS = """
import time
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(16 * 16, 10),
        )

    def forward(self, pixels):
        return self.body(pixels)


def train(ctx):
    print(f"hello from {ctx.rank} of {ctx.world_size}")
    torch.manual_seed(0)
    frame = ctx.dataset("digits").to_pandas()
    held = torch.tensor(frame["pixels"].tolist()[-300:]).view(-1, 1, 8, 8)
    truth = torch.tensor(frame["label"].to_numpy()[-300:])
    model = ctx.prepare(Net())
    optimizer = torch.optim.Adam(model.parameters(), lr=ctx.params["lr"])
    state = ctx.restore()
    step = 0
    for epoch in range(ctx.params["epochs"]):
        for batch in ctx.dataset().to_torch(batch_size=64, shuffle=True):
            logits = model(batch["pixels"].view(-1, 1, 8, 8))
            loss = nn.functional.cross_entropy(logits, batch["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            ctx.report(step=step, loss=loss)
        with torch.no_grad():
            accuracy = (model(held).argmax(1) == truth).float().mean()
        ctx.report(step=step, accuracy=accuracy)
    (ctx.tensorboard_dir / "events.out.tfevents.1").write_text(f"of worker {ctx.rank}")
    ctx.checkpoint(model=model, optimizer=optimizer, epoch=epoch)
    ctx.save_model(model, held[:2], eval_input=held, labels=[str(i) for i in range(10)])
"""

FAILING = """
def prepare(rows):
    return rows / 0


def train(ctx):
    print("before the failure")
    prepare(3)
"""

SLEEPING = """
import time


def train(ctx):
    print("sleeping")
    for _ in range(600):
        time.sleep(1)
"""

RESTORING = """
import os


def train(ctx):
    state = ctx.restore()
    if state is None:
        ctx.report(step=1, attempt=1)
        ctx.checkpoint(value=42)
        raise RuntimeError("the first try fails")
    ctx.report(step=2, attempt=2, value=state["value"])
"""
