/*
 * nursery.c - see nursery.h.
 *
 * A thread of its own starts Python, because the kernel ends it with the thread that has started
 * it, and then hears what it says.
 *
 *     begin: the thread is told that one is wanted -> it starts Python -> "ready" -> begin asks
 *
 * owner: all under lock, but for process, which is the thread's.
 */
#include "job/nursery.h"

#include "base/assert.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "job_python.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/handover.h"
#include "os/process.h"
#include "os/wait.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { START_MS = 30 * 1000, LOOK_MS = 100, ENDED_MS = 1000, STOP_MS = 1000 };
enum { PROCESSES_MAX = 32, MESSAGE_MAX = 4096 };
#define MEMORY_BYTES ((uint64_t)1 << 30)
#define CPU_S 600

enum state { IDLE, WANTED, READY, STOPPING };

struct child {
	uint64_t number;
	char user[64];
	bool ended;
	int status;
};

struct mg_nursery {
	struct mg_nursery_options options;
	char *python;
	pthread_t thread;
	bool has_thread;
	struct mg_process process;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	enum state state;
	struct mg_error failed; /* why the last start was none */
	uint64_t starts;        /* that were tried, and ended one way or the other */
	int control;            /* to Python; -1: there is none */
	int landlock; /* the kernel's version; 0: there is none, so nobody can be confined */
	uint64_t numbers;
	struct child *children; /* that somebody holds */
	size_t count, cap;
};

/* ---- children ---- */

static struct child *find(struct mg_nursery *nursery, uint64_t number)
{
	for (size_t i = 0; i < nursery->count; i++) {
		if (nursery->children[i].number == number) {
			return &nursery->children[i];
		}
	}
	return NULL;
}

static void note_ended(struct mg_nursery *nursery, uint64_t number, int status)
{
	struct child *child = find(nursery, number);

	if (child && !child->ended) {
		child->ended = true;
		child->status = status;
		pthread_cond_broadcast(&nursery->changed);
	}
}

/* ---- the thread ---- */

static void note_ready(struct mg_nursery *nursery, const struct mg_json *event)
{
	struct mg_sb packages = { 0 };

	mg_json_each(name, mg_json_get(event, "packages")) {
		mg_sb_addf(&packages, "%s%s", packages.len ? " " : "", mg_json_text(name));
	}
	nursery->landlock = (int)mg_json_get_int(event, "landlock", 0);
	mg_log(MG_LOG_INFO, "job.python", "version=%s landlock=%d packages=\"%s\"",
	       mg_json_text(mg_json_get(event, "python")), nursery->landlock, mg_sb_text(&packages));
	mg_sb_fini(&packages);
	if (nursery->state == WANTED) {
		nursery->state = READY;
	}
	nursery->starts++;
	pthread_cond_broadcast(&nursery->changed);
}

static void note_event(struct mg_nursery *nursery, const char *text, size_t size)
{
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *event = NULL;
	const char *what;

	if (mg_json_parse(arena, text, size, &event, NULL) == 0) {
		what = mg_json_get_text(event, "event");
		pthread_mutex_lock(&nursery->lock);
		if (what && strcmp(what, "ready") == 0) {
			note_ready(nursery, event);
		} else if (what && strcmp(what, "ended") == 0) {
			note_ended(nursery, (uint64_t)mg_json_get_int(event, "cell", 0),
			           (int)mg_json_get_int(event, "status", 0));
		}
		pthread_mutex_unlock(&nursery->lock);
	}
	mg_arena_free(arena);
}

/* Under the lock: Python is gone, or never came. */
static void note_lost(struct mg_nursery *nursery, const struct mg_error *why)
{
	if (nursery->control >= 0) {
		close(nursery->control);
	}
	nursery->control = -1;
	nursery->failed = *why;
	if (nursery->state == WANTED) {
		nursery->starts++;
	}
	nursery->state = nursery->state == STOPPING ? STOPPING : IDLE;
	for (size_t i = 0; i < nursery->count; i++) {
		note_ended(nursery, nursery->children[i].number, MG_NURSERY_LOST);
	}
	pthread_cond_broadcast(&nursery->changed);
}

