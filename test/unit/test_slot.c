/*
 * test_slot.c - the hash of placement is frozen.
 *
 * The numbers in the first test were computed once by an independent program (Python's xxhash over
 * the canonical bytes that slot.h describes) and must never change: rows on disk depend on them.
 */
#include "codec/slot.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
/* after the above */
#include <cmocka.h>

static uint16_t slot_int(__int128 value)
{
	struct mg_slot_hash hash;
	mg_slot_begin(&hash);
	mg_slot_int(&hash, value);
	return mg_slot_end(&hash);
}

static uint16_t slot_decimal(__int128 value, uint8_t scale)
{
	struct mg_slot_hash hash;
	mg_slot_begin(&hash);
	mg_slot_decimal(&hash, value, scale);
	return mg_slot_end(&hash);
}

static uint16_t slot_double(double value)
{
	struct mg_slot_hash hash;
	mg_slot_begin(&hash);
	mg_slot_double(&hash, value);
	return mg_slot_end(&hash);
}

static uint16_t slot_text(const char *text)
{
	struct mg_slot_hash hash;
	mg_slot_begin(&hash);
	mg_slot_text(&hash, text, strlen(text));
	return mg_slot_end(&hash);
}

static uint16_t slot_bytes(uint8_t tag, const void *bytes, size_t len)
{
	struct mg_slot_hash hash;
	mg_slot_begin(&hash);
	mg_slot_bytes(&hash, tag, bytes, len);
	return mg_slot_end(&hash);
}

static uint16_t slot_null(void)
{
	struct mg_slot_hash hash;
	mg_slot_begin(&hash);
	mg_slot_null(&hash);
	return mg_slot_end(&hash);
}

static uint16_t slot_composite(__int128 number, const char *text)
{
	struct mg_slot_hash hash;
	mg_slot_begin(&hash);
	mg_slot_int(&hash, number);
	mg_slot_text(&hash, text, strlen(text));
	return mg_slot_end(&hash);
}

static void test_vectors_are_frozen(void **state)
{
	(void)state;
	const int32_t day = 18262;
	const int64_t micros = 1577836800000000;
	char long_text[1001];
	memset(long_text, 'x', 1000);
	long_text[1000] = '\0';
	assert_int_equal(slot_int(0), 10597);
	assert_int_equal(slot_int(1), 8857);
	assert_int_equal(slot_int(5), 425);
	assert_int_equal(slot_int(-1), 3172);
	assert_int_equal(slot_int(INT64_MAX), 4991);
	assert_int_equal(slot_int((__int128)INT64_MAX * 4 + 3), 2140);
	assert_int_equal(slot_decimal(500, 2), 425);
	assert_int_equal(slot_decimal(125, 2), 14348);
	assert_int_equal(slot_decimal(-125, 3), 10774);
	assert_int_equal(slot_double(0.0), 13428);
	assert_int_equal(slot_double(1.5), 5679);
	assert_int_equal(slot_double(-2.25e100), 2291);
	assert_int_equal(slot_double(NAN), 10770);
	assert_int_equal(slot_text(""), 15252);
	assert_int_equal(slot_text("hello"), 12109);
	assert_int_equal(slot_text("gr\xc3\xbc\xc3\x9f"), 8639);
	assert_int_equal(slot_text(long_text), 12373);
	assert_int_equal(slot_bytes(5, "hello", 5), 4625);
	assert_int_equal(slot_bytes(6, "\1", 1), 11988);
	assert_int_equal(slot_bytes(7, &day, 4), 16312);
	assert_int_equal(slot_bytes(8, &micros, 8), 3303);
	assert_int_equal(slot_bytes(9, &micros, 8), 1289);
	assert_int_equal(slot_bytes(12, "0123456789abcdef", 16), 12329);
	assert_int_equal(slot_null(), 12562);
	assert_int_equal(slot_composite(7, "seven"), 4622);
}

static void test_equal_numbers_share_a_slot_whatever_their_type(void **state)
{
	(void)state;
	assert_int_equal(slot_int(5), slot_decimal(500, 2));
	assert_int_equal(slot_int(5), slot_decimal(5, 0));
	assert_int_equal(slot_int(0), slot_decimal(0, 4));
	assert_int_equal(slot_int(-70), slot_decimal(-7000, 2));
	assert_int_equal(slot_decimal(15, 1), slot_decimal(150000, 5));
	assert_int_not_equal(slot_decimal(15, 1), slot_decimal(15, 2));
}

