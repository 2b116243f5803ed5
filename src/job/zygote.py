"""A Python that has loaded what jobs need, and forks a process for each that begins.

Asked over a socket of whole messages (standard input): JSON, and with `begin` the descriptor that the new process gets. It says when
it can begin, and which process has ended, how. It ends, and all its processes with it, when the other end is gone.
"""
import array
import fcntl
import gc
import json
import os
import select
import signal
import socket
import sys

MESSAGE_MAX = 1 << 16
NOT_FORKED, NOT_CONFINED = 72, 71  # how a cell has ended that has not begun
NICENESS = 10  # servers come first
USEFUL = ("numpy", "pyarrow", "pandas")  # those that are there


def load_useful():
    found = []
    for name in USEFUL:
        try:
            __import__(name)
            found.append(name)
        except ImportError:
            pass
    return found


class Zygote:
    def __init__(self, control):
        self.control = control
        self.pids = {}  # of cells by their number
        self.woken, waking = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waking, warn_on_full_buffer=False)

    def say(self, **what):
        self.control.send(json.dumps(what).encode())

    def begin(self, asked, fd):
        own = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            os.close(fd)
            self.say(event="ended", cell=asked["cell"], status=NOT_FORKED)
            return
        if pid == 0:
            try:
                become_cell(fd, asked, own)
            finally:
                os._exit(NOT_CONFINED)
        os.close(fd)
        self.pids[asked["cell"]] = pid

    def bury(self):
        while os.read(self.woken, 512):
            break
        while self.pids:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            number = next(cell for cell, own in self.pids.items() if own == pid)
            del self.pids[number]
            self.say(event="ended", cell=number, status=os.waitstatus_to_exitcode(status))

    def hear(self):
        """False: nobody is at the other end."""
        data, fds = receive(self.control)
        if not data:
            return False
        asked = json.loads(data)
        if asked["ask"] == "begin" and fds:
            self.begin(asked, fds[0])
        elif asked["ask"] == "begin":
            self.say(event="ended", cell=asked["cell"], status=NOT_FORKED)
        elif asked["ask"] == "end" and asked["cell"] in self.pids:
            os.kill(self.pids[asked["cell"]], signal.SIGKILL)
        return True

    def serve(self):
        while True:
            ready, _, _ = select.select([self.control, self.woken], [], [])
            if self.woken in ready:
                self.bury()
            if self.control in ready and not self.hear():
                return


def receive(control):
    size = array.array("i").itemsize
    try:
        data, extra, _, _ = control.recvmsg(MESSAGE_MAX, socket.CMSG_SPACE(size))
    except ConnectionError:
        return b"", []
    fds = array.array("i")
    for level, kind, content in extra:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content[:size])
    return data, list(fds)


def come_last():
    """When the machine has no memory left it takes this process before others, and its processor when nobody else wants it."""
    try:
        with open("/proc/self/oom_score_adj", "w") as f:
            f.write("1000")
    except OSError:
        pass
    os.nice(NICENESS)


def place(fd, at, log):
    """The socket at `at`, and the server's log behind it, wherever they are."""
    high = [fcntl.fcntl(one, fcntl.F_DUPFD, 16) for one in (fd, log)]
    os.dup2(high[0], at)
    os.dup2(high[1], at + 1)


def become_cell(fd, asked, parent):
    """In the fork: nothing of the zygote's stays but its loaded modules."""
    import cell

    come_last()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()  # else each process draws the same numbers
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.dup(2)
    nothing = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    place(fd, 3, log)
    os.closerange(5, 1 << 16)
    cell.run(3, 4, asked["limits"], parent)


def main():
    import confine

    control = socket.socket(fileno=os.dup2(0, 3, inheritable=False))
    os.closerange(4, 1 << 16)  # what whoever has started the server has left open
    found = load_useful()
    gc.freeze()
    zygote = Zygote(control)
    zygote.say(event="ready", landlock=confine.landlock_version(), python=sys.version.split()[0], packages=found)
    zygote.serve()
    for pid in zygote.pids.values():
        os.kill(pid, signal.SIGKILL)
