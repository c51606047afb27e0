/* SPDX-License-Identifier: GPL-2.0 */
/*
 * wake.pml - WAIT against WAKE and UNPIN, with the stores that a processor keeps
 * back for a while.
 *
 * Nobody scans here: whoever waits depends on being told.  A waiter, who waits a
 * few times and may find its time over; a waker, who stores the word and then
 * wakes; another who unpins the region.  The names of steps are those of
 * README.md ("announce and wake") and region.c.
 *
 * Checked for every order of their steps and of their stores:
 *
 *	no end in WAIT	a waiter whose word was stored, and whom WAKE was tried
 *			on, or whose region was unpinned, has returned (an
 *			invalid end state else);
 *	told		WAIT does not return an error after WAKE was told that it
 *			is there;
 *	unpinned	the pages are not read after they are released;
 *	alive		the waiter is not touched after it was freed.
 *
 * Each process has a buffer of one store for each variable, which reaches memory
 * at any time, in any order: weaker than x86, as weak as arm64 is between a
 * store and a later load, and between stores.  mb() waits until they have.
 */

#ifndef ROUNDS
#define ROUNDS 3 /* WAITs */
#endif

/* Variables that are stored to without lock or atomic operation. */
#define WORD	0 /* the word watched */
#define WAITING 1 /* w->waiting: the number of the WAIT, or 0 */
#define STATE	2 /* the task's state: 1 to sleep */
#define DYING	3 /* the region's reference has been killed */
#define VARS	4

byte mem[VARS];

/* Stores kept back: + 1, or 0 for none; by the waiter (0), others (1, 2). */
byte kept[12];

#define KEPT(p, v) kept[(p) * VARS + (v)]
#define FLUSHED(p)                                                             \
	(KEPT(p, 0) == 0 && KEPT(p, 1) == 0 && KEPT(p, 2) == 0 && KEPT(p, 3) == 0)
/* What a process reads: its own store first. */
#define READ(p, v) (KEPT(p, v) -> KEPT(p, v) - 1 : mem[v])

inline store(p, v, value)
{
	atomic { KEPT(p, v) == 0 -> KEPT(p, v) = (value) + 1 }
}

#define mb(p) FLUSHED(p)

active [3] proctype buffer()
{
end:	do
	:: atomic { KEPT(_pid, 0) -> mem[0] = KEPT(_pid, 0) - 1; KEPT(_pid, 0) = 0 }
	:: atomic { KEPT(_pid, 1) -> mem[1] = KEPT(_pid, 1) - 1; KEPT(_pid, 1) = 0 }
	:: atomic { KEPT(_pid, 2) -> mem[2] = KEPT(_pid, 2) - 1; KEPT(_pid, 2) = 0 }
	:: atomic { KEPT(_pid, 3) -> mem[3] = KEPT(_pid, 3) - 1; KEPT(_pid, 3) = 0 }
	od
}

#define WAITER	 0
#define WAKER	 1
#define UNPINNER 2

/* ---- shared, changed by atomic operations or under locks ---- */

bool event;	  /* atomic_t */
bool blocked;	  /* off the run queue: schedule() and try_to_wake_up() */
byte refs = 1;	  /* of the region: the table's, the waiter's */
bool killed;	  /* percpu_ref_kill() has refused new ones */
bool released;	  /* the pages */
bool registered = true, freed;
byte readers;	  /* wakers in RCU sections */

/* ---- what is known to have happened ---- */

bool told[ROUNDS + 1], failed[ROUNDS + 1]; /* by number of the WAIT */
byte outcome;

#define NOTHING 0
#define OWN	1
#define EVENT	2
#define STALE	3
#define OVER	4
#define BEGIN	5

/* ---- the waiter ---- */

inline own()
{
	atomic {
		assert(!released);
		if
		:: READ(WAITER, WORD) -> outcome = OWN
		:: else
		fi
	}
}

inline look()
{
	own();
	if
	:: outcome == NOTHING && event ->
		event = false; /* atomic_xchg() */
		outcome = (READ(WAITER, DYING) -> STALE : EVENT)
	:: else
	fi
}

inline set_state(value)
{
	store(WAITER, STATE, value);
#ifndef NO_BARRIER_STATE
	mb(WAITER)
#endif
}

