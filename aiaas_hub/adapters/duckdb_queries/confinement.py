"""What the kernel lets this process do from now on. Nothing here can be taken back."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38

# Landlock's system calls have the same numbers on every architecture. Its constants are those of
# linux/landlock.h: https://docs.kernel.org/userspace-api/landlock.html
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_RULE_PORT = 2
_SYSTEM = ("/usr", "/lib", "/lib64", "/sys/fs")
_BIND, _CONNECT = 1, 2
_TCP = _BIND | _CONNECT


class _Ruleset(ctypes.Structure):
    _fields_ = [("fs", ctypes.c_uint64), ("net", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


class _Port(ctypes.Structure):
    _fields_ = [("allowed", ctypes.c_uint64), ("port", ctypes.c_uint64)]


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def die_with(parent: int) -> None:
    """Be killed when the process that started this one ends, however it ends."""
    _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("The service ended before its query began.")


def limit(cpu_seconds: int, file_bytes: int) -> None:
    """Bound processor time and the size of each file; leave no core dump."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def confine(
    readable: Sequence[Path],
    directory: Path,
    *,
    programs: Sequence[Path] = (),
    listening: Sequence[int] = (),
    connecting: Sequence[int] = (),
) -> bool:
    """Read nothing but `readable` files and folders, what Python consists of and `programs`, write
    nothing but below `directory`, and open no TCP connection: listen on no port but these (0: one
    that the kernel chooses) and connect to none but those. False where this kernel has no Landlock,
    and then nothing has changed: the queries' other limits hold without it. Before Landlock's
    version 4 (Linux 6.7) ports are not confined.
    """
    libc = _libc()
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG)
    if version < 1:
        return False
    handled = (1 << 13) - 1
    handled |= _REFER if version >= 2 else 0
    handled |= _TRUNCATE if version >= 3 else 0
    handled |= _IOCTL_DEV if version >= 5 else 0
    rules = _Ruleset(handled, _TCP if version >= 4 else 0)
    size = ctypes.sizeof(rules) if version >= 4 else 8
    ruleset = libc.syscall(_CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(size), 0)
    if ruleset < 0:
        return False
    reading = _EXECUTE | _READ_FILE | _READ_DIR
    _allow(libc, ruleset, directory, handled)
    for path in readable:
        # A folder is a table of many files.
        _allow(libc, ruleset, path, _READ_FILE | (_READ_DIR if path.is_dir() else 0))
    # Modules and libraries are loaded when they are first needed.
    for code in {*sys.path, sys.prefix, sys.base_prefix, *_SYSTEM, *map(str, programs)}:
        if code:
            _allow(libc, ruleset, Path(code), reading & handled)
    for device in ("/dev/null", "/dev/urandom", "/proc/meminfo", "/proc/self/cgroup"):
        _allow(libc, ruleset, Path(device), _READ_FILE | (_WRITE_FILE if "null" in device else 0))
    if version >= 4:
        for port in {*listening, *connecting}:
            rights = (_BIND if port in listening else 0) | (_CONNECT if port in connecting else 0)
            rule = _Port(rights, port)
            libc.syscall(_ADD_RULE, ruleset, _RULE_PORT, ctypes.byref(rule), 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    confined: bool = libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return confined


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        # What is not there needs no rule.
        return
    if not path.is_dir():
        rights &= _FILE_RIGHTS
    rule = _PathBeneath(rights, parent)
    libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
    os.close(parent)
