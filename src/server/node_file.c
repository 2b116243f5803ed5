/* node_file.c - see node_file.h. */
#include "server/node_file.h"

#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "mg_version.h"
#include "os/file.h"
#include "store/duck.h"

#include <string.h>
#include <unistd.h>

#define SIZE_MAX_READ (1u << 16)

static char *text_of(const struct mg_json *json, const char *name)
{
	const char *text = mg_json_get_text(json, name);

	return text && *text ? mg_strdup(text) : NULL;
}

void mg_node_file_read(const char *data_dir, struct mg_node_file *out)
{
	char *path = mg_path_join(data_dir, "node.json"), *text = NULL;
	struct mg_arena *arena = mg_arena_new();
	struct mg_json *json = NULL;
	size_t size = 0;

	if (mg_file_read(path, SIZE_MAX_READ, &text, &size, NULL) == 0) {
		(void)mg_json_parse(arena, text, size, &json, NULL);
	}
	int64_t number = mg_json_get_int(json, "number", 0);

	*out = (struct mg_node_file){
		.number = number > 0 ? (uint64_t)number : 0,
		.id = text_of(json, "id"),
		.listen = text_of(json, "listen"),
	};
	mg_arena_free(arena);
	mg_free(text);
	mg_free(path);
}

void mg_node_file_free(struct mg_node_file *file)
{
	mg_free(file->id);
	mg_free(file->listen);
	*file = (struct mg_node_file){ 0 };
}

static void add_text(struct mg_sb *json, const char *text)
{
	mg_sb_add_json(json, text ? text : "", text ? strlen(text) : 0);
}

int mg_node_file_write(const char *data_dir, const struct mg_node_file *file, struct mg_error *err)
{
	char *path = mg_path_join(data_dir, "node.json");
	struct mg_sb json = { 0 };

	mg_sb_add(&json, "{\"id\":");
	add_text(&json, file->id);
	mg_sb_addf(&json, ",\"number\":%llu,\"listen\":", (unsigned long long)file->number);
	add_text(&json, file->listen);
	mg_sb_addf(&json, ",\"pid\":%ld,\"version\":\"%s\",\"engine\":\"%s\"}\n", (long)getpid(),
	           MG_VERSION, mg_duck_version());
	int code = mg_file_write(path, mg_sb_text(&json), json.len, 0600, err);

	mg_free(path);
	mg_sb_fini(&json);
	return code;
}
