/*
 * settings.h - what one session has SET.
 *
 * Plain data: copied when a statement begins, so that SET in one request never changes another that
 * runs.  Names and values are those of docs/sql.md; an unknown name is refused with the list of
 * ours, a setting of the engine with 42501.
 *
 * Thread: the owner of the struct.
 */
#ifndef MG_SESSION_SETTINGS_H
#define MG_SESSION_SETTINGS_H

#include "base/error.h"
#include "base/str.h"
#include "exec/coordinator.h"
#include "session/text_rows.h"

struct mg_settings {
	struct mg_run_settings run;
	uint64_t
		idle_in_transaction_ms;    /* a transaction waits so long for its next statement; 0: ever */
	bool partition_by_primary_key; /* default_partitioning = 'primary key' */
};

void mg_settings_init(struct mg_settings *settings);
/* Fails: MG_E_USAGE (22023) for an unknown name or a wrong value, MG_E_DENIED for an engine's. */
int mg_settings_set(struct mg_settings *settings, const char *name, const char *value,
                    struct mg_error *err);
/* One setting, or every one for "all". */
int mg_settings_reset(struct mg_settings *settings, const char *name, struct mg_error *err);
/* Value as SET would take it.  Fails: MG_E_USAGE. */
int mg_settings_get(const struct mg_settings *settings, const char *name, struct mg_sb *value,
                    struct mg_error *err);

/* Walk over all: name, default, description; false past the last one. */
bool mg_settings_at(size_t index, const char **name, const char **standard,
                    const char **description);

/* SHOW: the value, or for "all" a row of name, value and description for each.  Fails:
 * MG_E_USAGE. */
int mg_settings_show(const struct mg_settings *settings, const char *name,
                     struct mg_text_rows *rows, struct mg_error *err);

/* "5s", "250ms", "2min", "1h", or a number of milliseconds. */
bool mg_duration_parse(const char *text, uint64_t *ms);

#endif
