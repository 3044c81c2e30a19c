"""A seccomp filter for tools, as the BPF program that bubblewrap loads. Pure.

It allows every system call that is not named here. Sockets are those of IP and netlink, so that no unix socket of the
machine, abstract or in a folder, can be reached. Namespaces, mounts, keys, tracing, io_uring, bpf and input injection
into a terminal are refused.
"""

import errno
import platform
import struct
from collections.abc import Mapping

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24  # offsets in struct seccomp_data, of the lower halves
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET
_X32 = 0x40000000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_FAMILIES = (2, 10, 16)  # AF_INET, AF_INET6, AF_NETLINK
_PAIR_KINDS = (1, 5)  # SOCK_STREAM, SOCK_SEQPACKET: a pair of datagram sockets could send to any address

_COMMON = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "open_tree_attr": 467,
}
_REFUSED: Mapping[str, Mapping[str, int]] = {
    "x86_64": {
        "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "mount": 165, "umount2": 166, "pivot_root": 155,
        "chroot": 161, "swapon": 167, "swapoff": 168, "reboot": 169, "sethostname": 170, "setdomainname": 171, "iopl": 172,
        "ioperm": 173, "init_module": 175, "delete_module": 176, "quotactl": 179, "acct": 163, "settimeofday": 164,
        "adjtimex": 159, "clock_settime": 227, "clock_adjtime": 305, "kexec_load": 246, "kexec_file_load": 320, "add_key": 248,
        "request_key": 249, "keyctl": 250, "unshare": 272, "setns": 308, "name_to_handle_at": 303, "open_by_handle_at": 304,
        "perf_event_open": 298, "bpf": 321, "userfaultfd": 323, "finit_module": 313, "kcmp": 312, "syslog": 103,
        "fanotify_init": 300, "lookup_dcookie": 212, "move_pages": 279, "migrate_pages": 256, "mbind": 237,
        "set_mempolicy": 238, "modify_ldt": 154, "uselib": 134, "vhangup": 153, "nfsservctl": 180,
    },
    "aarch64": {
        "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "mount": 40, "umount2": 39, "pivot_root": 41,
        "chroot": 51, "swapon": 224, "swapoff": 225, "reboot": 142, "sethostname": 161, "setdomainname": 162,
        "init_module": 105, "delete_module": 106, "quotactl": 60, "acct": 89, "settimeofday": 170, "adjtimex": 171,
        "clock_settime": 112, "clock_adjtime": 266, "kexec_load": 104, "kexec_file_load": 294, "add_key": 217,
        "request_key": 218, "keyctl": 219, "unshare": 97, "setns": 268, "name_to_handle_at": 264, "open_by_handle_at": 265,
        "perf_event_open": 241, "bpf": 280, "userfaultfd": 282, "finit_module": 273, "kcmp": 272, "syslog": 116,
        "fanotify_init": 262, "lookup_dcookie": 18, "move_pages": 239, "migrate_pages": 238, "mbind": 235,
        "set_mempolicy": 237, "vhangup": 58, "nfsservctl": 42,
    },
}  # fmt: skip
_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_FILTERED_CALLS = {
    "x86_64": {"clone": 56, "clone3": 435, "ioctl": 16, "socket": 41, "socketpair": 53},
    "aarch64": {"clone": 220, "clone3": 435, "ioctl": 29, "socket": 198, "socketpair": 199},
}


def filter_program(machine: str = "") -> bytes:
    """Return the filter as an array of struct sock_filter; empty for a machine without call numbers here."""
    machine = machine or platform.machine()
    if machine not in _MACHINES:
        return b""
    calls = _FILTERED_CALLS[machine]
    code = [_step(_LOAD, _ARCHITECTURE), _step(_JUMP_EQUAL, _MACHINES[machine], 1, 0), _step(_RETURN, _KILL)]
    code.append(_step(_LOAD, _NUMBER))
    if machine == "x86_64":
        code += [_step(_JUMP_AT_LEAST, _X32, 0, 1), _fail(errno.ENOSYS)]
    for number in (*_REFUSED[machine].values(), *_COMMON.values()):
        code += [_step(_JUMP_EQUAL, number, 0, 1), _fail(errno.EPERM)]
    code += [
        _step(_JUMP_EQUAL, calls["clone3"], 0, 1),
        _fail(errno.ENOSYS),
    ]  # a filter cannot read its flags, which are in memory: with ENOSYS libraries use clone
    code += _for_call(
        calls["clone"], [_step(_LOAD, _FIRST), _step(_JUMP_ANY, _NEW_NAMESPACES, 0, 1), _fail(errno.EPERM)]
    )
    code += _for_call(
        calls["ioctl"],
        [
            _step(_LOAD, _SECOND),
            *(
                step
                for value in (_TIOCSTI, _TIOCLINUX)
                for step in (_step(_JUMP_EQUAL, value, 0, 1), _fail(errno.EPERM))
            ),
        ],
    )
    code += _for_call(calls["socket"], [_step(_LOAD, _FIRST), *_allow_only(_FAMILIES, errno.EAFNOSUPPORT)])
    kinds = [_step(_LOAD, _SECOND), _step(_AND, 0xF), *_allow_only(_PAIR_KINDS, errno.EPERM)]
    code += _for_call(calls["socketpair"], kinds)
    return b"".join([*code, _step(_RETURN, _ALLOW)])


def _step(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", operation, if_true, if_false, value)


def _fail(code: int) -> bytes:
    return _step(_RETURN, _ERRNO | code)


def _allow_only(values: tuple[int, ...], code: int) -> list[bytes]:
    """Return steps that fall through behind the block for one of the values, and fail otherwise."""
    jumps = [_step(_JUMP_EQUAL, value, len(values) - position, 0) for position, value in enumerate(values)]
    return [*jumps, _fail(code)]


def _for_call(number: int, steps: list[bytes]) -> list[bytes]:
    """Return steps that run for one system call alone, and then load the call number again."""
    return [_step(_JUMP_EQUAL, number, 0, len(steps)), *steps, _step(_LOAD, _NUMBER)]
