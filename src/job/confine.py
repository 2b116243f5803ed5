"""What a process of a job may still do: compute, and talk over the descriptors that it holds.

Each of these is the kernel's, and none can be taken back: a user who owns nothing (where the server is root), no new privileges, no
capabilities, Landlock (files of Python and its packages can be read, no other can be opened; no TCP; from Linux 6.12 on no signal
to others), a seccomp filter that allows a list of system calls, some with some arguments only, and answers EPERM to all others, and
limits of memory, of processor time, of descriptors and of threads. So what is forbidden raises PermissionError, OSError or
MemoryError where it is tried. Names, sizes and owners of files can be seen: Landlock does not hide them.
"""
import ctypes
import os
import platform
import resource
import signal
import struct
import sys
import sysconfig

LIBC = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NAME, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 8, 15, 24, 38
CLONE_THREAD = 0x10000

# System calls by number. Where a machine has no such call the name is left out.
X86_64 = dict(
    read=0, write=1, open=2, close=3, stat=4, fstat=5, lstat=6, poll=7, lseek=8, mmap=9, mprotect=10, munmap=11, brk=12, rt_sigaction=13,
    rt_sigprocmask=14, rt_sigreturn=15, ioctl=16, pread64=17, readv=19, writev=20, access=21, select=23, sched_yield=24, mremap=25,
    mincore=27, madvise=28, dup=32, nanosleep=35, getpid=39, clone=56, exit=60, uname=63, fcntl=72, getdents=78, getcwd=79,
    readlink=89, gettimeofday=96, getrlimit=97, getrusage=98, sysinfo=99, times=100, getuid=102, getgid=104, geteuid=107, getegid=108,
    getppid=110, sigaltstack=131, prctl=157, arch_prctl=158, gettid=186, time=201, futex=202, sched_getaffinity=204, getdents64=217,
    set_tid_address=218, restart_syscall=219, clock_gettime=228, clock_getres=229, clock_nanosleep=230, exit_group=231, tgkill=234,
    openat=257, newfstatat=262, readlinkat=267, faccessat=269, pselect6=270, ppoll=271, set_robust_list=273, prlimit64=302, getcpu=309,
    getrandom=318, membarrier=324, statx=332, rseq=334, clone3=435, faccessat2=439, seccomp=317, capset=126, landlock_create_ruleset=444,
    landlock_add_rule=445, landlock_restrict_self=446)
AARCH64 = dict(
    getcwd=17, dup=23, fcntl=25, ioctl=29, faccessat=48, openat=56, close=57, getdents64=61, lseek=62, read=63, write=64, readv=65,
    writev=66, pread64=67, pselect6=72, ppoll=73, readlinkat=78, newfstatat=79, fstat=80, exit=93, exit_group=94, set_tid_address=96,
    futex=98, set_robust_list=99, nanosleep=101, clock_gettime=113, clock_getres=114, clock_nanosleep=115, sched_getaffinity=123,
    sched_yield=124, restart_syscall=128, tgkill=131, sigaltstack=132, rt_sigaction=134, rt_sigprocmask=135, rt_sigreturn=139, times=153,
    uname=160, getrlimit=163, getrusage=165, prctl=167, getcpu=168, gettimeofday=169, getpid=172, getppid=173, getuid=174, geteuid=175,
    getgid=176, getegid=177, gettid=178, sysinfo=179, brk=214, munmap=215, mremap=216, clone=220, mmap=222, mprotect=226, mincore=232,
    madvise=233, prlimit64=261, getrandom=278, membarrier=283, statx=291, rseq=293, clone3=435, faccessat2=439, seccomp=277, capset=91,
    landlock_create_ruleset=444, landlock_add_rule=445, landlock_restrict_self=446)
# Of these the table needs the numbers only: they are made before the filter is there.
BEFORE = {"seccomp", "capset", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"}
MACHINES = {"x86_64": (0xC000003E, X86_64), "aarch64": (0xC00000B7, AARCH64)}


class Unconfined(Exception):
    """This machine cannot hold a process as it must be held."""


def machine():
    try:
        return MACHINES[platform.machine()]
    except KeyError:
        raise Unconfined(f"no list of system calls for {platform.machine()}") from None


def call(name, *args):
    """A system call by its name; raises OSError."""
    result = LIBC.syscall(machine()[1][name], *args)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
    return result


def prctl(option, *args):
    if LIBC.prctl(option, *[ctypes.c_ulong(a) for a in (*args, 0, 0, 0, 0)[:4]]) < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}): {os.strerror(error)}")


