/* SPDX-License-Identifier: GPL-2.0 */
/*
 * core.pml - a core, its poll set, and all who look at it.
 *
 * Two waiters, the core's dispatcher, the backstop timer, a task that computes;
 * somebody who stores words, time that passes, signals.  Names are those of
 * wait.c, pollset.c, dispatcher.c and backstop.c.
 *
 * Checked for every order of their steps:
 *
 *	returns	  a waiter whose word has changed, whose time is over, or who has
 *		  a signal, does not stay in WAIT (weakly fair processes);
 *	alive()	  nobody touches a waiter that may have been freed;
 *	queued	  a waiter is taken out of the set once only, and is not in it
 *		  when it has returned.
 *
 * A step is what others cannot tell from one: what is done under the lock of the
 * core, an interrupt, a look.  A timer that only found the lock taken has not
 * fired yet, hence there is no lock.  Memory is sequentially consistent here;
 * where that is not so, and a barrier makes it so, is the matter of wake.pml.
 *
 * A runnable task may take the core at any time from one that may be preempted,
 * by taking a step.  A waiter that is woken or preempted may go on elsewhere, on
 * a core that is its own, and of which there is no more to say.
 */

#ifndef ROUNDS
#define ROUNDS 1 /* WAITs of each waiter */
#endif

#define NW    2 /* waiters: 0 and 1 */
#define D     2 /* the dispatcher */
#define H     3 /* who computes */
#define TASKS 4
#define NONE  4

/* ---- the scheduler's ---- */

byte owner = NONE;  /* who has the core, with preemption disabled */
bool idle;	    /* is_idle_task(current), perhaps with someone just woken */
bool rq[TASKS];	    /* runnable */
bool asleep[TASKS]; /* task state: to leave the run queue in schedule() */
bool here[TASKS];   /* on this core, else elsewhere */

#define RUNS(t)	   (rq[t] && (!here[t] || owner == NONE || owner == (t)))
#define ON_CORE(t) (rq[t] && here[t])
#define NR_RUNNING (ON_CORE(0) + ON_CORE(1) + ON_CORE(D) + ON_CORE(H))

/* By the task itself. */
inline schedule(t)
{
	rq[t] = rq[t] && !asleep[t];
	idle = (NR_RUNNING == 0)
}

/* To be called in its next step. */
inline scheduled(t)
{
	idle = idle && !here[t]
}

inline wake_up_process(t)
{
	if
	:: asleep[t] ->
		asleep[t] = false;
		if
		:: !rq[t] ->
			rq[t] = true;
			if
			:: here[t] = true
			:: t < NW -> here[t] = false
			fi
		:: else
		fi
	:: else
	fi
}

/* ---- the waiters' ---- */

mtype = { PENDING, LOOKED, EXPIRED, AGAIN, BLOCKED, WOKE, BUSY, EMPTY };

bool in_wait[NW];
bool changed[NW]; /* the word of a waiter in WAIT */
bool expired[NW];
bool sig[NW];
mtype result[NW] = PENDING;

#define DUE(w) (in_wait[w] && (changed[w] || expired[w] || sig[w]))

/*
 * RCU: a bit for each reader.  A grace period, begun when a waiter was
 * unregistered, is over when all who were readers then have left once.
 */
bool freed[NW];
#define alive(w) assert(!freed[w])

#ifdef LIFETIME
bool unregistered[NW];
byte readers, grace[NW];

#define READER(t) (1 << (t))

inline rcu_read_lock(t)
{
#ifndef NO_RCU
	readers = readers | READER(t)
#else
	skip
#endif
}

inline rcu_read_unlock(t)
{
	readers = readers & (7 - READER(t));
	grace[0] = grace[0] & (7 - READER(t));
	grace[1] = grace[1] & (7 - READER(t))
}

inline call_rcu(w)
{
	unregistered[w] = true;
	grace[w] = readers
}

