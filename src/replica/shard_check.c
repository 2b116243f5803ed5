/* shard_check.c - see shard_check.h. */
#include "replica/shard_check.h"

#include "base/assert.h"
#include "base/log.h"
#include "os/clock.h"

#include <inttypes.h>
#include <pthread.h>
#include <string.h>

struct mg_shard_check {
	struct mg_shard_check_options options;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* guarded by lock */
	struct mg_check_pin pin; /* nobody has taken it yet */
	struct mg_duck_conn *taken; /* to be interrupted */
	bool busy;                  /* what was taken is not given back yet */
	uint64_t wanted_ms;         /* since when a checkpoint waits; 0: none does */
	atomic_bool stop;
	struct mg_check_state state;
	uint64_t file;         /* another number for each that is put in the place of the last */
	struct mg_checked own; /* of this file; index 0: none */
};

struct mg_shard_check *mg_shard_check_new(const struct mg_shard_check_options *options)
{
	struct mg_shard_check *check = mg_alloc0(sizeof *check);

	check->options = *options;
	pthread_mutex_init(&check->lock, NULL);
	pthread_cond_init(&check->changed, NULL);
	return check;
}

static bool is_pinned(const struct mg_check_pin *pin)
{
	return pin->conn || pin->view || pin->failed;
}

static void let_go(struct mg_check_pin *pin)
{
	struct mg_error ignored;

	if (pin->conn) {
		(void)mg_duck_exec(pin->conn, "ROLLBACK", &ignored);
		mg_duck_disconnect(pin->conn);
	}
	mg_lsm_view_free(pin->view);
	mg_free(pin->tables);
	*pin = (struct mg_check_pin){ 0 };
}

void mg_shard_check_free(struct mg_shard_check *check)
{
	if (check) {
		mg_assert(!check->busy);
		let_go(&check->pin);
		pthread_cond_destroy(&check->changed);
		pthread_mutex_destroy(&check->lock);
		mg_free(check);
	}
}

/* ---- what was said ---- */

bool mg_checked_same(const struct mg_checked *a, const struct mg_checked *b)
{
	return a->status == MG_CHECKED_SUM && b->status == MG_CHECKED_SUM && a->rows == b->rows &&
	       memcmp(a->digest, b->digest, sizeof a->digest) == 0;
}

bool mg_check_all_same(const struct mg_check_state *state)
{
	const struct mg_checked *first = NULL;

	for (size_t i = 0; i < state->count; i++) {
		const struct mg_checked *said = &state->said[i];

		if (said->status != MG_CHECKED_SUM) {
			continue;
		}
		if (first && !mg_checked_same(first, said)) {
			return false;
		}
		first = said;
	}
	return true;
}

const struct mg_checked *mg_check_majority(const struct mg_check_state *state)
{
	for (size_t i = 0; i < state->count; i++) {
		size_t same = 0;

		for (size_t k = 0; k < state->count; k++) {
			same += mg_checked_same(&state->said[i], &state->said[k]);
		}
		if (same * 2 > state->members) {
			return &state->said[i];
		}
	}
	return NULL;
}

/* Under the lock.  True: this replica is the odd one out. */
static bool differs(const struct mg_shard_check *check, struct mg_members *good)
{
	const struct mg_checked *right = mg_check_majority(&check->state), *own = &check->own;

	*good = (struct mg_members){ 0 };
	if (!right || own->index != check->state.index || own->index == 0 ||
	    own->status != MG_CHECKED_SUM || mg_checked_same(right, own)) {
		return false;
	}
	for (size_t i = 0; i < check->state.count; i++) {
		const struct mg_checked *said = &check->state.said[i];

		if (said->node != check->options.self && mg_checked_same(said, right)) {
			(void)mg_members_set(good, said->node, MG_MEMBER_VOTER, NULL);
		}
	}
	return good->count * 2 > check->state.members;
}

/* Under the lock. */
static void note(struct mg_check_state *state, const struct mg_checked *checked)
{
	size_t at = 0;

	if (checked->index != state->index) {
		return;
	}
	while (at < state->count && state->said[at].node != checked->node) {
		at++;
	}
	if (at < MG_MEMBERS_MAX) {
		state->said[at] = *checked;
		state->count += at == state->count;
	}
}

static void compare(struct mg_shard_check *check)
{
	struct mg_members good;

	pthread_mutex_lock(&check->lock);
	bool odd = differs(check, &good);
	pthread_mutex_unlock(&check->lock);
	if (odd && check->options.on_differs) {
		check->options.on_differs(check->options.arg, check->options.shard, &good);
	}
}

void mg_shard_check_put(struct mg_shard_check *check, const struct mg_checked *checked)
{
	pthread_mutex_lock(&check->lock);
	note(&check->state, checked);
	pthread_mutex_unlock(&check->lock);
	compare(check);
}

bool mg_shard_check_put_own(struct mg_shard_check *check, uint64_t file,
                            const struct mg_checked *own)
{
	pthread_mutex_lock(&check->lock);
	bool there = file == check->file;

	if (there) {
		check->own = *own;
	}
	pthread_mutex_unlock(&check->lock);
	if (there) {
		compare(check);
	}
	return there;
}

