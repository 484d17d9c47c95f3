/* tm.h: one benchmark source, several ways to make its operations indivisible.
 *
 * Compile with exactly one of
 *   -DTM_AME     Ame: the pass instruments the code between TM_BEGIN and TM_END
 *   -DTM_ITM     GCC's libitm (-fgnu-tm)
 *   -DTM_MUTEX   one pthread mutex, plain code
 *   -DTM_NONE    nothing: the unsynchronised code, for one thread only
 *
 * TM_BEGIN opens and TM_END closes a C block. Leave it at its end only: no return, break or goto.
 * TM_SAFE marks functions called in it (libitm wants to know at the declaration).
 */
#ifndef TM_H
#define TM_H

#if defined(TM_AME)
#include <ame.h>
#define TM_SAFE
#define TM_BEGIN { (void)ame_begin();
#define TM_END ame_commit(); }
#define TM_NAME "ame"
#elif defined(TM_ITM)
#define TM_SAFE __attribute__((transaction_safe))
#define TM_BEGIN __transaction_atomic {
#define TM_END }
#define TM_NAME "libitm"
#elif defined(TM_MUTEX)
#include <pthread.h>
static pthread_mutex_t tm_mutex = PTHREAD_MUTEX_INITIALIZER;
#define TM_SAFE
#define TM_BEGIN { pthread_mutex_lock(&tm_mutex);
#define TM_END pthread_mutex_unlock(&tm_mutex); }
#define TM_NAME "mutex"
#elif defined(TM_NONE)
#define TM_SAFE
#define TM_BEGIN {
#define TM_END }
#define TM_NAME "none"
#else
#error "define one of TM_AME, TM_ITM, TM_MUTEX, TM_NONE"
#endif

#endif