active proctype rcu()
{
end:	do
	:: atomic { unregistered[0] && !freed[0] && !grace[0] -> freed[0] = true }
	:: atomic { unregistered[1] && !freed[1] && !grace[1] -> freed[1] = true }
	od
}
#else
#define rcu_read_lock(t)   skip
#define rcu_read_unlock(t) skip
#define call_rcu(t)	   skip
#endif

/* ---- pollset.c ---- */

bool queued[NW];
bool armed; /* ->backstop_armed */
bool dispatcher_asleep;
bool elect;
bool scanner; /* somebody scans */

#define NR_WAITERS (queued[0] + queued[1])

inline take_out(w)
{
	alive(w);
	assert(queued[w]);
	queued[w] = false
}

inline end_wait(w, why)
{
	take_out(w);
	result[w] = why
}

/* Sets FOUND to a waiter with a watch that holds. */
inline scan(found)
{
	if
	:: queued[0] && changed[0] -> found = 0; end_wait(0, LOOKED)
	:: queued[1] && changed[1] -> found = 1; end_wait(1, LOOKED)
	:: else
	fi
}

inline expire(found)
{
	if
	:: found == NONE && queued[0] && expired[0] -> found = 0; end_wait(0, EXPIRED)
	:: found == NONE && queued[1] && expired[1] -> found = 1; end_wait(1, EXPIRED)
	:: else
	fi
}

inline take_over()
{
	armed = armed || NR_WAITERS > 0
}

/* ---- wait.c ---- */

/* fw_look(), and the clock where FW_EXPIRED may come of it. */
inline look(w, with_clock, ret)
{
	ret = (changed[w] || sig[w] -> LOOKED :
		(with_clock && expired[w] -> EXPIRED : PENDING))
}

/*
 * Looks until there is a result, or the core is wanted; need_resched() may say so
 * when the one who wanted it has gone again.
 */
inline fw_spin_on(w, ret, peer, handed)
{
	do
	:: atomic {
		RUNS(w) ->
		look(w, true, ret);
		if
		:: ret != PENDING -> break
		:: ret == PENDING && !handed && NR_WAITERS > 0 ->
			rcu_read_lock(w);
			scan(peer);
			expire(peer)
		:: else
		fi
	   };
	   atomic {
		RUNS(w) ->
		if
		:: peer != NONE ->
			alive(peer);
			wake_up_process(peer);
			handed = true;
			peer = NONE
		:: else
		fi;
		rcu_read_unlock(w);
		if
		:: ret = BLOCKED; break
		:: NR_RUNNING == 1 -> handed = false; scanner = true
		fi
	   }
	od
}

inline fw_spin_end(w, ret)
{
	atomic {
		RUNS(w) ->
		scanner = false;
#ifdef TAKE_OVER_UNLESS_BLOCKED
		if
		:: ret != BLOCKED -> take_over()
		:: else
		fi;
#else
#ifndef NO_TAKE_OVER_SPIN
		take_over();
#endif
#endif
		owner = NONE
	}
}

inline fw_spin(w, ret, peer, handed)
{
	if
	:: atomic { RUNS(w) && here[w] -> owner = w };
	   fw_spin_on(w, ret, peer, handed);
	   fw_spin_end(w, ret)
	/* How long it spins elsewhere is of no interest. */
	:: atomic { RUNS(w) -> here[w] = false; ret = LOOKED }
	fi
}

inline fw_block(w, ret, handed)
{
	if
	:: atomic {
		RUNS(w) && here[w] ->
		owner = w;
		/* (E1) */
		ret = PENDING;
		result[w] = PENDING;
		queued[w] = true;
		elect = (!handed && !dispatcher_asleep);
#ifndef NO_ARM_BLOCK
		armed = true
#endif
	   };
	   atomic {
		RUNS(w) ->
		/* (E2) */
		if
		:: !handed && dispatcher_asleep -> wake_up_process(D)
		:: else
		fi;
		handed = false;
		owner = NONE
	   }
	/* Elsewhere there is no need to. */
	:: atomic { RUNS(w) -> here[w] = false; handed = false; ret = AGAIN }
	fi
}

