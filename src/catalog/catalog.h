/*
 * catalog.h - group 0: nodes, slots, shards, tables, users, settings as plain data with versions.
 *
 * Kept in DIR/log/catalog.json, written whole to a new file, synced and renamed, so a crash leaves
 * the old or the new one.  Readers take a snapshot pointer, which stays valid until unref; a writer
 * publishes a new version.  No I/O but load and save.  Thread: any.
 */
#ifndef MG_CATALOG_CATALOG_H
#define MG_CATALOG_CATALOG_H

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"

#define MG_CATALOG_FORMAT 1
#define MG_FILE_FORMAT 1

struct mg_column {
	const char *name, *type; /* type as SQL text */
	bool not_null;
	const char *stored; /* its name in shard files; NULL or "": as `name` */
};

/* Columns of which no two rows hold the same. */
struct mg_key {
	const char **columns;
	size_t count;
};

/* What COMMENT ON has said of a table or view, or of a column of it. */
struct mg_comment {
	const char *column; /* "": of the whole */
	const char *text;   /* NULL: there was one, which was taken back */
};

struct mg_comments {
	struct mg_comment *list;
	size_t count;
};

struct mg_table {
	const char *schema, *name;
	struct mg_column *columns;
	size_t column_count;
	const char **keys; /* PARTITIONED BY; key_count 0: reference table */
	size_t key_count;
	const char **primary_key;
	size_t primary_key_count;
	struct mg_key *uniques; /* beside the primary key; rows with a NULL in one are not compared */
	size_t unique_count;
	uint64_t rows, bytes;
	uint32_t version; /* counts what ALTER has changed */
	uint64_t id;      /* of its rows' making; 0: by bootstrap */
	/* Columns and CHECKs as SQL, with defaults, without keys; "": what columns say. */
	const char *definition;
	/* The same with keys, each constraint where it was declared; NULL or "": keys go last. */
	const char *declared;
	const char *stored; /* its name in shard files, without the id; NULL or "": as `name` */
	/* How far a node's shards must be to have all rows that it began with (codec/seen.h); NULL or
	 * "": it began empty, or as its shards say. */
	const char *whole;
	struct mg_comments comments;
};

struct mg_view {
	const char *schema, *name, *sql; /* sql: the SELECT */
	/* What stands behind its name, when that names columns, which sql does too; or NULL or "". */
	const char *declared;
	struct mg_comments comments;
};

/* What else a schema holds; the planning database alone has it. */
#define MG_OBJECT_MACRO "MACRO"
#define MG_OBJECT_TABLE_MACRO "MACRO TABLE"
#define MG_OBJECT_TYPE "TYPE"
#define MG_OBJECT_SEQUENCE "SEQUENCE"
struct mg_object {
	const char *kind; /* one of the above: the word behind DROP */
	const char *schema, *name;
	const char *sql;      /* of its CREATE, what stands behind the name */
	uint64_t id;          /* of its making */
	const char *reserved; /* of a sequence: values up to this one may have been given; or "" */
};

/* A file of rows: shard 0 is the reference group, shards from 1 are the partitions. */
struct mg_shard {
	uint32_t id;
	uint16_t slot_first, slot_last; /* inclusive; reference: 0, 0 */
	const char *file;               /* relative to the data directory: "shards/0003.duckdb" */
	uint64_t rows, bytes;
	char sha256[65];
	char created[32];           /* ISO 8601 */
	const char *engine_version; /* "v1.5.5" */
	uint32_t file_format;
};

enum mg_role {
	MG_ROLE_NONE,
	MG_ROLE_CLIENT,
	MG_ROLE_WORKER,
	MG_ROLE_ADMIN /* a client with all rights */
};

struct mg_user {
	const char *name;
	enum mg_role role;
	const char *argon2id; /* libsodium's string form */
	const char *scram;    /* SCRAM-SHA-256$iterations:salt$stored:server */
};

/* A server of the cluster.  One that has left stays as "removed", so that its number is not used
 * again; its id and address may be another's then. */
#define MG_NODE_MEMBER "member"
#define MG_NODE_DRAINING "draining"
#define MG_NODE_REMOVED "removed"
struct mg_catalog_node {
	uint64_t number;     /* raft's, from 1; never used again */
	const char *id;      /* its name: "server-1" */
	const char *address; /* host:port where others reach it */
	const char *state;   /* what is wanted of it: one of the three above */
};

/* What is wanted of a namespace of keys; 0: nothing. */
#define MG_CATALOG_SPACES_MAX 1000
struct mg_catalog_space {
	const char *name;
	uint64_t default_ttl_ms; /* of keys that are put without one */
	uint64_t quota_bytes, quota_keys;
};