/* The rest of its program: too long for a command line that people look at. */
static int send_program(struct mg_nursery *nursery, struct mg_error *err)
{
	static const struct {
		const char *name, *text;
	} modules[] = {
		{ "confine", mg_job_confine },
		{ "cell", mg_job_cell },
		{ "zygote", mg_job_zygote },
	};
	struct mg_sb json = { 0 };

	for (size_t i = 0; i < sizeof modules / sizeof modules[0]; i++) {
		mg_sb_addf(&json, "%s\"%s\": ", i ? ", " : "{", modules[i].name);
		mg_sb_add_json(&json, modules[i].text, strlen(modules[i].text));
	}
	mg_sb_add_char(&json, '}');
	int code = mg_handover_send(nursery->process.in_fd, json.ptr, json.len, -1, err);

	mg_sb_fini(&json);
	return code;
}

static int start_python(struct mg_nursery *nursery, struct mg_error *err)
{
	static const char *const env[] = { "LC_CTYPE=C.UTF-8", "OPENBLAS_NUM_THREADS=1",
		                               "OMP_NUM_THREADS=1", "ARROW_DEFAULT_MEMORY_POOL=system",
		                               NULL };
	const char *const argv[] = { nursery->python, "-I", "-B", "-c", mg_job_boot, NULL };
	int code = mg_process_start(&nursery->process,
	                            &(struct mg_process_options){ .argv = argv,
	                                                          .env = env,
	                                                          .only_env = true,
	                                                          .cwd = "/",
	                                                          .in = MG_STDIO_SOCKET,
	                                                          .out = MG_STDIO_NULL,
	                                                          .err = MG_STDIO_INHERIT,
	                                                          .die_with_parent = true,
	                                                          .new_group = true },
	                            err);

	if (!code) {
		code = send_program(nursery, err);
		if (code) {
			mg_process_stop(&nursery->process, STOP_MS);
		}
	}
	if (code) {
		mg_error_hint(err, "Jobs need a Python with numpy and pyarrow: server --python names it.");
		return mg_error_wrap(err, "the Python of jobs does not start");
	}
	return 0;
}

/* Until Python is gone. */
static void hear(struct mg_nursery *nursery)
{
	char message[MESSAGE_MAX];
	struct mg_error err = { 0 };
	size_t got = 0;

	pthread_mutex_lock(&nursery->lock);
	nursery->control = dup(nursery->process.in_fd);
	if (nursery->state == STOPPING && nursery->control >= 0) {
		(void)shutdown(nursery->control, SHUT_RDWR);
	}
	pthread_mutex_unlock(&nursery->lock);
	while (nursery->control >= 0 &&
	       mg_handover_receive(nursery->process.in_fd, message, sizeof message, &got, &err) == 0 &&
	       got) {
		note_event(nursery, message, got);
	}
	mg_error_set(&err, MG_E_UNAVAILABLE, "the Python of jobs, \"%s\", has ended", nursery->python);
	mg_error_hint(&err, "The server's log may say why; server --python names another one.");
	mg_process_stop(&nursery->process, STOP_MS);
	pthread_mutex_lock(&nursery->lock);
	note_lost(nursery, &err);
	pthread_mutex_unlock(&nursery->lock);
}

static void *thread_main(void *arg)
{
	struct mg_nursery *nursery = arg;
	struct mg_error err = { 0 };

	(void)pthread_setname_np(pthread_self(), "mg-nursery");
	pthread_mutex_lock(&nursery->lock);
	while (nursery->state != STOPPING) {
		if (nursery->state == IDLE) {
			pthread_cond_wait(&nursery->changed, &nursery->lock);
			continue;
		}
		pthread_mutex_unlock(&nursery->lock);
		int code = start_python(nursery, &err);

		if (!code) {
			hear(nursery);
		}
		pthread_mutex_lock(&nursery->lock);
		if (code) {
			note_lost(nursery, &err);
		}
	}
	pthread_mutex_unlock(&nursery->lock);
	return NULL;
}

/* ---- from outside ---- */

/* Under the lock: it does not listen, or does not start; the next one may. */
static void give_up_python(struct mg_nursery *nursery)
{
	if (nursery->control >= 0) {
		(void)shutdown(nursery->control, SHUT_RDWR);
	}
}

