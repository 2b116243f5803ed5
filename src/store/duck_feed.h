/*
 * duck_feed.h - Arrow batches that arrive one by one, as the table merganser_feed() of a statement.
 *
 *   open --> statement runs on a thread of its own, and waits for rows
 *   put ...  a batch more; waits while MG_FEED_BATCHES_MAX are not read yet
 *   close    no more rows; waits for the statement's end
 *
 * Who must do other things meanwhile asks instead of waiting: offer, finish and ended, with a
 * descriptor that wakes it.
 *
 * Rule: the statement waits inside DuckDB for rows, so its instance is a private one, and nothing
 * that makes the rows runs in it.
 *
 * Thread: a feed belongs to one thread; its connection is the feed's until close.
 */
#ifndef MG_STORE_DUCK_FEED_H
#define MG_STORE_DUCK_FEED_H

#include "base/str.h"
#include "store/duck.h"

#define MG_FEED_BATCHES_MAX 4

struct mg_duck_feed;

/* sql reads merganser_feed(), whose columns are c0, c1, ... */
int mg_duck_feed_open(struct mg_duck_feed **out, struct mg_duck_conn *conn,
                      const struct ArrowSchema *schema, const char *sql, struct mg_error *err);
/* Takes batch over, also when it fails, which it does when the statement has. */
int mg_duck_feed_put(struct mg_duck_feed *feed, struct ArrowArray *batch, struct mg_error *err);
/* As put, but *taken false instead of waiting. */
int mg_duck_feed_offer(struct mg_duck_feed *feed, struct ArrowArray *batch, bool *taken,
                       struct mg_error *err);
/* fd, an eventfd of the caller's, gets 1 added whenever there is room again, and when the statement
 * has ended; before the first batch. */
void mg_duck_feed_wake(struct mg_duck_feed *feed, int fd);
/* No more rows, as close, but waits for nothing; close is still to come. */
void mg_duck_feed_finish(struct mg_duck_feed *feed, bool whole);
bool mg_duck_feed_ended(struct mg_duck_feed *feed); /* the statement, one way or the other */
/* whole false: rows are missing, so the statement is to fail, and err is left alone.  Frees. */
int mg_duck_feed_close(struct mg_duck_feed *feed, bool whole, struct mg_error *err);

/* "SELECT c0::BIGINT AS "a", ... FROM merganser_feed()": types are SQL text, which tells what Arrow
 * does not (ENUM). */
void mg_duck_feed_select(struct mg_sb *sql, const char *const *names, const char *const *types,
                         size_t count);

#endif
