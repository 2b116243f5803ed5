/*
 * process.c - fork and exec, done so that the child does nothing unsafe in between.
 *
 * Everything that allocates (argument and environment tables, the search in PATH is execvpe's own
 * stack) happens before fork; between fork and exec only async-signal-safe calls are made.  A
 * close-on-exec pipe tells the parent the errno of a failed exec: an empty read means it worked.
 */
#include "os/process.h"

#include "base/assert.h"
#include "base/mem.h"
#include "base/str.h"
#include "os/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_MAX (16u * 1024 * 1024)

extern char **environ;

/* ---- environment ---- */

static size_t name_length(const char *setting)
{
	return strcspn(setting, "=");
}

static bool same_name(const char *a, const char *b)
{
	size_t len = name_length(a);
	return len == name_length(b) && memcmp(a, b, len) == 0;
}

static size_t count_of(const char *const *list)
{
	size_t count = 0;
	while (list && list[count]) {
		count++;
	}
	return count;
}

/* Ours without what is replaced, then the added settings.  The table is heap, the texts are not. */
static char **environment(const char *const *added, bool only)
{
	size_t ours = only ? 0 : count_of((const char *const *)environ);
	size_t more = count_of(added);
	char **table = mg_alloc((ours + more + 1) * sizeof *table);
	size_t used = 0;
	for (size_t i = 0; i < ours; i++) {
		bool replaced = false;
		for (size_t k = 0; k < more && !replaced; k++) {
			replaced = same_name(environ[i], added[k]);
		}
		if (!replaced) {
			table[used++] = environ[i];
		}
	}
	for (size_t k = 0; k < more; k++) {
		table[used++] = (char *)(uintptr_t)added[k];
	}
	table[used] = NULL;
	return table;
}

/* ---- what the child gets as 0, 1, 2 ---- */

struct wiring {
	int child[3];  /* descriptors that become 0, 1, 2; -1: leave as it is */
	int parent[3]; /* our ends of pipes; -1: none */
};

static void close_fd(int *fd)
{
	if (*fd >= 0) {
		close(*fd);
		*fd = -1;
	}
}

static int wire_one(struct wiring *w, int index, enum mg_stdio kind, const char *path)
{
	int pair[2];
	switch (kind) {
	case MG_STDIO_NULL:
		w->child[index] = open("/dev/null", O_RDWR | O_CLOEXEC);
		return w->child[index] < 0 ? errno : 0;
	case MG_STDIO_FILE:
		mg_assert(index > 0 && path != NULL);
		w->child[index] = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
		return w->child[index] < 0 ? errno : 0;
	case MG_STDIO_PIPE:
		if (pipe2(pair, O_CLOEXEC) != 0) {
			return errno;
		}
		w->child[index] = pair[index == 0 ? 0 : 1];
		w->parent[index] = pair[index == 0 ? 1 : 0];
		return 0;
	case MG_STDIO_SOCKET:
		mg_assert(index == 0);
		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
			return errno;
		}
		w->child[index] = pair[1];
		w->parent[index] = pair[0];
		return 0;
	default:
		return 0;
	}
}

static int wire(struct wiring *w, const struct mg_process_options *options)
{
	*w = (struct wiring){ { -1, -1, -1 }, { -1, -1, -1 } };
	int failed = wire_one(w, 0, options->in, NULL);
	if (!failed) {
		failed = wire_one(w, 1, options->out, options->out_path);
	}
	if (!failed) {
		failed = wire_one(w, 2, options->err, options->err_path);
	}
	return failed;
}

/* ---- the child between fork and exec: async-signal-safe calls only ---- */

static _Noreturn void report_and_exit(int report_fd)
{
	int failed = errno;
	ssize_t done = write(report_fd, &failed, sizeof failed);
	(void)done;
	_exit(127);
}

/* Make from[i] descriptor i.  A source below 3 is first moved away so that none is overwritten. */
static bool place_stdio(const int *from, bool err_to_out)
{
	int moved[3];
	for (int i = 0; i < 3; i++) {
		moved[i] = from[i];
		if (moved[i] >= 0 && moved[i] < 3) {
			moved[i] = fcntl(moved[i], F_DUPFD_CLOEXEC, 3);
			if (moved[i] < 0) {
				return false;
			}
		}
	}
	for (int i = 0; i < 3; i++) {
		if (moved[i] >= 0 && dup2(moved[i], i) < 0) {
			return false;
		}
	}
	return !err_to_out || dup2(1, 2) >= 0;
}

static void reset_signals(void)
{
	sigset_t none;
	sigemptyset(&none);
	for (int number = 1; number < NSIG; number++) {
		if (number != SIGKILL && number != SIGSTOP) {
			signal(number, SIG_DFL);
		}
	}
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static _Noreturn void become(const struct mg_process_options *options, char **env,
                             const struct wiring *w, int report_fd, pid_t parent)
{
	if (options->die_with_parent) {
		/* The parent may have ended before the request: then nobody will send the signal. */
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) {
			report_and_exit(report_fd);
		}
	}
	if (options->new_group) {
		setpgid(0, 0);
	}
	if (options->cwd && chdir(options->cwd) != 0) {
		report_and_exit(report_fd);
	}
	if (!place_stdio(w->child, options->err == MG_STDIO_OUT)) {
		report_and_exit(report_fd);
	}
	reset_signals();
	execvpe(options->argv[0], (char *const *)(uintptr_t)options->argv, env);
	report_and_exit(report_fd);
}

/* ---- the parent ---- */

/* Block all signals around fork, so that no handler of ours runs in the child.  _Fork, because what
 * libraries do at a fork (DuckDB's allocator takes all its locks) is of no use before an exec. */