static bool is_stopped(const struct mg_nursery_begin *begin)
{
	return begin->stopped && begin->stopped(begin->arg);
}

/* Under the lock: Python is there. */
static int await_python(struct mg_nursery *nursery, const struct mg_nursery_begin *begin,
                        struct mg_error *err)
{
	uint64_t now = mg_clock_ms(), until = now + START_MS, tried = nursery->starts;
	bool stopped = false;

	while (nursery->state != READY && nursery->state != STOPPING && nursery->starts == tried &&
	       now < until && !stopped) {
		if (nursery->state == IDLE) {
			nursery->state = WANTED;
			nursery->failed = (struct mg_error){ 0 };
			pthread_cond_broadcast(&nursery->changed);
		}
		(void)mg_cond_wait_until(&nursery->changed, &nursery->lock, now + LOOK_MS);
		stopped = is_stopped(begin);
		now = mg_clock_ms();
	}
	if (nursery->state == STOPPING && !nursery->failed.code) {
		return mg_error_set(err, MG_E_SHUTDOWN, "the server is stopping");
	}
	if (nursery->state != READY && stopped) {
		return mg_error_set(err, MG_E_CANCELLED, "cancelled while Python starts");
	}
	if (nursery->state != READY) {
		if (now >= until) {
			give_up_python(nursery);
		}
		*err = nursery->failed;
		return err->code ? err->code
		                 : mg_error_set(err, MG_E_UNAVAILABLE,
		                                "the Python of jobs has not started");
	}
	if (nursery->landlock == 0) {
		mg_error_set(err, MG_E_UNSUPPORTED, "this server's kernel has no Landlock, so the code of "
		                                    "users cannot be confined");
		mg_error_hint(err, "Jobs need Linux 5.13 or later, with Landlock.");
		return MG_E_UNSUPPORTED;
	}
	return 0;
}

static size_t count_of(const struct mg_nursery *nursery, const char *user)
{
	size_t count = 0;

	for (size_t i = 0; i < nursery->count; i++) {
		count += strcmp(nursery->children[i].user, user) == 0;
	}
	return count;
}

/* Under the lock: there is room for one more. */
static int check_count(const struct mg_nursery *nursery, const char *user, struct mg_error *err)
{
	size_t max = nursery->options.processes_max, own = count_of(nursery, user);

	if (nursery->count < max && own < (max + 1) / 2) {
		return 0;
	}
	mg_error_set(err, MG_E_BUSY, "jobs have %zu processes here, %zu of them yours; there are %zu, "
	                             "and %zu for one user",
	             nursery->count, own, max, (max + 1) / 2);
	mg_error_hint(err, "Try again when one of them has ended.");
	return MG_E_BUSY;
}

static int ask_begin(struct mg_nursery *nursery, uint64_t number, int fd, struct mg_error *err)
{
	char text[256];
	int size = snprintf(text, sizeof text,
	                    "{\"ask\": \"begin\", \"cell\": %" PRIu64
	                    ", \"limits\": {\"memory_bytes\": %" PRIu64 ", \"cpu_s\": %" PRIu32 "}}",
	                    number, nursery->options.memory_bytes, nursery->options.cpu_s);

	int code = mg_handover_send(nursery->control, text, (size_t)size, fd, err);

	if (code) {
		give_up_python(nursery); /* it does not listen, or is gone */
		code = mg_error_set(err, MG_E_UNAVAILABLE, "the Python of jobs does not answer");
		mg_error_hint(err, "It is started again: try again in a moment.");
	}
	return code;
}

int mg_nursery_begin(struct mg_nursery *nursery, const struct mg_nursery_begin *begin,
                     uint64_t *number, int *fd, struct mg_error *err)
{
	int pair[2] = { -1, -1 };
	int code = mg_handover_pair(pair, err);

	pthread_mutex_lock(&nursery->lock);
	code = code ? code : await_python(nursery, begin, err);
	code = code ? code : check_count(nursery, begin->user, err);
	if (!code) {
		*number = ++nursery->numbers;
		code = ask_begin(nursery, *number, pair[1], err);
	}
	if (!code) {
		mg_grow(nursery->children, nursery->count, nursery->cap);
		struct child *child = &nursery->children[nursery->count++];

		*child = (struct child){ .number = *number };
		mg_copy_text(child->user, sizeof child->user, begin->user);
	}
	pthread_mutex_unlock(&nursery->lock);
	if (pair[1] >= 0) {
		close(pair[1]);
	}
	if (code && pair[0] >= 0) {
		close(pair[0]);
	}
	*fd = code ? -1 : pair[0];
	return code;
}

