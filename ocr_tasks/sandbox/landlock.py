"""Takes rights from this process for good: to files, to the network, to other processes.

Landlock is the part of Linux (5.19 or newer) with which a process without privileges shuts itself
in: three system calls, whose numbers and structures never change (linux/landlock.h). What it does
not hold is what root may do beside files, so root gives that up as well (man 7 capabilities).
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_PATH_BENEATH, _NET_PORT = 1, 2
_PR_SET_NO_NEW_PRIVS = 38

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = (1 << bit for bit in range(4))
#: Removing and making of files and folders, links and renames from one folder to another.
_CHANGE_FOLDERS = 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 12 | 1 << 13
#: Making of devices, sockets and pipes, which nobody needs.
_MAKE_SPECIAL = 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11
_TRUNCATE = 1 << 14
_BIND_TCP, _CONNECT_TCP = 1, 2
#: No signals to processes outside, and no abstract sockets of theirs.
_SCOPES = 1 | 2

_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _READ_FILE | _WRITE_FILE | _TRUNCATE

#: Of what the kernel must at least know: moving files between folders is part of our work.
_OLDEST = 2

#: What root keeps: files of whatever user can be read and written where Landlock lets it.
_KEPT_CAPABILITIES = 1 << 1 | 1 << 2 | 1 << 3  # DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER
_CAPABILITIES_VERSION = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def landlock() -> int:
    """How much of Landlock the kernel knows; 0: not enough, or it is switched off."""
    found: int = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION)
    return found if found >= _OLDEST else 0


def give_up_privileges() -> None:
    """Leaves this thread, and all that it starts, what any user may do, and the files of root.

    Programs with the set-user-id bit do not give that back.
    """
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    header = struct.pack("=Ii", _CAPABILITIES_VERSION, 0)
    sets = ctypes.create_string_buffer(24)  # effective, permitted, inheritable; low and high halves
    if _libc.capget(header, sets) == 0:
        low = [mask & _KEPT_CAPABILITIES for mask in struct.unpack("=6I", sets)[:3]]
        _libc.capset(header, struct.pack("=6I", *low, 0, 0, 0))


def restrict(readable: Iterable[Path], writable: Iterable[Path], ports: Iterable[int]) -> None:
    """Leaves this thread, and all that it starts, these rights and no others.

    It must have called `give_up_privileges` before.

    `readable` are folders and files that may be read and run, `writable` those that may be read and
    changed, `ports` are TCP ports that may be connected to (from Linux 6.7 on). Paths that are not
    there are passed over.
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
        return  # what cannot be reached needs no right
    try:
        if not path.is_dir():
            rights &= _OF_FILES
        _call(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", rights, number), 0)
    finally:
        os.close(number)


def _call(number: int, *arguments: object) -> int:
    answer: int = _libc.syscall(number, *arguments)
    if answer < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return answer
