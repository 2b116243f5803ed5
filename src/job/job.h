/*
 * job.h - a job: rows of a SELECT through a user's mapper, in processes of their own, and what
 * comes of it through his reducer and finalizer.
 *
 *     source --session--> batches --chunk--> processes: mapper, reducer
 *                                            one takes the others' values, reduces, finishes
 *
 * Thread: a query thread runs a job from its beginning to its end.
 */
#ifndef MG_JOB_JOB_H
#define MG_JOB_JOB_H

#include "base/error.h"
#include "base/str.h"
#include "job/nursery.h"
#include "session/session.h"

#include <stdatomic.h>

struct mg_job {
	struct mg_nursery *nursery;  /* borrowed, as all below */
	struct mg_session *session;  /* whose rows, and whose rights */
	struct mg_str code;          /* the file */
	struct mg_str values;        /* a JSON object: what it is given by name; "" for none */
	struct mg_str source;        /* instead of the file's own; "" for that */
	bool (*stopped)(void *arg);  /* asked often; NULL: never */
	void (*query)(void *arg, struct mg_query *query); /* as mg_sink.query; NULL is fine */
	void *arg;
	/* What came of it; the caller frees these, also after an error. */
	struct mg_sb result;    /* JSON */
	struct mg_sb printed;   /* the last of what the code has printed */
	struct mg_sb traceback; /* of an error of the user's code */
	_Atomic(uint64_t) rows, chunks; /* so far */
	char query_id[40];
};

/* Fails: as mg_cell_answer and mg_session_run. */
int mg_job_run(struct mg_job *job, struct mg_error *err);
void mg_job_fini(struct mg_job *job);

#endif
