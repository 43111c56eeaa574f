"""Which NVIDIA GPUs this machine has, asked of the driver's own library."""

from __future__ import annotations

import ctypes

_NVML = "libnvidia-ml.so.1"
_UUID_BYTES = 96


def nvidia_gpus() -> list[str]:
    """UUIDs of the GPUs that the driver lists, as `CUDA_VISIBLE_DEVICES` takes them; empty without
    a driver or when it does not answer.

    NVML (https://docs.nvidia.com/deploy/nvml-api) comes with the driver, so no package and no
    `nvidia-smi` process is needed. Each call initialises anew: a driver that was loaded meanwhile
    is seen.
    """
    try:
        nvml = ctypes.CDLL(_NVML)
    except OSError:
        return []
    if nvml.nvmlInit_v2() != 0:
        return []
    try:
        count = ctypes.c_uint(0)
        if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return []
        found = (_uuid(nvml, index) for index in range(count.value))
        return [uuid for uuid in found if uuid]
    finally:
        nvml.nvmlShutdown()


def _uuid(nvml: ctypes.CDLL, index: int) -> str:
    """Empty for a GPU that fell off the bus."""
    handle = ctypes.c_void_p()
    if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) != 0:
        return ""
    text = ctypes.create_string_buffer(_UUID_BYTES)
    if nvml.nvmlDeviceGetUUID(handle, text, _UUID_BYTES) != 0:
        return ""
    return text.value.decode()


def nvidia_gpu_count() -> int:
    """0 without a driver or when it does not answer."""
    return len(nvidia_gpus())