inline fw_sleep(w, ret)
{
	do
	:: atomic {
		RUNS(w) ->
		scheduled(w);
		if
		:: result[w] != PENDING -> ret = result[w]; break
		:: else -> look(w, false, ret)
		fi;
#ifdef LOOK_BEFORE_STATE
	   };
	   atomic {
		RUNS(w) ->
#endif
		asleep[w] = (ret == PENDING)
	   };
	   atomic {
		RUNS(w) ->
		if
		:: ret == PENDING -> schedule(w)
		:: ret != PENDING && queued[w] -> take_out(w); break
		:: else -> break
		fi
	   }
	od
}

proctype waiter(byte w)
{
	byte round, peer = NONE;
	bool handed;
	mtype ret = PENDING;

	do
	:: atomic { round < ROUNDS && RUNS(w) -> round++; in_wait[w] = true };
	   do
	   :: fw_spin(w, ret, peer, handed);
	      if
	      :: ret == BLOCKED ->
		fw_block(w, ret, handed);
		if
		:: ret == PENDING -> fw_sleep(w, ret)
		:: else
		fi
	      :: else
	      fi;
	      if
	      :: ret != AGAIN -> break
	      :: else -> ret = PENDING
	      fi
	   od;
	   atomic {
		RUNS(w) ->
		assert(!queued[w]);
		in_wait[w] = false;
		changed[w] = false;
		expired[w] = false;
		sig[w] = false;
		result[w] = PENDING;
		ret = PENDING
	   }
	/* UNREGISTER; the task exits. */
	:: atomic {
		round == ROUNDS && RUNS(w) ->
		call_rcu(w);
		rq[w] = false;
		idle = (NR_RUNNING == 0);
		here[w] = false;
		break
	   }
	od
}

/* ---- dispatcher.c ---- */

inline prepare_to_sleep()
{
	dispatcher_asleep = true;
	asleep[D] = true
}

inline awake_again()
{
	atomic {
		RUNS(D) ->
		scheduled(D);
		asleep[D] = false;
		dispatcher_asleep = false
	}
}

inline sleep_while_empty(nobody)
{
#ifdef LOOK_BEFORE_ASLEEP
	atomic { RUNS(D) -> nobody = (NR_WAITERS == 0) };
	atomic { RUNS(D) -> prepare_to_sleep() };
#else
	atomic { RUNS(D) -> prepare_to_sleep() };	  /* (D1) */
	atomic { RUNS(D) -> nobody = (NR_WAITERS == 0) }; /* (D2) */
#endif
	atomic {
		RUNS(D) ->
		if
		:: nobody -> nobody = false; schedule(D)
		:: else
		fi
	};
	awake_again()
}

/* Looks until there is a reason to leave. */
inline fw_scan(peer, leave)
{
	do
	:: atomic {
		RUNS(D) -> /* fw_find() */
		rcu_read_lock(D);
		scan(peer);
		if
		:: peer == NONE && NR_RUNNING == 1 && elect && NR_WAITERS > 0 ->
			elect = false;
			if
			:: queued[0] -> peer = 0
			:: queued[1] -> peer = 1
			fi;
			end_wait(peer, AGAIN)
		:: else
		fi;
		expire(peer);
#ifdef TAKE_OVER_BEFORE_END
		if
		:: peer != NONE -> take_over()
		:: else
		fi
#endif
	   };
	   atomic {
		RUNS(D) ->
		if
		:: peer != NONE ->
			prepare_to_sleep();
			alive(peer);
			wake_up_process(peer);
			peer = NONE;
			leave = WOKE
		:: peer == NONE && NR_WAITERS == 0 -> leave = EMPTY
		:: peer == NONE && NR_WAITERS > 0 -> leave = BUSY
		:: peer == NONE && NR_WAITERS > 0 && NR_RUNNING == 1
		fi;
		rcu_read_unlock(D);
		if
		:: leave != PENDING -> break
		:: else
		fi
	   }
	od
}

