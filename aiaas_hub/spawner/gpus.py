"""How many NVIDIA GPUs this machine has, asked of the driver's own library."""

from __future__ import annotations

import ctypes

_NVML = "libnvidia-ml.so.1"


def nvidia_gpu_count() -> int:
    """GPUs that the driver lists; 0 without a driver or when it does not answer.

    NVML (https://docs.nvidia.com/deploy/nvml-api) comes with the driver, so no package and no
    `nvidia-smi` process is needed. Each call initialises anew: a driver that was loaded meanwhile
    is seen.
    """
    try:
        nvml = ctypes.CDLL(_NVML)
    except OSError:
        return 0
    if nvml.nvmlInit_v2() != 0:
        return 0
    try:
        count = ctypes.c_uint(0)
        if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return 0
        return count.value
    finally:
        nvml.nvmlShutdown()