void mg_nursery_end(struct mg_nursery *nursery, uint64_t number)
{
	char text[64];
	int size = snprintf(text, sizeof text, "{\"ask\": \"end\", \"cell\": %" PRIu64 "}", number);

	pthread_mutex_lock(&nursery->lock);
	struct child *child = find(nursery, number);

	if (child && !child->ended && nursery->control >= 0 &&
	    mg_handover_send(nursery->control, text, (size_t)size, -1, NULL)) {
		give_up_python(nursery); /* and all with it: it would run on */
	}
	if (child) {
		*child = nursery->children[--nursery->count];
	}
	pthread_mutex_unlock(&nursery->lock);
}

bool mg_nursery_ended(struct mg_nursery *nursery, uint64_t number, int *status)
{
	uint64_t until = mg_clock_ms() + ENDED_MS;

	pthread_mutex_lock(&nursery->lock);
	struct child *child = find(nursery, number);

	while (child && !child->ended && mg_clock_ms() < until) {
		(void)mg_cond_wait_until(&nursery->changed, &nursery->lock, until);
		child = find(nursery, number);
	}
	bool ended = child && child->ended;

	*status = ended ? child->status : 0;
	pthread_mutex_unlock(&nursery->lock);
	return ended;
}

/* ---- life ---- */

char *mg_nursery_python(void)
{
	char *self = mg_process_self_path();
	char *slash = self ? strrchr(self, '/') : NULL;
	char *python = NULL;

	if (slash) {
		*slash = '\0';
		python = mg_format("%s/../deps/cache/venv/bin/python", self);
	}
	if (python && access(python, X_OK) != 0) {
		mg_free(python);
		python = NULL;
	}
	mg_free(self);
	return python ? python : mg_strdup("python3");
}

struct mg_nursery *mg_nursery_new(const struct mg_nursery_options *options)
{
	struct mg_nursery *nursery = mg_alloc0(sizeof *nursery);

	nursery->options = *options;
	nursery->options.memory_bytes = options->memory_bytes ? options->memory_bytes : MEMORY_BYTES;
	nursery->options.cpu_s = options->cpu_s ? options->cpu_s : CPU_S;
	if (nursery->options.processes_max == 0) {
		nursery->options.processes_max = PROCESSES_MAX;
	}
	nursery->python = options->python ? mg_strdup(options->python) : mg_nursery_python();
	nursery->control = -1;
	pthread_mutex_init(&nursery->lock, NULL);
	mg_cond_init(&nursery->changed);
	nursery->has_thread = pthread_create(&nursery->thread, NULL, thread_main, nursery) == 0;
	if (!nursery->has_thread) {
		nursery->state = STOPPING;
		mg_error_set(&nursery->failed, MG_E_NOMEM, "no thread for the Python of jobs");
	}
	return nursery;
}

void mg_nursery_stop(struct mg_nursery *nursery)
{
	pthread_mutex_lock(&nursery->lock);
	nursery->state = STOPPING;
	give_up_python(nursery); /* the thread hears nothing more */
	pthread_cond_broadcast(&nursery->changed);
	pthread_mutex_unlock(&nursery->lock);
}

void mg_nursery_free(struct mg_nursery *nursery)
{
	if (!nursery) {
		return;
	}
	mg_nursery_stop(nursery);
	if (nursery->has_thread) {
		pthread_join(nursery->thread, NULL);
	}
	mg_assert(nursery->control == -1);
	pthread_cond_destroy(&nursery->changed);
	pthread_mutex_destroy(&nursery->lock);
	mg_free(nursery->children);
	mg_free(nursery->python);
	mg_free(nursery);
}
