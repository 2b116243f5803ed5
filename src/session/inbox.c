/* inbox.c - see inbox.h. */
#include "session/inbox.h"

#include "os/clock.h"
#include "os/wait.h"


void mg_inbox_init(struct mg_inbox *inbox, uint64_t idle_ms)
{
	*inbox = (struct mg_inbox){ .idle_ms = idle_ms };
	pthread_mutex_init(&inbox->lock, NULL);
	mg_cond_init(&inbox->changed);
}

void mg_inbox_fini(struct mg_inbox *inbox)
{
	mg_buf_unref(inbox->piece);
	pthread_cond_destroy(&inbox->changed);
	pthread_mutex_destroy(&inbox->lock);
}

void mg_inbox_ask(struct mg_inbox *inbox)
{
	pthread_mutex_lock(&inbox->lock);
	inbox->asked = true;
	inbox->came = false;
	pthread_mutex_unlock(&inbox->lock);
}

int mg_inbox_wait(struct mg_inbox *inbox, struct mg_buf **out, struct mg_error *err)
{
	uint64_t until_ms = mg_clock_ms() + inbox->idle_ms;
	bool late = false;
	int code = 0;

	pthread_mutex_lock(&inbox->lock);
	while (!inbox->came && !inbox->closed && !late) {
		late = !mg_cond_wait_until(&inbox->changed, &inbox->lock, until_ms);
	}
	if (!inbox->came && !inbox->closed) {
		inbox->closed = true;
		code = mg_error_set(err, MG_E_TIMEOUT, "the client has sent no rows for %llu ms",
		                    (unsigned long long)inbox->idle_ms);
	} else if (!inbox->came) {
		code = mg_error_set(err, MG_E_CANCELLED, "the request was cancelled");
	} else if (inbox->given_up) {
		code = mg_error_set(err, MG_E_CANCELLED, "the client gave up sending rows");
	} else {
		*out = inbox->piece;
		inbox->piece = NULL;
	}
	inbox->asked = inbox->came = false;
	pthread_mutex_unlock(&inbox->lock);
	return code;
}

bool mg_inbox_put(struct mg_inbox *inbox, struct mg_buf *piece, bool given_up)
{
	pthread_mutex_lock(&inbox->lock);
	bool wanted = inbox->asked && !inbox->came && !inbox->closed;
	bool expected = wanted || inbox->closed;

	if (wanted) {
		inbox->piece = piece ? mg_buf_ref(piece) : NULL;
		inbox->given_up = given_up;
		inbox->came = true;
		pthread_cond_signal(&inbox->changed);
	}
	pthread_mutex_unlock(&inbox->lock);
	return expected;
}

void mg_inbox_close(struct mg_inbox *inbox)
{
	pthread_mutex_lock(&inbox->lock);
	inbox->closed = true;
	pthread_cond_signal(&inbox->changed);
	pthread_mutex_unlock(&inbox->lock);
}
