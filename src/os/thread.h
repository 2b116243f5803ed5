/*
 * thread.h - what a thread tells the system of itself.
 */
#ifndef MG_OS_THREAD_H
#define MG_OS_THREAD_H

/* The calling thread works for moments only, and others wait for each of them: when it wakes it
 * should not wait for the end of a turn of those that compute (DuckDB's, on the same cores).  It
 * gets no larger share than before.  A hint: Linux before 6.12 does not know it.  Threads that it
 * starts have it too. */
void mg_thread_prompt(void);
/* The calling thread computes: its turns are as long as the system likes.  For one that a prompt
 * thread has started. */
void mg_thread_patient(void);

#endif