void mg_shard_check_state(struct mg_shard_check *check, struct mg_check_state *out)
{
	pthread_mutex_lock(&check->lock);
	*out = check->state;
	pthread_mutex_unlock(&check->lock);
}

/* ---- what is pinned ---- */

/* A snapshot of a file is taken when it is first touched. */
static struct mg_duck_conn *pin_now(struct mg_shard_check *check)
{
	struct mg_duck_conn *conn = NULL;
	struct mg_error err = { 0 };
	int code = mg_duck_connect(check->options.duck, &conn, &err);

	code = code ? code : mg_duck_exec(conn, "BEGIN", &err);
	code = code ? code
	            : mg_duck_execf(conn, &err, "SELECT applied_index FROM s%" PRIu32 "._mg.meta",
	                            check->options.shard);
	if (code) {
		mg_log(MG_LOG_WARN, "check.pin", "shard=%" PRIu32 " error=\"%s\"", check->options.shard,
		       err.message);
		if (conn) {
			mg_duck_disconnect(conn); /* which ends its transaction */
		}
		conn = NULL;
	}
	return conn;
}

static void put_pin(struct mg_shard_check *check, struct mg_check_pin pin,
                    const struct mg_checking *mark)
{
	bool pinned = is_pinned(&pin);

	pthread_mutex_lock(&check->lock);
	struct mg_check_pin before = check->pin;

	pin.file = check->file;
	check->pin = pin;
	check->wanted_ms = check->busy ? check->wanted_ms : 0;
	check->state = (struct mg_check_state){
		.index = pin.index, .ms = mg_clock_ms(), .members = mark->members
	};
	pthread_mutex_unlock(&check->lock);
	let_go(&before);
	if (pinned && check->options.on_mark) {
		check->options.on_mark(check->options.arg, check->options.shard);
	}
}

void mg_shard_check_mark(struct mg_shard_check *check, uint64_t index,
                         const struct mg_checking *mark, char *tables)
{
	struct mg_lsm *lsm = check->options.lsm;
	const struct mg_check_pin pin = {
		.conn = lsm ? NULL : pin_now(check),
		.view = lsm ? mg_lsm_view_new(lsm) : NULL,
		.tables = tables,
		.index = index,
		.urgent = mark->urgent,
	};

	put_pin(check, pin, mark);
}

void mg_shard_check_miss(struct mg_shard_check *check, uint64_t index,
                         const struct mg_checking *mark)
{
	put_pin(check, (struct mg_check_pin){ .index = index, .failed = true }, mark);
}

bool mg_shard_check_take(struct mg_shard_check *check, struct mg_check_pin *pin)
{
	pthread_mutex_lock(&check->lock);
	mg_assert(!check->busy);
	*pin = check->pin;
	check->pin = (struct mg_check_pin){ 0 };
	check->taken = pin->conn;
	check->busy = is_pinned(pin);
	atomic_store(&check->stop, false);
	if (pin->conn) {
		mg_duck_set_stop(pin->conn, &check->stop);
	}
	pthread_mutex_unlock(&check->lock);
	if (!is_pinned(pin)) {
		let_go(pin);
	}
	return is_pinned(pin);
}

bool mg_shard_check_stopped(struct mg_shard_check *check)
{
	return atomic_load(&check->stop);
}

bool mg_shard_check_hurries(struct mg_shard_check *check)
{
	pthread_mutex_lock(&check->lock);
	bool wanted = check->wanted_ms != 0;
	pthread_mutex_unlock(&check->lock);
	return wanted;
}

void mg_shard_check_give_back(struct mg_shard_check *check, struct mg_check_pin *pin)
{
	pthread_mutex_lock(&check->lock);
	mg_assert(check->taken == pin->conn);
	check->taken = NULL; /* nobody interrupts it any more */
	pthread_mutex_unlock(&check->lock);
	if (pin->conn) {
		mg_duck_set_stop(pin->conn, NULL);
	}
	let_go(pin);
	pthread_mutex_lock(&check->lock);
	check->busy = false;
	check->wanted_ms = 0;
	pthread_cond_broadcast(&check->changed);
	pthread_mutex_unlock(&check->lock);
}

void mg_shard_check_hurry(struct mg_shard_check *check)
{
	uint64_t now = mg_clock_ms();

	pthread_mutex_lock(&check->lock);
	bool there = check->busy || is_pinned(&check->pin);

	check->wanted_ms = !there ? 0 : check->wanted_ms ? check->wanted_ms : now;
	bool over = there && now - check->wanted_ms >= check->options.hold_ms;

	pthread_mutex_unlock(&check->lock);
	if (over) {
		mg_shard_check_stop(check, false);
	}
}

void mg_shard_check_stop(struct mg_shard_check *check, bool forget)
{
	pthread_mutex_lock(&check->lock);
	struct mg_check_pin before = check->pin;

	check->pin = (struct mg_check_pin){ 0 };
	atomic_store(&check->stop, true);
	if (check->taken) {
		mg_duck_interrupt(check->taken);
	}
	while (check->busy) {
		pthread_cond_wait(&check->changed, &check->lock);
	}
	check->wanted_ms = 0;
	if (forget) {
		check->file++;
		check->own = (struct mg_checked){ 0 };
	}
	pthread_mutex_unlock(&check->lock);
	let_go(&before);
}