/* Under the lock of the run queue, which is full barrier enough. */
inline schedule()
{
	atomic {
		mb(WAITER) ->
		if
		:: mem[STATE] -> blocked = true
		:: else
		fi
	};
	!blocked
}

inline sleep()
{
	do
	::
#ifndef LOOK_BEFORE_STATE
	   set_state(1);
	   look(); /* (A3), (W3) */
#else
	   look();
	   set_state(1);
#endif
	   if
	   :: outcome != NOTHING -> break
	   :: outcome == NOTHING -> schedule()
	   :: outcome == NOTHING && time_passes -> outcome = OVER; break
	   fi
	od;
	store(WAITER, STATE, 0)
}

inline wait_announced()
{
	look(); /* (A3) */
#ifndef NO_LOOK_AT_REGION
	if
	:: outcome == NOTHING && READ(WAITER, DYING) -> outcome = STALE /* (W3) */
	:: else
	fi;
#endif
	if
	:: outcome == NOTHING -> sleep()
	:: else
	fi
}

inline wait(n)
{
	/* (W1) */
	atomic {
		outcome = NOTHING;
		if
		:: !killed -> refs++
		:: else -> outcome = BEGIN /* ENOENT */
		fi
	};
	if
	:: outcome == NOTHING ->
		event = false;
		store(WAITER, WAITING, n); /* (A1), (W2) */
#ifndef NO_BARRIER_ANNOUNCE
		mb(WAITER); /* (A2) */
#endif
		wait_announced();
#ifndef NO_LAST_LOOK
		store(WAITER, WAITING, 0); /* (A4) */
#ifndef NO_BARRIER_WITHDRAW
		mb(WAITER); /* (A5) */
#endif
		if
		:: outcome == OVER -> own()
		:: else
		fi;
#else
		store(WAITER, WAITING, 0);
#endif
		atomic {
			if
			:: outcome == OVER ->
				assert(!told[n]);
				failed[n] = true
			:: else
			fi
		};
		refs--
	:: else
	fi
}

/* Time may be over in the first round only, so that the last one shows who sleeps. */
proctype waiter()
{
	byte n;
	bool time_passes = true;

	do
	:: n < ROUNDS ->
		n++;
		time_passes = (n < ROUNDS);
		wait(n);
		if
		/* In user space: the word is there, or the region is gone. */
		:: outcome == OWN || outcome == BEGIN || outcome == STALE -> break
		:: else
		fi
	:: else -> break
	od;
	/* UNREGISTER */
	registered = false;
	readers == 0;
	freed = true
}

/* ---- fw_wake_waiter() ---- */

inline wake_up_process(p)
{
	atomic {
		assert(!freed);
		mb(p) ->
		if
		:: mem[STATE] -> mem[STATE] = 0; blocked = false
		:: else
		fi
	}
}

inline fw_wake_waiter(p, n)
{
	skip;
#ifndef NO_BARRIER_WAKER
	mb(p); /* (W2) */
#endif
	atomic {
		assert(!freed);
		n = mem[WAITING]; /* (W3) */
		if
		:: n && p == WAKER -> assert(!failed[n]); told[n] = true
		:: else
		fi
	};
	if
	:: n ->
		atomic { assert(!freed); event = true }; /* (W4) */
		wake_up_process(p)
	:: else
	fi
}

inline rcu_section(p, n)
{
	atomic {
#ifndef NO_RCU
		readers++;
#endif
		found = registered
	};
	if
	:: found -> fw_wake_waiter(p, n)
	:: else
	fi;
#ifndef NO_RCU
	readers--;
#endif
	n = 0
}

proctype waker()
{
	byte n;
	bool found;

	store(WAKER, WORD, 1); /* (W1) */
	rcu_section(WAKER, n)
}

proctype unpinner()
{
	byte n;
	bool found;

	/* percpu_ref_kill(): no new reference, and the store that says so. */
	killed = true;
	store(UNPINNER, DYING, 1); /* (U1) */
	rcu_section(UNPINNER, n); /* (U2) */
	atomic { mb(UNPINNER) -> refs-- };
#ifndef NO_REFERENCE
	refs == 0;
#endif
	released = true
}

init
{
	atomic {
		run waiter();
		if
		:: run waker()
		:: run unpinner()
		:: run waker(); run unpinner()
		fi
	}
}
