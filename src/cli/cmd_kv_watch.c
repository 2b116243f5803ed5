/*
 * cmd_kv_watch.c - `kv watch`: what changes in keys, by the events of /kv/NAMESPACE/watch.
 *
 * A line of JSON for each of them.  When a server is lost, or ends the watch in a way that may go
 * on, the next one of the list is asked, from the last token on; each of them once, or, after an
 * event, for RETRY_MS.
 */
#include "cli/cluster.h"
#include "cli/commands.h"
#include "os/clock.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { RETRY_MS = 30000, REST_MS = 500 };

struct watch {
	char *token;       /* of the last event; NULL: there was none */
	bool said_ready;
	uint64_t heard_ms; /* when an event came last; 0: never */
	struct mg_error err; /* why the server ended it */
};

/* ---- events ---- */

/* Why it ends stands in the data. */
static void read_error(struct watch *watch, struct mg_str data)
{
	struct mg_sb body = { 0 };

	mg_sb_add_len(&body, data.ptr, data.len);
	(void)mg_cluster_refusal(&body, 0, &watch->err);
	mg_sb_fini(&body);
}

static bool take(void *arg, const struct mg_event *event)
{
	struct watch *watch = arg;
	bool ready = mg_str_eq(event->name, MG_STR("ready"));

	watch->heard_ms = mg_clock_ms();
	if (event->id.len) {
		mg_free(watch->token);
		watch->token = mg_strndup(event->id.ptr, event->id.len);
	}
	if (mg_str_eq(event->name, MG_STR("error"))) {
		read_error(watch, event->data);
		return false;
	}
	if (event->data.len < 2 || (ready && watch->said_ready)) {
		return true;
	}
	watch->said_ready = true;
	if (ready) {
		printf("%.*s\n", MG_STR_ARG(event->data));
	} else {
		printf("{\"token\": \"%s\", %.*s\n", watch->token ? watch->token : "",
		       (int)event->data.len - 1, event->data.ptr + 1);
	}
	if (fflush(stdout)) {
		mg_error_set(&watch->err, MG_E_IO, "standard output cannot be written");
		return false;
	}
	return true;
}

/* ---- one server after the other ---- */

static void add_path(const struct mg_options *options, struct mg_sb *path)
{
	const char *encoding = mg_options_text(options, "encoding");
	const char *values = mg_options_text(options, "values");

	mg_sb_add(path, "/kv/");
	mg_url_add_escaped(path, mg_options_text(options, "namespace"));
	mg_sb_add(path, "/watch");
	if (mg_options_argument(options, 0)) {
		mg_url_add_parameter(path, "prefix", mg_options_argument(options, 0));
	}
	if (strcmp(encoding, "text") != 0) {
		mg_url_add_parameter(path, "encoding", encoding);
	}
	if (strcmp(values, "none") != 0) {
		mg_url_add_parameter(path, "values", values);
	}
}

/* Until the answer ends; *refused: by the server, in words. */
static int follow(struct watch *watch, const struct mg_endpoint *endpoint, const char *path,
                  bool *refused, struct mg_error *err)
{
	char *header = watch->token ? mg_format("Last-Event-ID: %s\r\n", watch->token) : NULL;
	struct mg_sb body = { 0 };
	int status = 0;

	watch->err = *err = (struct mg_error){ 0 };
	int code = mg_http_events(endpoint, path, header, take, watch, &status, &body, err);

	*refused = code == 0;
	if (code == 0 && status == 401) {
		*refused = false;
		code = mg_error_set(err, MG_E_AUTH, "wrong user or password for \"%s\"", endpoint->user);
	} else if (code == 0 && status != 200) {
		code = mg_cluster_refusal(&body, status, err);
	} else if (code == 0) {
		*err = watch->err;
		*refused = err->code != MG_E_IO;
		code = err->code;
	}
	mg_sb_fini(&body);
	mg_free(header);
	return code;
}

static bool may_go_on(int code)
{
	return code == MG_E_DISCONNECTED || mg_code_info(code)->retry == MG_RETRY_SAFE;
}

static int follow_all(struct watch *watch, const struct mg_connection *connection,
                      const char *path, bool *refused, struct mg_error *err)
{
	struct mg_endpoint endpoint = mg_connection_endpoint(connection);
	const char *rest = connection->url;
	struct mg_sb server = { 0 };
	bool go_on = true;

	while (go_on) {
		rest = mg_url_next(rest, &server);
		endpoint.url = mg_sb_text(&server);
		go_on = may_go_on(follow(watch, &endpoint, path, refused, err));
		if (!rest) {
			go_on = go_on && watch->heard_ms && mg_clock_ms() - watch->heard_ms < RETRY_MS;
			rest = connection->url;
		}
		if (go_on) {
			mg_sleep_ms(REST_MS);
		}
	}
	mg_sb_fini(&server);
	return err->code;
}

/* Lines are written whole, so there is nothing to end. */
static void interrupted(int number)
{
	(void)number;
	_exit(130);
}

int mg_command_kv_watch(const struct mg_options *options)
{
	const char *from = mg_options_text(options, "from");
	struct watch watch = { .token = from ? mg_strdup(from) : NULL };
	struct mg_connection connection = { 0 };
	struct mg_sb path = { 0 };
	struct mg_error err = { 0 };
	bool refused = false;
	int code = mg_connection_read(&connection, options, NULL, &err);

	signal(SIGINT, interrupted);
	add_path(options, &path);
	if (code == 0) {
		code = follow_all(&watch, &connection, mg_sb_text(&path), &refused, &err);
	}
	if (watch.token && watch.heard_ms && !err.hint[0]) {
		mg_error_hint(&err, "Go on with --from %.180s", watch.token);
	}
	int exit_code = mg_cli_fail(&err);

	mg_sb_fini(&path);
	mg_free(watch.token);
	mg_connection_fini(&connection);
	return refused ? mg_client_exit_code(code, true) : exit_code;
}
