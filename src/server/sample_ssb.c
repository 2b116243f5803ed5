/*
 * sample_ssb.c - the Star Schema Benchmark as SQL over TPC-H's tables of the same shard.
 *
 * lineorder is lineitem joined with orders, which lie in the same shard; customer, supplier and
 * part come from their namesakes; date is made from the calendar.  Money is in cents, as in SSB's
 * own generator.  What SSB draws at random (city number, brand number) is taken from the key, so
 * that the data are a function of TPC-H's.
 *
 * Row ids: those of the source row, moved behind all ids that the shard has given so far; each
 * source row makes one row, so they stay unique without sorting.
 */
#include "server/sample.h"

#include "base/str.h"

#include <string.h>

/* Nation and region names come from the generator's tables in the instance's own memory:
 * mg_sample_make puts them there. */
#define NATION "memory.main.nation JOIN memory.main.region ON n_regionkey = r_regionkey"
#define DAY(date) "(year(" date ") * 10000 + month(" date ") * 100 + day(" date "))::INTEGER"
#define CITY(key) "rpad(n_name, 9, ' ')[1:9] || (" key " % 10)::VARCHAR"

const struct mg_ssb_table mg_ssb_tables[] = {
	{ "date",
	  NULL,
	  { "d_datekey", NULL },
	  "SELECT " DAY(
		  "d") " AS d_datekey, strftime(d, '%B %-d, %Y') AS d_date, dayname(d) AS d_dayofweek,"
	           " monthname(d) AS d_month, year(d)::INTEGER AS d_year, (year(d) * 100 + "
	           "month(d))::INTEGER AS d_yearmonthnum,"
	           " strftime(d, '%b%Y') AS d_yearmonth, (dayofweek(d) + 1)::INTEGER AS "
	           "d_daynuminweek, day(d)::INTEGER AS d_daynuminmonth,"
	           " dayofyear(d)::INTEGER AS d_daynuminyear, month(d)::INTEGER AS d_monthnuminyear,"
	           " ((dayofyear(d) - 1) // 7 + 1)::INTEGER AS d_weeknuminyear,"
	           " CASE WHEN month(d) = 12 THEN 'Christmas' WHEN month(d) IN (6, 7, 8) THEN 'Summer' "
	           "WHEN month(d) IN (1, 2) THEN 'Winter'"
	           " WHEN month(d) IN (3, 4, 5) THEN 'Spring' ELSE 'Fall' END AS d_sellingseason,"
	           " (dayofweek(d) = 6)::INTEGER AS d_lastdayinweekfl, (last_day(d) = d)::INTEGER AS "
	           "d_lastdayinmonthfl,"
	           " (strftime(d, '%m%d') IN ('0101', '0704', '1225'))::INTEGER AS d_holidayfl,"
	           " (dayofweek(d) BETWEEN 1 AND 5)::INTEGER AS d_weekdayfl, i::BIGINT AS _mg_rid, "
	           "0::USMALLINT AS _mg_slot"
	           " FROM (SELECT i, DATE '1992-01-01' + i::INTEGER AS d FROM range(2557) t(i))" },
	{ "customer",
	  "c_custkey",
	  { "c_custkey", NULL },
	  "SELECT c_custkey, c_name, c_address, " CITY(
		  "c_custkey") " AS c_city, n_name AS c_nation, r_name AS c_region, c_phone,"
	                   " c_mktsegment, _mg_rid, _mg_slot FROM $D.main.customer JOIN " NATION
	                   " ON c_nationkey = n_nationkey" },
	{ "supplier",
	  "s_suppkey",
	  { "s_suppkey", NULL },
	  "SELECT s_suppkey, s_name, s_address, " CITY(
		  "s_suppkey") " AS s_city, n_name AS s_nation, r_name AS s_region, s_phone,"
	                   " _mg_rid, _mg_slot FROM $D.main.supplier JOIN " NATION
	                   " ON s_nationkey = n_nationkey" },
	{ "part",
	  "p_partkey",
	  { "p_partkey", NULL },
	  "SELECT p_partkey, p_name, 'MFGR#' || right(p_mfgr, 1) AS p_mfgr, 'MFGR#' || right(p_brand, "
	  "2) AS p_category,"
	  " 'MFGR#' || right(p_brand, 2) || (p_partkey % 40 + 1)::VARCHAR AS p_brand1, "
	  "split_part(p_name, ' ', 1) AS p_color,"
	  " p_type, p_size, p_container, _mg_rid, _mg_slot FROM $D.main.part" },
	{ "lineorder",
	  "lo_orderkey",
	  { "lo_orderkey", "lo_linenumber" },
	  "SELECT l_orderkey AS lo_orderkey, l_linenumber::INTEGER AS lo_linenumber, o_custkey AS "
	  "lo_custkey, l_partkey AS lo_partkey,"
	  " l_suppkey AS lo_suppkey, " DAY(
		  "o_orderdate") " AS lo_orderdate, o_orderpriority AS lo_orderpriority,"
	                     " o_shippriority::VARCHAR AS lo_shippriority, l_quantity::INTEGER AS "
	                     "lo_quantity,"
	                     " (l_extendedprice * 100)::BIGINT AS lo_extendedprice, (o_totalprice * "
	                     "100)::BIGINT AS lo_ordtotalprice,"
	                     " (l_discount * 100)::INTEGER AS lo_discount,"
	                     " ((l_extendedprice * 100)::BIGINT * (100 - (l_discount * 100)::BIGINT) "
	                     "// 100)::BIGINT AS lo_revenue,"
	                     " ((l_extendedprice * 100)::BIGINT // l_quantity::BIGINT * 6 // "
	                     "10)::BIGINT AS lo_supplycost, (l_tax * 100)::INTEGER AS lo_tax,"
	                     " " DAY("l_commitdate") " AS lo_commitdate, l_shipmode AS lo_shipmode, "
	                                             "l._mg_rid, l._mg_slot"
	                                             " FROM $D.main.lineitem l JOIN $D.main.orders o "
	                                             "ON l_orderkey = o_orderkey" },
};
const size_t mg_ssb_table_count = sizeof mg_ssb_tables / sizeof *mg_ssb_tables;

