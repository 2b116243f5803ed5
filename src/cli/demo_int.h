/*
 * demo_int.h - what demo.c and demo_data.c share.
 */
#ifndef MG_CLI_DEMO_INT_H
#define MG_CLI_DEMO_INT_H

#include "cli/demo.h"
#include "os/process.h"

#define NODES_MAX 109           /* 9 servers and 100 workers */
#define STOP_MS 5000

struct mg_demo_node {
	char name[24];
	unsigned port;              /* of a server */
	struct mg_process process;
	uint64_t started_ms;
	double ready_s;
	bool running;
};

struct mg_demo {
	struct mg_demo_options options;
	char *self;                 /* our own program */
	char *dir;                  /* temporary; holds data/, logs, the workers' copies */
	char *data_dir, *roots, *url, *urls, *reference;
	int lock;
	char password[32], worker_password[32];
	struct mg_demo_node nodes[NODES_MAX];   /* servers first */
	unsigned count;
	double data_s;              /* how long the sample data took */
};

/* demo.c: start this program with other arguments, its output in a log of the node's name. */
int mg_demo__start_child(struct mg_demo *demo, struct mg_demo_node *node, const char *const *argv,
                         const char *const *env, struct mg_error *err);
/* Why a child ended: the end of its log. Returns MG_E_IO. */
int mg_demo__child_failed(const struct mg_demo *demo, const char *name, struct mg_error *err);
bool mg_demo__stopped(struct mg_error *err);

/* demo_data.c: the temporary folder, and the data directory in it. */
int mg_demo__make_dir(struct mg_demo *demo, struct mg_error *err);
int mg_demo__make_data(struct mg_demo *demo, struct mg_error *err);

#endif
