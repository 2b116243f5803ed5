/*
 * lane.h - a thread that does one thing at a time: what a state machine has in hand.
 *
 *     start -> run, run, ... -> stop -> free
 *
 * Thread: run by any thread.  Bound: MG_LANE_TASKS that wait; who gives them sees to it.
 */
#ifndef MG_REPLICA_LANE_H
#define MG_REPLICA_LANE_H

#include "base/error.h"

#include <stdbool.h>

#define MG_LANE_TASKS 4

struct mg_lane;

int mg_lane_start(struct mg_lane **out, struct mg_error *err); /* MG_E_NOMEM: no thread */
void mg_lane_run(struct mg_lane *lane, void (*task)(void *arg), void *arg);
/* It has something in hand, or will at once.  Any thread. */
bool mg_lane_is_busy(struct mg_lane *lane);
/* Waits for the task in hand, which still posts its answer; what is given later is never done, and
 * never answered.  Again is fine; so is NULL. */
void mg_lane_stop(struct mg_lane *lane);
void mg_lane_free(struct mg_lane *lane); /* stops; nobody gives anything any more; NULL is fine */

#endif
