/* worker_servers.c - see worker_servers.h. */
#include "exec/worker_servers.h"

#include "base/str.h"

#include <stdio.h>
#include <string.h>

/* HOST or :PORT alone take the rest from localhost:8765. */
static void add_given(char out[MG_SERVER_ADDRESS_MAX + 1], const char *text, size_t len)
{
	bool port = memrchr(text, ':', len) != NULL && text[len - 1] != ']';

	(void)snprintf(out, MG_SERVER_ADDRESS_MAX + 1, "%s%.*s%s", text[0] == ':' ? "localhost" : "",
	               (int)len, text, port ? "" : ":8765");
}

int mg_worker_servers_init(struct mg_worker_servers *servers, const char *list,
                           struct mg_error *err)
{
	memset(servers, 0, sizeof *servers);
	pthread_mutex_init(&servers->lock, NULL);
	while (*list) {
		size_t len = strcspn(list, ",");

		if (len > MG_SERVER_ADDRESS_MAX - strlen("localhost:8765") ||
		    servers->given_count == MG_SERVERS_MAX) {
			return mg_error_set(err, MG_E_USAGE,
			                    "--server names too many servers, or one of a name "
			                    "that is too long");
		}
		if (len > 0) {
			add_given(servers->given[servers->given_count++], list, len);
		}
		list += len + (list[len] == ',');
	}
	return servers->given_count ? 0 : mg_error_set(err, MG_E_USAGE, "--server names no server");
}

void mg_worker_servers_fini(struct mg_worker_servers *servers)
{
	pthread_mutex_destroy(&servers->lock);
}

static bool is_address(const char *text)
{
	return text && *text && strlen(text) <= MG_SERVER_ADDRESS_MAX;
}

/* Under the lock. */
static void aim(struct mg_worker_servers *servers, const char *self, const char *coordinator,
                uint64_t now_ms)
{
	if (!coordinator || !self || mg_text_eq(self, coordinator)) {
		servers->target[0] = '\0';
	} else if (!mg_text_eq(servers->target, coordinator)) {
		mg_copy_text(servers->target, sizeof servers->target, coordinator);
		servers->target_ms = now_ms;
	}
}

int mg_worker_servers_hear(struct mg_worker_servers *servers, const struct mg_json *json,
                           uint64_t now_ms, struct mg_error *err)
{
	const char *self = mg_json_get_text(json, "self");
	const char *coordinator = mg_json_get_text(json, "coordinator");
	const struct mg_json *list = mg_json_get(json, "servers");
	bool good = mg_json_is(list, MG_JSON_ARRAY) && list->count <= MG_SERVERS_MAX &&
	            (!self || is_address(self)) && (!coordinator || is_address(coordinator));

	mg_json_each(item, list) {
		good = good && mg_json_is(item, MG_JSON_STRING) && is_address(mg_json_text(item));
	}
	if (!good) {
		return mg_error_set(err, MG_E_PROTOCOL, "a list of servers that makes no sense");
	}
	pthread_mutex_lock(&servers->lock);
	servers->heard_count = 0;
	mg_json_each(item, list) {
		mg_copy_text(servers->heard[servers->heard_count++], sizeof *servers->heard,
		             mg_json_text(item));
	}
	aim(servers, self, coordinator, now_ms);
	pthread_mutex_unlock(&servers->lock);
	return 0;
}

bool mg_worker_servers_move(struct mg_worker_servers *servers, uint64_t now_ms,
                            char address[MG_SERVER_ADDRESS_MAX + 1])
{
	pthread_mutex_lock(&servers->lock);
	bool move = servers->target[0] && now_ms - servers->target_ms >= MG_MOVE_AFTER_MS &&
	            now_ms >= servers->not_before_ms;

	if (move) {
		mg_copy_text(address, MG_SERVER_ADDRESS_MAX + 1, servers->target);
	}
	pthread_mutex_unlock(&servers->lock);
	return move;
}

void mg_worker_servers_moved(struct mg_worker_servers *servers, bool well, uint64_t now_ms)
{
	pthread_mutex_lock(&servers->lock);
	servers->target[0] = '\0';
	servers->not_before_ms = well ? 0 : now_ms + MG_MOVE_AGAIN_MS;
	pthread_mutex_unlock(&servers->lock);
}

void mg_worker_servers_now(struct mg_worker_servers *servers,
                           char address[MG_SERVER_ADDRESS_MAX + 1])
{
	pthread_mutex_lock(&servers->lock);
	size_t at = servers->next % (servers->given_count + servers->heard_count);

	mg_copy_text(address, MG_SERVER_ADDRESS_MAX + 1,
	             at < servers->given_count ? servers->given[at]
	                                       : servers->heard[at - servers->given_count]);
	pthread_mutex_unlock(&servers->lock);
}

void mg_worker_servers_next(struct mg_worker_servers *servers)
{
	pthread_mutex_lock(&servers->lock);
	servers->next = (servers->next + 1) % (servers->given_count + servers->heard_count);
	servers->target[0] = '\0';
	pthread_mutex_unlock(&servers->lock);
}
