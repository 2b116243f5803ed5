/*
 * main.c - the program's entry.
 */
#include <stdio.h>

#include "mg_version.h"

int main(void)
{
	printf("merganser %s (%s), DuckDB %s\n", MG_VERSION, MG_COMMIT, MG_DUCKDB_VERSION);
	return 0;
}
