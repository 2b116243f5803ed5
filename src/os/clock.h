/* clock.h - time.  Monotonic for lengths and deadlines, wall time only for people.  Thread: any. */
#ifndef MG_OS_CLOCK_H
#define MG_OS_CLOCK_H

#include <stddef.h>
#include <stdint.h>

uint64_t mg_clock_ms(void); /* monotonic, from an unknown start */
uint64_t mg_clock_us(void);
uint64_t mg_clock_boot_ms(void); /* monotonic, and counts while the machine sleeps */
int64_t mg_clock_wall_ms(void); /* since 1970, UTC */
int64_t mg_clock_wall_us(void);
void mg_sleep_ms(uint32_t ms); /* never on a loop thread */

#define MG_CLOCK_TEXT_SIZE 32
/* "2026-11-21T10:42:24.123Z"; returns out. */
char *mg_clock_format(int64_t wall_ms, char out[MG_CLOCK_TEXT_SIZE]);

#endif
