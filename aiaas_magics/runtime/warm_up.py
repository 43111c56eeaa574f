"""What a worker does before it has a run: the imports that would keep the run waiting."""

from __future__ import annotations


def warm_up() -> None:
    """Import the runtime and torch, and take one step, at which torch imports its later parts."""
    import numpy as np
    import torch
    import torch.distributed

    import aiaas_magics.runtime.context
    import aiaas_magics.runtime.datasets
    import aiaas_magics.runtime.worker  # noqa: F401  # to have it loaded

    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.from_numpy(np.ones((2, 2), dtype=np.float32))).sum().backward()
    optimizer.step()
    # What the numbers of a run are drawn from begins as in any new process.
    torch.seed()