/* sql with "$D" replaced by the file's database. */
static void add_sql(struct mg_sb *out, const char *sql, const char *database)
{
	for (const char *mark; (mark = strstr(sql, "$D")) != NULL; sql = mark + 2) {
		mg_sb_add_len(out, sql, (size_t)(mark - sql));
		mg_sb_add(out, database);
	}
	mg_sb_add(out, sql);
}

int mg_ssb_fill(struct mg_shard_file *file, struct mg_error *err)
{
	uint64_t first = (uint64_t)file->meta.shard << MG_SHARD_RID_BITS;
	uint64_t given = file->next_rid - first;
	bool reference = file->meta.shard == 0;
	int rc = mg_duck_execf(file->conn, err, "CREATE SCHEMA IF NOT EXISTS %s.ssb", file->database);
	for (size_t i = 0; rc == 0 && i < mg_ssb_table_count; i++) {
		const struct mg_ssb_table *table = &mg_ssb_tables[i];
		if ((table->key == NULL) != reference) {
			continue;
		}
		struct mg_sb sql = { 0 };
		mg_sb_addf(&sql,
		           "CREATE TABLE %s.ssb.%s AS SELECT (_mg_rid + %llu)::BIGINT AS _mg_rid, "
		           "_mg_slot, * EXCLUDE (_mg_rid, _mg_slot) FROM (",
		           file->database, table->name,
		           (unsigned long long)(reference ? file->next_rid : given));
		add_sql(&sql, table->sql, file->database);
		mg_sb_add_char(&sql, ')');
		rc = mg_duck_exec(file->conn, mg_sb_text(&sql), err);
		mg_sb_fini(&sql);
		mg_shard_file_table_note(file, "ssb", table->name);
	}
	file->next_rid += reference ? 2557 : given;
	if (rc != 0) {
		mg_error_wrap(err, "while making SSB in shard %u", file->meta.shard);
	}
	return rc;
}