# ---- Landlock ----

LANDLOCK_VERSION, LANDLOCK_PATH_BENEATH = 1, 1
FS_READ_FILE, FS_READ_DIR = 1 << 2, 1 << 3
FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many of the rights to files each version knows
NET_BIND, NET_CONNECT = 1, 2
SCOPE_ABSTRACT_SOCKETS, SCOPE_SIGNALS = 1, 2


def landlock_version():
    """0: there is none."""
    try:
        return call("landlock_create_ruleset", None, ctypes.c_size_t(0), ctypes.c_uint(LANDLOCK_VERSION))
    except (OSError, Unconfined):
        return 0


def readable_places():
    """Where Python, its packages and the libraries that they load lie."""
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    places.update((sys.base_prefix + "/lib", "/usr/lib", "/lib", "/lib64", "/usr/share/zoneinfo", "/dev/null", "/dev/urandom"))
    return sorted(os.path.realpath(place) for place in places if os.path.exists(place))


def landlock():
    version = landlock_version()
    if version < 1:
        raise Unconfined("this kernel has no Landlock")
    files = (1 << FS_RIGHTS[min(version, 5)]) - 1
    net = NET_BIND | NET_CONNECT if version >= 4 else 0
    scope = SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS if version >= 6 else 0
    attributes = struct.pack("QQQ", files, net, scope)[:24 if version >= 6 else 16 if version >= 4 else 8]
    rules = call("landlock_create_ruleset", attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0))
    for place in readable_places():
        directory = os.path.isdir(place)
        fd = os.open(place, os.O_PATH | os.O_CLOEXEC)
        beneath = struct.pack("=Qi", FS_READ_FILE | (FS_READ_DIR if directory else 0), fd)
        call("landlock_add_rule", rules, LANDLOCK_PATH_BENEATH, beneath, ctypes.c_uint(0))
        os.close(fd)
    call("landlock_restrict_self", rules, ctypes.c_uint(0))
    os.close(rules)


# ---- seccomp ----

LOAD, EQUAL, AND_BITS, RETURN = 0x20, 0x15, 0x54, 0x06
ALLOW, KILL = 0x7FFF0000, 0x80000000
NUMBER_AT, ARCH_AT, ARGS_AT = 0, 4, 16
EPERM, ENOSYS = 1, 38
SECCOMP_SET_MODE_FILTER = 1


def fails_with(error):
    return 0x00050000 | error


def low(argument):
    return ARGS_AT + 8 * argument


def high(argument):
    return low(argument) + 4


# Of an ioctl: FIOCLEX, FIONREAD, TCGETS, FIONBIO: what Python asks of a descriptor when it opens it.
IOCTLS = (0x5451, 0x541B, 0x5401, 0x5421)


# Of an fcntl: F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC. Others have signals sent, or hold up who opens a file.
FCNTLS = (0, 1, 2, 3, 1030)
# Of an open: to write, to create, to truncate, a file without a name. Landlock knows of truncation only from Linux 6.2 on.
OPEN_FORBIDDEN = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC | (os.O_TMPFILE & ~os.O_DIRECTORY)
OPENS = {"open": 1, "openat": 2}  # where the flags stand


def conditions(pid):
    """Calls that are allowed with some arguments only: (argument, its value), any of which will do."""
    return {
        "fcntl": [(1, value) for value in FCNTLS],
        "ioctl": [(1, value) for value in IOCTLS],
        "prctl": [(0, PR_SET_NAME)],
        "prlimit64": [(2, 0)],  # to look, not to set
        "tgkill": [(0, pid)],   # abort()
    }