inline scan_as_dispatcher(peer, leave)
{
	fw_scan(peer, leave);
	atomic {
		RUNS(D) ->
		scanner = false;
#ifdef TAKE_OVER_BEFORE_END
		if
		:: leave == BUSY -> take_over()
		:: else
		fi;
#else
#ifndef NO_TAKE_OVER_DISPATCHER
		take_over();
#endif
#endif
		owner = NONE
	}
}

inline yield()
{
	if
	:: atomic { RUNS(D) && NR_RUNNING > 1 -> prepare_to_sleep() };
	   atomic { RUNS(D) -> schedule(D) };
	   awake_again()
	:: atomic { RUNS(D) && NR_RUNNING == 1 -> skip }
	fi
}

active proctype dispatcher()
{
	byte peer = NONE;
	bool nobody;
	mtype leave = PENDING;

end:	do
	:: atomic { RUNS(D) && NR_WAITERS == 0 -> skip };
	   sleep_while_empty(nobody)
	:: atomic { RUNS(D) && NR_WAITERS > 0 -> owner = D; scanner = true };
	   scan_as_dispatcher(peer, leave);
	   if
	   :: leave == WOKE ->
		leave = PENDING;
		atomic { RUNS(D) -> schedule(D) };
		awake_again()
	   :: leave == BUSY -> leave = PENDING; yield()
	   :: leave == EMPTY -> leave = PENDING
	   fi
	od
}

/* ---- backstop.c ---- */

inline backstop_look(w, woke)
{
	if
	:: queued[w] && changed[w] -> end_wait(w, LOOKED); wake_up_process(w); woke = true
	:: queued[w] && !changed[w] && expired[w] -> end_wait(w, EXPIRED); wake_up_process(w)
	:: else
	fi
}

active proctype backstop()
{
	bool woke;

end:	do
	:: atomic {
		armed ->
		backstop_look(0, woke);
		backstop_look(1, woke);
		armed = false;
		if
		:: NR_WAITERS > 0 && !scanner && idle && !woke ->
			if
			:: dispatcher_asleep -> wake_up_process(D)
			:: else
			fi
		:: NR_WAITERS > 0 && !scanner && !(idle && !woke) ->
#ifdef NO_REARM
			skip
#else
			armed = true
#endif
		:: else
		fi;
		woke = false
	   }
	od
}

/* ---- what comes from outside ---- */

/*
 * Who computes, and sleeps, as it likes; words, time and signals, of which none
 * must come.  The waiters are alike, so that one of them has signals will do.
 */
active proctype outside()
{
end:	do
	:: atomic { RUNS(H) -> idle = false }
	:: atomic { RUNS(H) -> asleep[H] = true; schedule(H) }
	:: atomic { !rq[H] -> wake_up_process(H) }
	:: !rq[H] -> skip
	:: atomic { in_wait[0] && !changed[0] && !expired[0] -> changed[0] = true }
	:: atomic { in_wait[1] && !changed[1] && !expired[1] -> changed[1] = true }
#ifndef NO_TIME
	:: atomic { in_wait[0] && !changed[0] && !expired[0] -> expired[0] = true }
	:: atomic { in_wait[1] && !changed[1] && !expired[1] -> expired[1] = true }
#endif
#ifndef NO_SIGNALS
	:: atomic { in_wait[0] && !sig[0] -> sig[0] = true; wake_up_process(0) }
#endif
	od
}

init
{
	atomic {
		rq[D] = true;
		here[D] = true;
		here[H] = true;
		asleep[H] = true;
		rq[0] = true;
		here[0] = true;
		rq[1] = true;
		here[1] = true;
		run waiter(0);
		run waiter(1)
	}
}

ltl returns { []<>!DUE(0) }