/* A definition that was made under a client's key: the same one again is not made again. */
#define MG_CATALOG_DONE_MAX 256
struct mg_catalog_done {
	const char *key;
	const char *digest; /* of what was asked for */
	uint64_t rows;   /* of the answer */
	uint64_t at_ms;
};

struct mg_catalog_data {
	uint64_t version;
	const char *cluster_id; /* 32 hex digits */
	const char *name;
	uint32_t shard_count;    /* without shard 0 */
	uint32_t kv_shards;      /* of keys and values; 0: none */
	const char **kv_born;    /* numbers of the nodes that voted when it got them later, as text */
	size_t kv_born_count;
	struct mg_shard *shards; /* shard_count + 1 */
	struct mg_table *tables;
	size_t table_count;
	struct mg_view *views;
	size_t view_count;
	struct mg_object *objects; /* in the order in which they were made */
	size_t object_count;
	const char **schemas; /* that were made by CREATE SCHEMA */
	size_t schema_count;
	struct mg_user *users;
	size_t user_count;
	struct mg_catalog_node *nodes; /* by number */
	size_t node_count;
	struct mg_catalog_space *spaces; /* by name: those of which something is wanted */
	size_t space_count;
	struct mg_catalog_done *done; /* the newest first */
	size_t done_count;
	const char *sample; /* "tpch 1", or "" */
	uint64_t applied;   /* entries of the catalog's group that this version holds */
};

struct mg_catalog;

bool mg_catalog_exists(const char *data_dir); /* load has something to read */
int mg_catalog_load(struct mg_catalog **out, const char *data_dir,
                    struct mg_error *err); /* MG_E_NOT_FOUND: none there */
int mg_catalog_new(struct mg_catalog **out, const char *data_dir,
                   struct mg_error *err); /* empty, with a new cluster id; not saved */
/* The text of another node's catalog (mg_catalog_text) becomes the file of a data directory that
 * has none yet.  Fails: MG_E_CORRUPT. */
int mg_catalog_install(const char *data_dir, const char *text, size_t len, struct mg_error *err);
void mg_catalog_free(struct mg_catalog *catalog);
/* A snapshot, valid until given back. */
const struct mg_catalog_data *mg_catalog_take(struct mg_catalog *catalog);
void mg_catalog_give(struct mg_catalog *catalog, const struct mg_catalog_data *data);
const struct mg_catalog_data *mg_catalog_ref(const struct mg_catalog_data *data); /* give it, too */
/* A changed copy of base that nobody else sees, to be given back; its version is base's. */
int mg_catalog_fork(const struct mg_catalog_data *base,
                    int (*change)(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                                  struct mg_error *err),
                    void *arg, const struct mg_catalog_data **out, struct mg_error *err);
/* Change a copy under the writer's lock and publish it, saved and synced, when change returns 0;
 * with a log (below) the change may be tried again on a newer version.  data's new texts must live
 * in arena. */
int mg_catalog_change(struct mg_catalog *catalog,
                      int (*change)(void *arg, struct mg_arena *arena, struct mg_catalog_data *data,
                                    struct mg_error *err),
                      void *arg, struct mg_error *err);

/* The same on any node of a cluster, also where the catalog is not led.  For changes that stand for
 * themselves: nothing that the coordinator of writes does may depend on when they happen.  The
 * change may be tried again on a version that holds it already. */
int mg_catalog_change_anywhere(struct mg_catalog *catalog,
                               int (*change)(void *arg, struct mg_arena *arena,
                                             struct mg_catalog_data *data, struct mg_error *err),
                               void *arg, struct mg_error *err);

/* ---- as a state machine ---- */
/* From now on a change is proposed, as the text of the next version, and published by adopt.
 * propose returns when the text has been adopted here, or another one before it; it is asked to
 * propose here, or anywhere. */
void mg_catalog_set_log(struct mg_catalog *catalog,
                        int (*propose)(void *arg, const char *text, size_t len, bool anywhere,
                                       struct mg_error *err),
                        void *arg);
/* What the log has committed at index: published and saved when it is the version after the current
 * one, else nothing changes: a change that was made meanwhile wins.  One thread. */
int mg_catalog_adopt(struct mg_catalog *catalog, const char *text, size_t len, uint64_t index,
                     struct mg_error *err);
/* All entries up to index are in it: saved, without a new version.  The same thread. */
int mg_catalog_note_applied(struct mg_catalog *catalog, uint64_t index, struct mg_error *err);
/* As the log holds it, with the index of what is applied. */
void mg_catalog_text(const struct mg_catalog_data *data, struct mg_sb *out);
/* Another node's version, whatever it is, in place of the current one: published and saved.  Fails:
 * MG_E_CORRUPT, also when it is another cluster's or not as of index; then nothing changes.  The
 * same thread. */