static pid_t fork_quietly(void)
{
	sigset_t all;
	sigset_t before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid_t pid = _Fork();
	int kept = errno;
	if (pid != 0) {
		pthread_sigmask(SIG_SETMASK, &before, NULL);
	}
	errno = kept;
	return pid;
}

/* errno of the child's exec, 0 when it worked. */
static int exec_result(int report_fd)
{
	int failed = 0;
	ssize_t got;
	do {
		got = read(report_fd, &failed, sizeof failed);
	} while (got < 0 && errno == EINTR);
	return got == (ssize_t)sizeof failed ? failed : 0;
}

int mg_process_start(struct mg_process *process, const struct mg_process_options *options,
                     struct mg_error *err)
{
	*process = (struct mg_process){ .pid = 0, .in_fd = -1, .out_fd = -1, .err_fd = -1 };
	const char *program = options->argv[0];
	char **env = environment(options->env, options->only_env);
	int report[2] = { -1, -1 };
	struct wiring w;
	pid_t parent = getpid();
	pid_t pid = -1;
	int failed = wire(&w, options);
	if (!failed && pipe2(report, O_CLOEXEC) != 0) {
		failed = errno;
	}
	if (!failed && (pid = fork_quietly()) < 0) {
		failed = errno;
	}
	if (!failed && pid == 0) {
		become(options, env, &w, report[1], parent);
	}
	close_fd(&report[1]);
	if (!failed) {
		failed = exec_result(report[0]);
		if (failed) {
			waitpid(pid, NULL, 0);
		}
	}
	close_fd(&report[0]);
	for (int i = 0; i < 3; i++) {
		close_fd(&w.child[i]);
		if (failed) {
			close_fd(&w.parent[i]);
		}
	}
	mg_free(env);
	if (failed) {
		return mg_error_errno(err, failed, "cannot start \"%s\"", program);
	}
	*process = (struct mg_process){ (int)pid, w.parent[0], w.parent[1], w.parent[2] };
	return MG_OK;
}

/* True when the child was there to be collected (or never will be). */
static bool collect(struct mg_process *process, int flags, int *status)
{
	int raw = 0;
	pid_t got;
	do {
		got = waitpid(process->pid, &raw, flags);
	} while (got < 0 && errno == EINTR);
	if (got == 0) {
		return false;
	}
	process->pid = 0;
	if (status) {
		*status = got < 0 ? 255 : WIFSIGNALED(raw) ? 128 + WTERMSIG(raw) : WEXITSTATUS(raw);
	}
	return true;
}

/* Sleep until the child ends or left_ms pass; a pidfd where the kernel has it, else short naps. */
static void await_end(int pid, uint64_t left_ms)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0) {
		mg_sleep_ms(left_ms < 5 ? (uint32_t)left_ms : 5);
		return;
	}
	struct pollfd ended = { .fd = fd, .events = POLLIN };
	poll(&ended, 1, left_ms > 60000 ? 60000 : (int)left_ms);
	close(fd);
}

bool mg_process_wait(struct mg_process *process, uint32_t timeout_ms, int *status)
{
	if (process->pid == 0) {
		return true;
	}
	if (timeout_ms == UINT32_MAX) {
		return collect(process, 0, status);
	}
	uint64_t deadline = mg_clock_ms() + timeout_ms;
	for (;;) {
		if (collect(process, WNOHANG, status)) {
			return true;
		}
		uint64_t now = mg_clock_ms();
		if (now >= deadline) {
			return false;
		}
		await_end(process->pid, deadline - now);
	}
}

void mg_process_signal(const struct mg_process *process, int signal_number)
{
	if (process->pid > 0) {
		kill(process->pid, signal_number);
	}
}

void mg_process_close(struct mg_process *process)
{
	close_fd(&process->in_fd);
	close_fd(&process->out_fd);
	close_fd(&process->err_fd);
}

void mg_process_stop(struct mg_process *process, uint32_t grace_ms)
{
	mg_process_signal(process, SIGTERM);
	if (!mg_process_wait(process, grace_ms, NULL)) {
		mg_process_signal(process, SIGKILL);
		mg_process_wait(process, UINT32_MAX, NULL);
	}
	mg_process_close(process);
}

/* Everything the pipe gives; the excess over OUTPUT_MAX is read and dropped, so the child can end.
 */
static void drain(int fd, struct mg_sb *to)
{
	char piece[8192];
	for (;;) {
		ssize_t got = read(fd, piece, sizeof piece);
		if (got < 0 && errno == EINTR) {
			continue;
		}
		if (got <= 0) {
			return;
		}
		if (to->len + (size_t)got <= OUTPUT_MAX) {
			mg_sb_add_len(to, piece, (size_t)got);
		}
	}
}

int mg_process_run(const char *const *argv, char **out, int *status, struct mg_error *err)
{
	struct mg_process process;
	struct mg_process_options options = {
		.argv = argv,
		.in = MG_STDIO_NULL,
		.out = MG_STDIO_PIPE,
		.err = MG_STDIO_OUT,
		.die_with_parent = true,
	};
	int code = mg_process_start(&process, &options, err);
	if (code) {
		return code;
	}
	struct mg_sb text = { 0 };
	drain(process.out_fd, &text);
	mg_process_close(&process);
	mg_process_wait(&process, UINT32_MAX, status);
	if (out) {
		*out = mg_sb_take(&text);
	}
	mg_sb_fini(&text);
	return MG_OK;
}

void mg_process_die_with_parent(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

char *mg_process_self_path(void)
{
	char path[4096];
	ssize_t len = readlink("/proc/self/exe", path, sizeof path - 1);
	return len > 0 ? mg_strndup(path, (size_t)len) : NULL;
}
