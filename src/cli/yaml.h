/*
 * yaml.h - YAML files that people write, as the JSON that programs read.
 *
 * One document of lists, maps and scalars: true, false, null, numbers and texts as YAML 1.2 has
 * them, so that NO and 1_000 are texts. No anchors, which make small files huge, and no tags.
 *
 * Pure; any thread.
 */
#ifndef MG_CLI_YAML_H
#define MG_CLI_YAML_H

#include "base/error.h"
#include "base/str.h"

/* Appends to out.  Fails: MG_E_USAGE, with line and column. */
int mg_yaml_to_json(const char *text, size_t size, struct mg_sb *out, struct mg_error *err);

#endif
