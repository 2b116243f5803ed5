/*
 * session_seen.c - what a session has seen, wherever: codec/seen.h.
 *
 *     answer of this node --note_seen--> session --add_seen--> client (or the node that has asked)
 *     client, or the node that was asked --see--> session --copy_seen--> what reads for it here
 *
 * Several requests of one session may run at once, and a client may carry what several answers have
 * said: it is always the maximum that counts.
 */
#include "session/session_int.h"

#include "replica/replica.h"

static struct mg_replica *replica_of(const struct mg_session *session)
{
	return mg_engine_replica(session->sessions->options.engine);
}

void mg_session_add_seen(struct mg_session *session, struct mg_sb *out)
{
	pthread_mutex_lock(&session->lock);
	mg_seen_add(out, &session->seen);
	pthread_mutex_unlock(&session->lock);
}

void mg_session__copy_seen(struct mg_session *session, struct mg_seen *out)
{
	pthread_mutex_lock(&session->lock);
	mg_seen_merge(out, &session->seen);
	pthread_mutex_unlock(&session->lock);
}

static void merge(struct mg_session *session, const struct mg_seen *seen)
{
	pthread_mutex_lock(&session->lock);
	mg_seen_merge(&session->seen, seen);
	pthread_mutex_unlock(&session->lock);
}

void mg_session_note_seen(struct mg_session *session)
{
	struct mg_seen here = { 0 };

	mg_replica_note_seen(replica_of(session), &here);
	merge(session, &here);
	mg_seen_fini(&here);
}

static uint32_t cluster_here(const struct mg_session *session)
{
	struct mg_catalog *catalog = mg_engine_catalog(session->sessions->options.engine);
	const struct mg_catalog_data *data = mg_catalog_take(catalog);
	uint32_t cluster = mg_seen_cluster(data->cluster_id);

	mg_catalog_give(catalog, data);
	return cluster;
}

int mg_session_see(struct mg_session *session, struct mg_str text, struct mg_error *err)
{
	struct mg_seen seen = { 0 };
	int code = mg_seen_parse(&seen, text, err);

	if (!code && (seen.cluster != cluster_here(session) ||
	              seen.count > mg_replica_shards(replica_of(session)) + 1)) {
		code = mg_error_set(err, MG_E_USAGE, "what a session has seen is of another cluster");
		mg_error_hint(err, "Send it to servers of the cluster that has said it, or leave it out.");
	}
	if (!code) {
		merge(session, &seen);
	}
	mg_seen_fini(&seen);
	return code;
}