def program(pid):
    """The filter as the kernel's machine takes it: each call of the list, then EPERM."""
    arch, numbers = machine()
    code = [(LOAD, 0, 0, ARCH_AT), (EQUAL, 1, 0, arch), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER_AT)]
    special = conditions(pid)
    apart = {*BEFORE, *special, *OPENS, "clone", "clone3"}
    plain = [number for name, number in numbers.items() if name not in apart]
    for number in plain:
        code += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    code += [(EQUAL, 0, 1, numbers["clone3"]), (RETURN, 0, 0, fails_with(ENOSYS))]  # its flags lie in memory: the library takes clone
    code += [(EQUAL, 0, 4, numbers["clone"]), (LOAD, 0, 0, low(0)), (AND_BITS, 0, 0, CLONE_THREAD), (EQUAL, 0, 1, CLONE_THREAD),
             (RETURN, 0, 0, ALLOW), (LOAD, 0, 0, NUMBER_AT)]
    for name, argument in OPENS.items():
        if name in numbers:
            code += [(EQUAL, 0, 5, numbers[name]), (LOAD, 0, 0, low(argument)), (AND_BITS, 0, 0, OPEN_FORBIDDEN), (EQUAL, 0, 1, 0),
                     (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, fails_with(EPERM))]
    for name, allowed in special.items():
        body = []
        for argument, value in allowed:
            body += [(LOAD, 0, 0, low(argument)), (EQUAL, 0, 3, value & 0xFFFFFFFF),
                     (LOAD, 0, 0, high(argument)), (EQUAL, 0, 1, value >> 32), (RETURN, 0, 0, ALLOW)]
        body.append((RETURN, 0, 0, fails_with(EPERM)))
        code += [(EQUAL, 0, len(body), numbers[name]), *body]
    code.append((RETURN, 0, 0, fails_with(EPERM)))
    return code


def seccomp():
    code = program(os.getpid())
    text = b"".join(struct.pack("=HBBI", *line) for line in code)
    buffer = ctypes.create_string_buffer(text, len(text))
    head = struct.pack("@HP", len(code), ctypes.addressof(buffer))
    call("seccomp", ctypes.c_uint(SECCOMP_SET_MODE_FILTER), ctypes.c_uint(0), head)


# ---- all ----

NOBODY = 65534
CAP_DAC_READ_SEARCH = 2  # of which Landlock leaves the files of Python


def own_nothing():
    """Root's processes become nobody's: his limit of threads counts, and no file or process is his. He reads Python's files wherever
    they lie."""
    try:
        prctl(PR_SET_KEEPCAPS, 1)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError:
        return False  # there is no such user in this namespace
    return True


def bound_capabilities():
    """None can come back."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            break  # the kernel knows no more of them, or we never had them


def drop_capabilities(kept):
    """All but the bits of kept, which are below 32; those, too, when they are not ours to keep."""
    for bits in (kept, 0):
        try:
            call("capset", struct.pack("=Ii", 0x20080522, 0), struct.pack("=IIIIII", bits, bits, 0, 0, 0, 0))
            return
        except PermissionError:
            continue
    raise Unconfined("capabilities cannot be dropped")


THREADS_MAX = 2048  # and processes, of all that the user has


def used_bytes():
    with open("/proc/self/statm", "rb") as f:
        return int(f.read().split()[0]) * resource.getpagesize()


def set_limits(memory_bytes, cpu_s):
    """memory_bytes: beside what Python and its packages take already."""
    for name, value in (("RLIMIT_AS", used_bytes() + memory_bytes), ("RLIMIT_CPU", cpu_s), ("RLIMIT_FSIZE", 0), ("RLIMIT_CORE", 0),
                        ("RLIMIT_NOFILE", 64), ("RLIMIT_MEMLOCK", 0), ("RLIMIT_NPROC", THREADS_MAX)):
        limit = getattr(resource, name)
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))


def confine(memory_bytes, cpu_s, parent):
    """Holds this process, a child of parent, for good; raises Unconfined, or OSError, when that cannot be."""
    set_limits(memory_bytes, cpu_s)
    bound_capabilities()
    is_nobody = os.getuid() == 0 and own_nothing()
    drop_capabilities(1 << CAP_DAC_READ_SEARCH if is_nobody else 0)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # which another user has not
    if os.getppid() != parent:
        os._exit(70)  # it has ended before it could tell
    prctl(PR_SET_DUMPABLE, 0)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    landlock()
    seccomp()
