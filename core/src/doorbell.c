// SPDX-License-Identifier: PostgreSQL
/*
 * doorbell.c - the writer's half of a wait on a word that has a doorbell.
 *
 * The sleeper's half is sleep_on_doorbells() in wait.c.  Both have a full
 * barrier between their store and their load:
 *
 *	writer (here)                  sleeper (wait.c)
 *	-------------                  ----------------
 *	W1 word = new                  S1 armed += 1
 *	   full barrier (A)            S2 expected = seq
 *	W2 read armed                     full barrier (B)
 *	W3 seq += 1      if armed      S3 read word: old?
 *	W4 FUTEX_WAKE    if armed      S4 FUTEX_WAIT(seq == expected)
 *
 * That would lose a wake-up, and why it cannot happen:
 *
 *	W1 word = new
 *	W2 armed is 0
 *	                               S1 armed = 1
 *	                               S3 word is old: sleeps for ever
 *
 * A and B forbid that W2 misses S1 while S3 misses W1: one of the two sees the
 * other.  If W2 sees the sleeper:
 *
 *	                               S1 armed = 1
 *	                               S2 expected = 7
 *	                               S3 word is old
 *	W1 word = new
 *	W2 armed is 1
 *	W3 seq = 8                     S4 seq != 7: EAGAIN, looks again
 *	W4 nobody to wake
 *
 * W3 before S2 is harmless too: S2 acquires the value that W3 released after
 * W1, so S3 sees the new word.  W3 after the futex call has compared: the
 * kernel queues the sleeper and compares under the bucket's lock, W4 finds it.
 *
 * A sleeper that dies while armed (kill -9) leaves its count behind: from then
 * on each ring pays for a futex call that wakes nobody.  The count errs to that
 * side only, since everyone takes back what he added and no more.
 */
#include <limits.h>

#include "internal.h"

int fastwake_doorbell_ring(struct fastwake_doorbell *doorbell)
{
	fw_full_barrier(); /* (A), pairs with (B) in wait.c */
	if (fw_load(&doorbell->armed) == 0)
		return 0;
	fw_store(&doorbell->rung_ns, fastwake_now());
	__atomic_fetch_add(&doorbell->seq, 1, __ATOMIC_RELEASE);
	return fw_futex_wake(&doorbell->seq, INT_MAX);
}
