"""The filter of system calls, computed as the kernel would, for both processors."""

import errno
import struct

import pytest

from mamba_slm.tasks.sandbox import seccomp

READ = {"x86_64": 0, "aarch64": 63}


def decision(machine, number, *, argument=0, architecture=None):
    """What the kernel does with a call: runs the program of the filter."""
    architecture = architecture if architecture is not None else seccomp.ARCHITECTURES[machine][0]
    data = struct.pack("IIQ6Q", number, architecture, 0, argument, 0, 0, 0, 0, 0)
    steps = list(struct.iter_unpack("HBBI", seccomp.filter_program(machine)))
    position, word = 0, 0
    while True:
        code, if_true, if_false, k = steps[position]
        position += 1
        if code == seccomp.LOAD_WORD:
            (word,) = struct.unpack_from("I", data, k)
        elif code == seccomp.RETURN:
            return k
        else:
            holds = {
                seccomp.JUMP_EQUAL: word == k,
                seccomp.JUMP_AT_LEAST: word >= k,
                seccomp.JUMP_ANY_BIT: bool(word & k),
            }[code]
            position += if_true if holds else if_false


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES)
def test_every_listed_call_is_refused_and_others_are_not(machine):
    column = seccomp.ARCHITECTURES[machine][1]
    listed = [numbers[column] for numbers in seccomp.REFUSED.values() if numbers[column] is not None]
    assert len(set(listed)) == len(listed)
    assert {decision(machine, number) for number in listed} == {seccomp.REFUSE | errno.EPERM}
    assert decision(machine, READ[machine]) == seccomp.ALLOW


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES)
def test_forks_and_threads_are_allowed_but_no_namespaces(machine):
    column = seccomp.ARCHITECTURES[machine][1]
    for flags in (17, 0x01200011, 0x003D0F00):  # fork of two C libraries, and a thread
        assert decision(machine, seccomp.CLONE[column], argument=flags) == seccomp.ALLOW
    for flag in (0x20000, 0x10000000, 0x40000000):
        assert decision(machine, seccomp.CLONE[column], argument=flag | 17) == seccomp.REFUSE | errno.EPERM
    assert decision(machine, seccomp.CLONE3[column]) == seccomp.REFUSE | errno.ENOSYS


def test_calls_by_the_numbers_of_another_architecture_kill():
    assert decision("x86_64", 0, architecture=0x40000003) == seccomp.KILL
    assert decision("x86_64", 0x40000000 | 41) == seccomp.KILL
    assert decision("aarch64", 63, architecture=seccomp.ARCHITECTURES["x86_64"][0]) == seccomp.KILL
