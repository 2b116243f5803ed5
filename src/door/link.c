/* link.c - see link.h. */
#include "door/link.h"

#include "base/mem.h"
#include "net/net.h"

void mg_link_init(struct mg_link *link, struct mg_loop *loop)
{
	link->loop = loop;
	link->ws = NULL;
	atomic_init(&link->refs, 1);
}

void mg_link_ref(struct mg_link *link)
{
	(void)atomic_fetch_add(&link->refs, 1);
}

void mg_link_unref(struct mg_link *link)
{
	if (atomic_fetch_sub(&link->refs, 1) == 1) {
		mg_free(link);
	}
}

static void kill_on_loop(void *arg)
{
	struct mg_link *link = arg;

	if (link->ws) {
		mg_ws_close(link->ws, 1008, "the connection was killed by a user");
	}
	mg_link_unref(link);
}

void mg_link_kill(void *arg)
{
	struct mg_link *link = arg;

	mg_link_ref(link);
	mg_loop_post(link->loop, kill_on_loop, link);
}
