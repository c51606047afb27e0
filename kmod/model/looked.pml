/* SPDX-License-Identifier: GPL-2.0 */
/*
 * looked.pml - how many words of a set were looked at since the timer was set.
 *
 * Who puts the backstop off need not look if ->looked says that scanners have looked
 * at all words since then.  It is a mere number, while waiters come, leave, take
 * another's place, and the last entry moves to where one was.  Here each entry
 * knows whether it was looked at, and that must be so for all when the number says so.
 * All of this happens under the lock of the core, hence there is one process.  Names
 * are those of pollset.c.
 */

#ifndef N
#define N 4 /* entries at most */
#endif
#define MOST (2 * N + 1) /* more says no more: all have been looked at */

byte nr, cursor, looked;
bool was_seen[N];

inline set()
{
	looked = 0;
	was_seen[0] = false;
	was_seen[1] = false;
	was_seen[2] = false;
	was_seen[3] = false
}

inline fw_looked_less(pos)
{
	if
#ifndef NEVER_NONE
	:: pos < cursor -> looked = 0
	:: pos >= cursor && looked > 0 -> looked--
#else
	:: looked > 0 -> looked--
#endif
	:: else
	fi
}

inline take_out(pos)
{
#ifndef NEVER_LESS
	fw_looked_less(pos);
#endif
	nr--;
	was_seen[pos] = was_seen[nr];
	was_seen[nr] = false
}

/* Sets POS to any entry. */
inline any(pos)
{
	pos = 0;
	do
	:: pos + 1 < nr -> pos++
	:: break
	od
}

/* Whoever joins looks at his words himself, later. */
inline join()
{
	was_seen[nr] = true;
	nr++
}

inline overwrite(pos)
{
	any(pos);
#ifndef NEVER_LESS
	fw_looked_less(pos);
#endif
	was_seen[pos] = true
}

/* From I on; it stops at END, or at one that holds, as it likes. */
inline fw_first_holding(i, end)
{
	do
	:: i < end -> was_seen[i] = true; i++
	:: i < end -> break
	:: i >= end -> break
	od
}

/* Its waiter may have another watch, whose entry may go first. */
inline end_wait(i, pos)
{
	if
	:: nr > 1 ->
		any(pos);
		if
		:: pos != i ->
			i = (i == nr - 1 -> pos : i);
			take_out(pos)
		:: else
		fi
	:: true
	fi;
	take_out(i)
}

inline fw_pollset_scan(left, n, from, end, i, pos)
{
	n = (left < nr -> left : nr);
	from = (cursor < nr -> cursor : 0);
	end = (from + n < nr -> from + n : nr);
	i = from;
	fw_first_holding(i, end);
	left = n; /* ->last_look */
	n = n - (i - from);
	if
	:: i == end && n > 0 ->
		end = n;
		i = 0;
		fw_first_holding(i, end);
		n = n - i
	:: else
	fi;
	cursor = i;
	looked = looked + left - n;
	looked = (looked > MOST -> MOST : looked);
	if
	:: i < end -> end_wait(i, pos)
	:: else
	fi
}

active proctype core()
{
	byte left, n, from, end, i, pos;

	do
	:: atomic {
		if
		:: nr < N -> join()
		:: nr > 0 -> any(pos); take_out(pos)
		:: nr > 0 -> overwrite(pos)
		:: nr > 0 -> any(left); left++; fw_pollset_scan(left, n, from, end, i, pos)
		:: set()
		fi;
		left = 0; n = 0; from = 0; end = 0; i = 0; pos = 0;
		assert(looked < nr || nr < 1 || was_seen[0]);
		assert(looked < nr || nr < 2 || was_seen[1]);
		assert(looked < nr || nr < 3 || was_seen[2]);
		assert(looked < nr || nr < 4 || was_seen[3])
	   }
	od
}
