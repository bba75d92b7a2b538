"""Irrevocably restricts this process's access to files, the network and other processes.

Landlock lets an unprivileged process sandbox itself, with three system calls whose numbers and
structures are stable (linux/landlock.h). This module requires Linux 5.19 or newer. Root processes
must also drop most of their capabilities (capabilities(7)), which Landlock does not restrict.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_GET_VERSION = 1
_PATH_BENEATH, _NET_PORT = 1, 2
_PR_SET_NO_NEW_PRIVS = 38

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = (1 << bit for bit in range(4))
#: Creating and deleting files and folders, links, and renames between folders.
_CHANGE_FOLDERS = 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 12 | 1 << 13
#: Creating devices, sockets and pipes, which is never allowed.
_MAKE_SPECIAL = 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11
_TRUNCATE = 1 << 14
_BIND_TCP, _CONNECT_TCP = 1, 2
#: Signals to processes outside of the sandbox, and connections to their abstract sockets.
_SCOPES = 1 | 2

_READ = _EXECUTE | _READ_FILE | _READ_DIR
_FILE_RIGHTS = _EXECUTE | _READ_FILE | _WRITE_FILE | _TRUNCATE

#: Minimum Landlock ABI. Older ones do not allow moving files between folders.
_MIN_ABI = 2

#: Capabilities that root keeps, to access files of all users where Landlock permits it.
_KEPT_CAPABILITIES = 1 << 1 | 1 << 2 | 1 << 3  # DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER
_CAPABILITIES_VERSION = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def landlock() -> int:
    """Returns the kernel's Landlock ABI version, or 0 if it is too old or disabled."""
    abi: int = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _GET_VERSION)
    return abi if abi >= _MIN_ABI else 0


def drop_privileges() -> None:
    """Drops the privileges of this thread and its future children, except for access to files.

    Programs with the set-user-id bit cannot restore them (PR_SET_NO_NEW_PRIVS).
    """
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    header = struct.pack("=Ii", _CAPABILITIES_VERSION, 0)
    sets = ctypes.create_string_buffer(24)  # effective, permitted, inheritable; low and high halves
    if _libc.capget(header, sets) == 0:
        low = [mask & _KEPT_CAPABILITIES for mask in struct.unpack("=6I", sets)[:3]]
        _libc.capset(header, struct.pack("=6I", *low, 0, 0, 0))


def restrict(readable: Iterable[Path], writable: Iterable[Path], ports: Iterable[int]) -> None:
    """Restricts this thread and its future children to the given paths and ports.

    `drop_privileges` must be called first. `readable` paths can be read and executed, `writable`
    paths can be read and changed. `ports` are the TCP ports that can be connected to; they are
    enforced from Linux 6.7. Missing paths are ignored.
    """
    abi = landlock()
    write = _WRITE_FILE | _READ_FILE | _READ_DIR | _CHANGE_FOLDERS
    write |= _TRUNCATE if abi >= 3 else 0
    handled = [_READ | write | _MAKE_SPECIAL]
    if abi >= 4:
        handled.append(_BIND_TCP | _CONNECT_TCP)
    if abi >= 6:
        handled.append(_SCOPES)
    attributes = struct.pack(f"={len(handled)}Q", *handled)
    rules = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    try:
        for paths, rights in ((readable, _READ), (writable, write)):
            for path in paths:
                _allow(rules, path, rights)
        if abi >= 4:
            for port in ports:
                _call(_ADD_RULE, rules, _NET_PORT, struct.pack("=QQ", _CONNECT_TCP, port), 0)
        _call(_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _allow(rules: int, path: Path, rights: int) -> None:
    try:
        number = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # a path that cannot be opened needs no rule
    try:
        if not path.is_dir():
            rights &= _FILE_RIGHTS
        _call(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", rights, number), 0)
    finally:
        os.close(number)


def _call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