int mg_catalog_replace(struct mg_catalog *catalog, const char *text, size_t len, uint64_t index,
                       struct mg_error *err);

/* A primary key or UNIQUE. */
bool mg_table_has_keys(const struct mg_table *table);
/* Every column of its keys, once; out has room for all columns of the table. */
size_t mg_table_key_columns(const struct mg_table *table, const char **out);
/* The name under which shard files hold the table: a table of the same name that was dropped before
 * had another one. */
const char *mg_table_stored(struct mg_arena *arena, const struct mg_table *table);
/* The name of a column there. */
const char *mg_column_stored(const struct mg_column *column);
/* All columns, as a SELECT from there gives them the names that they have now. */
void mg_table_add_stored_columns(struct mg_sb *sql, const struct mg_table *table);
/* What stands between the parentheses of its CREATE TABLE: columns, CHECKs, with_key: keys. */
void mg_table_add_definition(struct mg_sb *sql, const struct mg_table *table, bool with_key);
/* What stands behind the name in its CREATE VIEW, with a blank in front. */
void mg_view_add_definition(struct mg_sb *sql, const struct mg_view *view);
/* The same rows of the same columns: nothing has altered it or made it anew. */
bool mg_table_is_same(const struct mg_table *a, const struct mg_table *b);
/* The shards whose files hold it; data: that it is of. */
void mg_table_shards(const struct mg_catalog_data *data, const struct mg_table *table,
                     uint32_t *first, uint32_t *last);
/* They, in arena; *count: how many. */
uint32_t *mg_table_shard_ids(struct mg_arena *arena, const struct mg_catalog_data *data,
                             const struct mg_table *table, size_t *count);
/* From one id to another, in arena: from 1 to data's shard_count those of partitions, from 0 all.
 */
uint32_t *mg_shard_ids(struct mg_arena *arena, uint32_t first, uint32_t last);
/* Its column of that name, in whatever case, or NULL. */
const struct mg_column *mg_table_find_column(const struct mg_table *table, const char *name);
/* Which shard has each slot of partitioned tables; owner has room for all slots. */
void mg_catalog_owners(const struct mg_catalog_data *data, uint16_t *owner);
const struct mg_table *mg_catalog_find_table(const struct mg_catalog_data *data, const char *schema,
                                             const char *name);
const struct mg_view *mg_catalog_find_view(const struct mg_catalog_data *data, const char *schema,
                                           const char *name);
/* NULL: there is none of that kind. */
const struct mg_object *mg_catalog_find_object(const struct mg_catalog_data *data, const char *kind,
                                               const char *schema, const char *name);
/* It was made, or holds something, or is "main". */
bool mg_catalog_has_schema(const struct mg_catalog_data *data, const char *schema);
const struct mg_user *mg_catalog_find_user(const struct mg_catalog_data *data, const char *name);
/* NULL: nothing is wanted of the namespace. */
const struct mg_catalog_space *mg_catalog_find_space(const struct mg_catalog_data *data,
                                                     struct mg_str name);
/* Puts it in the place of the one of its name; one of which nothing is wanted takes that out.
 * space->name lives as long as data.  Fails: MG_E_LIMIT there are MG_CATALOG_SPACES_MAX. */
int mg_catalog_put_space(struct mg_arena *arena, struct mg_catalog_data *data,
                         const struct mg_catalog_space *space, struct mg_error *err);
/* NULL: no node ever had the number. */
const struct mg_catalog_node *mg_catalog_find_node(const struct mg_catalog_data *data,
                                                   uint64_t number);

/* ---- comments ---- */
/* The list with that one in it. text may be NULL. */
struct mg_comments mg_comments_with(struct mg_arena *arena, const struct mg_comments *comments,
                                    const char *column, const char *text);
/* Those that stay when it has become that table, a column of the name `from` being called `to`, if
 * not "". */
struct mg_comments mg_comments_altered(struct mg_arena *arena, const struct mg_comments *comments,
                                       const struct mg_table *altered, const char *from,
                                       const char *to);
/* COMMENT ON ...; kind: the word for the whole. */
void mg_comment_add_sql(struct mg_sb *sql, const char *kind, const char *schema, const char *name,
                        const struct mg_comment *comment);

/* The manifest: shards with id, slots, rows, bytes, SHA-256, times, versions, and tables. */
void mg_catalog_manifest_json(const struct mg_catalog_data *data, struct mg_sb *out);
void mg_catalog_manifest_yaml(const struct mg_catalog_data *data, struct mg_sb *out);

#endif
