/* signals.h - SIGTERM, SIGINT and SIGHUP for a main loop.  One main thread; every other thread has
 * them blocked. */
#ifndef MG_SERVER_SIGNALS_H
#define MG_SERVER_SIGNALS_H

#include <stdbool.h>

void mg_signals_watch(void); /* before any other thread starts; SIGPIPE is ignored from then on */
/* Wait at most timeout_ms for a signal; returns how many SIGTERM and SIGINT have come so far. */
int mg_signals_wait(unsigned timeout_ms);
bool mg_signals_take_reload(void); /* SIGHUP came since the last call */

#endif
