/* spaces.c - what is wanted of namespaces of keys: a list in the order of their names. */
#include "catalog/catalog_int.h"

#include <string.h>

static int compare(struct mg_str a, struct mg_str b)
{
	int order = memcmp(a.ptr, b.ptr, a.len < b.len ? a.len : b.len);

	return order ? order : (a.len > b.len) - (a.len < b.len);
}

/* The place of the name, or where it would stand. */
static size_t place_of(const struct mg_catalog_data *data, struct mg_str name, bool *found)
{
	size_t low = 0, high = data->space_count;

	*found = false;
	while (low < high && !*found) {
		size_t middle = low + (high - low) / 2;
		int order = compare(name, mg_str(data->spaces[middle].name));

		*found = order == 0;
		low = order > 0 ? middle + 1 : low;
		high = order > 0 ? high : middle;
	}
	return *found ? high : low;
}

const struct mg_catalog_space *mg_catalog_find_space(const struct mg_catalog_data *data,
                                                     struct mg_str name)
{
	bool found;
	size_t place = place_of(data, name, &found);

	return found ? &data->spaces[place] : NULL;
}

int mg_catalog_put_space(struct mg_arena *arena, struct mg_catalog_data *data,
                         const struct mg_catalog_space *space, struct mg_error *err)
{
	bool wanted = space->default_ttl_ms || space->quota_bytes || space->quota_keys, found;
	size_t place = place_of(data, mg_str(space->name), &found), behind = place + found;
	size_t count = data->space_count - found + wanted;

	if (count > MG_CATALOG_SPACES_MAX) {
		mg_error_set(err, MG_E_LIMIT, "%d namespaces have settings", MG_CATALOG_SPACES_MAX);
		mg_error_hint(err, "ALTER NAMESPACE ... RESET (...) takes those of another one away.");
		return MG_E_LIMIT;
	}
	struct mg_catalog_space *list = mg_arena_new_array(arena, struct mg_catalog_space, count + 1);

	if (place) {
		memcpy(list, data->spaces, place * sizeof *list);
	}
	if (wanted) {
		list[place] = *space;
	}
	if (behind < data->space_count) {
		memcpy(list + place + wanted, data->spaces + behind,
		       (data->space_count - behind) * sizeof *list);
	}
	data->spaces = list;
	data->space_count = count;
	return 0;
}
