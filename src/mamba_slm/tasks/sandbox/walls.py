"""Namespaces of its own for a process: other users, mounts, processes, network and messages, without any privilege.

The order of mounts is bubblewrap's (bubblewrap.c of version 0.8.0): a small file system becomes the root, the machine
is reachable only until the read-only parts are bound, and is then let go for good.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Sequence

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_SILENT, MS_PRIVATE = 1, 2, 4, 4096, 16384, 32768, 1 << 18
MNT_DETACH, AT_FDCWD, AT_RECURSIVE = 2, -100, 0x8000
ATTRIBUTE_READ_ONLY, ATTRIBUTE_NO_SETUID = 1, 2
MOUNT_SETATTR = 442
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE = 38, 4
CAPABILITY_VERSION_3 = 0x20080522
NOBODY = 65534
DEVICES = ("null", "zero", "random", "urandom")

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> None:
    """Raise what a call of the C library left in errno.

    Raises:
        OSError: the call failed; the message names it.
    """
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)} ({errno.errorcode.get(code, code)})")


def raise_walls(readable: Sequence[str], *, disk_bytes: int, max_files: int) -> None:
    """Leave the machine's namespaces; the next child is the first process of its own.

    Args:
        readable: files and folders of the machine that stay visible, read-only.
        disk_bytes: size of /tmp, the only place to write.
        max_files: files and folders there.

    Raises:
        OSError: the kernel refuses a step; the message names it.
    """
    spaces = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
    administrator = os.getuid() == 0 and is_known(NOBODY)
    if not (administrator and libc.unshare(spaces) == 0):
        if administrator:  # without the rights of one, as in a container
            become_nobody()
            checked(libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), "prctl")  # so that its own files in /proc stay its own
        user, group = os.getuid(), os.getgid()
        checked(libc.unshare(spaces | CLONE_NEWUSER), "unshare")
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{NOBODY} {user} 1"),
            ("gid_map", f"{NOBODY} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m,nr_inodes=1k")
    for folder in ("/tmp/old", "/tmp/new"):
        os.mkdir(folder)
    mount("/tmp/new", "/tmp/new", None, MS_BIND | MS_REC)
    pivot_root("/tmp", "/tmp/old")
    os.chdir("/")
    os.mkdir("/new/tmp")
    options = f"mode=1777,size={disk_bytes},nr_inodes={max_files + 1}"
    mount("tmpfs", "/new/tmp", "tmpfs", MS_NOSUID | MS_NODEV, options)
    build_root(readable)
    checked(libc.umount2(b"/old", MNT_DETACH), "umount2")
    os.chdir("/new")
    pivot_root(".", ".")
    checked(libc.umount2(b".", MNT_DETACH), "umount2")
    os.chdir("/tmp")
    make_read_only("/", recursive=False)


def build_root(readable: Sequence[str]) -> None:
    """Bind what stays readable below /new, and the devices without which Python does not start."""
    for path in readable:
        if os.path.islink(f"/old{path}"):
            os.makedirs(os.path.dirname(f"/new{path}"), exist_ok=True)
            os.symlink(os.readlink(f"/old{path}"), f"/new{path}")
        elif os.path.exists(f"/old{path}"):
            bind(f"/old{path}", f"/new{path}")
    for name in DEVICES:
        bind(f"/old/dev/{name}", f"/new/dev/{name}")


def bind(source: str, target: str) -> None:
    """Show a file or folder at another place, read-only, with all that is mounted below it."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    mount(source, target, None, MS_BIND | MS_REC | MS_SILENT)
    make_read_only(target, recursive=True)


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """`mount(2)`."""
    arguments = (source.encode(), target.encode(), kind.encode() if kind else None)
    checked(libc.mount(*arguments, ctypes.c_ulong(flags), options.encode()), f"mount {target}")


def make_read_only(target: str, *, recursive: bool) -> None:
    """Nothing at `target` can be written, and no program there gives its owner's rights (`mount_setattr(2)`)."""
    attributes = struct.pack("QQQQ", ATTRIBUTE_READ_ONLY | ATTRIBUTE_NO_SETUID, 0, 0, 0)
    flags = AT_RECURSIVE if recursive else 0
    checked(
        libc.syscall(
            ctypes.c_long(MOUNT_SETATTR), ctypes.c_long(AT_FDCWD), target.encode(), ctypes.c_long(flags), attributes,
            ctypes.c_long(len(attributes)),
        ),
        f"mount_setattr {target}",
    )  # fmt: skip


def pivot_root(new: str, old: str) -> None:
    """`pivot_root(2)`."""
    checked(libc.syscall(ctypes.c_long(PIVOT_ROOT[platform.machine()]), new.encode(), old.encode()), "pivot_root")


def leave_root() -> None:
    """Of the administrator's rights nothing remains, not even the name; other users have none to begin with.

    A further namespace of users makes the kernel count the processes of this sandbox apart from those of others.
    """
    if os.getuid() == 0:
        become_nobody()
        checked(libc.unshare(CLONE_NEWUSER), "unshare")


def become_nobody() -> None:
    """For good: user and group, saved ones included."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def is_known(user: int) -> bool:
    """Whether this namespace has that user; one that somebody made for himself knows nobody else."""
    with open("/proc/self/uid_map") as file:
        ranges = [[int(word) for word in line.split()] for line in file]
    return any(first <= user < first + count for first, _, count in ranges)


def drop_capabilities() -> None:
    """Give up every right that a namespace of users brings, and any way to gain one."""
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    header, none = struct.pack("Ii", CAPABILITY_VERSION_3, 0), struct.pack("6I", 0, 0, 0, 0, 0, 0)
    checked(libc.capset(header, none), "capset")