static void test_floats_have_one_zero_and_one_nan(void **state)
{
	(void)state;
	uint64_t odd_bits = UINT64_C(0xfff0000000000123);
	double odd_nan;
	memcpy(&odd_nan, &odd_bits, sizeof odd_nan);
	assert_int_equal(slot_double(0.0), slot_double(-0.0));
	assert_int_equal(slot_double(NAN), slot_double(-NAN));
	assert_int_equal(slot_double(NAN), slot_double(odd_nan));
	assert_int_not_equal(slot_double(INFINITY), slot_double(-INFINITY));
}

static void test_columns_do_not_run_into_each_other(void **state)
{
	(void)state;
	struct mg_slot_hash hash;
	mg_slot_begin(&hash);
	mg_slot_text(&hash, "ab", 2);
	mg_slot_text(&hash, "c", 1);
	uint16_t one = mg_slot_end(&hash);
	mg_slot_begin(&hash);
	mg_slot_text(&hash, "a", 1);
	mg_slot_text(&hash, "bc", 2);
	assert_int_not_equal(one, mg_slot_end(&hash));
	mg_slot_begin(&hash);
	mg_slot_null(&hash);
	mg_slot_text(&hash, "", 0);
	one = mg_slot_end(&hash);
	mg_slot_begin(&hash);
	mg_slot_text(&hash, "", 0);
	mg_slot_null(&hash);
	assert_int_not_equal(one, mg_slot_end(&hash));
}

/* The same bytes, fed so that the small buffer overflows at each possible place. */
static void test_long_keys_hash_as_if_fed_at_once(void **state)
{
	(void)state;
	uint8_t bytes[300];
	for (size_t i = 0; i < sizeof bytes; i++) {
		bytes[i] = (uint8_t)(i * 7);
	}
	for (size_t total = 1; total < sizeof bytes; total += 13) {
		struct mg_slot_hash hash;
		mg_slot_begin(&hash);
		mg_slot_bytes(&hash, 12, bytes, total);
		uint16_t whole = mg_slot_end(&hash);
		for (size_t cut = 0; cut < total; cut++) {
			uint8_t rest[300];
			memcpy(rest, bytes + cut + 1, total - cut - 1);
			mg_slot_begin(&hash);
			mg_slot_bytes(&hash, 12, bytes, cut);
			/* the next byte stands where a tag would: feed it as one */
			if (bytes[cut] > 5) {
				mg_slot_bytes(&hash, bytes[cut], rest, total - cut - 1);
				assert_int_equal(mg_slot_end(&hash), whole);
			} else {
				mg_slot_end(&hash);
			}
		}
	}
}

static void test_slots_spread_evenly(void **state)
{
	(void)state;
	unsigned count[16] = { 0 };
	for (int i = 0; i < 160000; i++) {
		uint16_t slot = slot_int(i);
		assert_true(slot < MG_SLOTS);
		count[mg_slot_shard(slot, 16)]++;
	}
	for (int i = 0; i < 16; i++) {
		assert_in_range(count[i], 9500, 10500);
	}
}

static void test_shards_cover_all_slots_in_order(void **state)
{
	(void)state;
	static const uint32_t counts[] = { 1, 2, 3, 4, 5, 7, 12, 100, 1000, 16383, 16384 };
	for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
		uint32_t count = counts[c];
		assert_int_equal(mg_slot_first(0, count), 0);
		assert_int_equal(mg_slot_first(count, count), MG_SLOTS);
		for (uint32_t shard = 0; shard < count; shard++) {
			uint16_t first = mg_slot_first(shard, count);
			uint16_t end = mg_slot_first(shard + 1, count);
			assert_true(end > first);
			assert_int_equal(mg_slot_shard(first, count), shard);
			assert_int_equal(mg_slot_shard((uint16_t)(end - 1), count), shard);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors_are_frozen),
		cmocka_unit_test(test_equal_numbers_share_a_slot_whatever_their_type),
		cmocka_unit_test(test_floats_have_one_zero_and_one_nan),
		cmocka_unit_test(test_columns_do_not_run_into_each_other),
		cmocka_unit_test(test_long_keys_hash_as_if_fed_at_once),
		cmocka_unit_test(test_slots_spread_evenly),
		cmocka_unit_test(test_shards_cover_all_slots_in_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
