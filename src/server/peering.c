/* peering.c - see peering.h. */
#include "server/peering.h"

#include "auth/auth.h"
#include "base/log.h"
#include "mg_version.h"

struct mg_peering {
	char *data_dir;
	uint64_t number;
	struct mg_tls *accept, *dial;     /* NULL: without peers */
	_Atomic(struct mg_peers *) peers; /* NULL before join_loop */
};

const char *mg_peering_program(void)
{
	return MG_VERSION " (duckdb " MG_DUCKDB_VERSION ")";
}

int mg_peering_open(struct mg_peering **out, const char *data_dir, uint64_t number, bool alone,
                    struct mg_error *err)
{
	struct mg_peering *peering = mg_alloc0(sizeof *peering);

	*out = peering;
	peering->data_dir = mg_strdup(data_dir);
	peering->number = number;
	int code = mg_peers_tls(data_dir, number, &peering->accept, &peering->dial, err);

	if (code && alone) {
		mg_log(MG_LOG_WARN, "peers.none", "reason=\"%s\"", err->message);
		mg_error_clear(err);
		return 0;
	}
	return code;
}

struct mg_tls *mg_peering_accept(struct mg_peering *peering)
{
	return peering->accept;
}

struct mg_tls *mg_peering_dial(struct mg_peering *peering)
{
	return peering->dial;
}

struct mg_peers *mg_peering_join_loop(struct mg_peering *peering, struct mg_loop *loop,
                                      const char *cluster, const char *name, const char *address)
{
	if (peering->dial) {
		atomic_store(&peering->peers,
		             mg_peers_new(&(struct mg_peers_options){ .self = peering->number,
		                                                      .cluster = cluster,
		                                                      .program = mg_peering_program(),
		                                                      .name = name,
		                                                      .address = address,
		                                                      .loop = loop,
		                                                      .tls = peering->dial }));
	}
	return atomic_load(&peering->peers);
}

bool mg_peering_choose(struct mg_conn *conn, struct mg_peering *peering, const uint8_t *bytes,
                       size_t size)
{
	struct mg_peers *peers = atomic_load(&peering->peers);

	if (!peers) {
		mg_conn_close(conn);
		return false;
	}
	return mg_peers_choose(conn, peers, bytes, size);
}

void mg_peering_reload(struct mg_peering *peering)
{
	struct mg_error err = { 0 };

	if (!peering->dial) {
		return;
	}
	int code = mg_cert_node_ensure(peering->data_dir, peering->number, &err);

	code = code ? code : mg_tls_reload(peering->accept, &err);
	code = code ? code : mg_tls_reload(peering->dial, &err);
	if (code) {
		mg_log(MG_LOG_ERROR, "tls.reload", "of=node error=\"%s\"", err.message);
	}
}

void mg_peering_stop(struct mg_peering *peering)
{
	if (peering && atomic_load(&peering->peers)) {
		mg_peers_stop(atomic_load(&peering->peers));
	}
}

void mg_peering_free(struct mg_peering *peering)
{
	if (peering) {
		mg_peers_free(atomic_load(&peering->peers));
		mg_tls_unref(peering->accept);
		mg_tls_unref(peering->dial);
		mg_free(peering->data_dir);
		mg_free(peering);
	}
}
