/*
 * main.c - the program's entry.
 */
#include <stdio.h>

#include <duckdb.h>

#include "mg_version.h"

int main(void)
{
	printf("merganser %s (%s), DuckDB %s\n", MG_VERSION, MG_COMMIT, duckdb_library_version());
	return 0;
}
