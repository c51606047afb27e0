/* SPDX-License-Identifier: GPL-2.0 */
/*
 * core.pml - a core, its poll set, and all who look at it.
 *
 * Two waiters, the core's dispatcher, the backstop timer, a task that computes;
 * somebody who stores words, time that passes, signals.  Names are those of
 * wait.c, pollset.c, dispatcher.c, backstop.c and hotplug.c.
 *
 * Checked for every order of their steps:
 *
 *	returns	  a waiter whose word has changed, whose time is over, or who has
 *		  a signal, does not stay in WAIT (weakly fair processes);
 *	alive()	  nobody touches a waiter that may have been freed;
 *	queued	  a waiter is taken out of the set once only, and is not in it
 *		  when it has returned;
 *	stops	  a core that goes down comes up again: its dispatcher ends.
 *
 * A step is what others cannot tell from one: what is done under the lock of the
 * core, an interrupt, a look.  A timer that only found the lock taken has not
 * fired yet, hence there is no lock.  Memory is sequentially consistent here;
 * where that is not so, and a barrier makes it so, is the matter of wake.pml.
 *
 * A runnable task may take the core at any time from one that may be preempted,
 * by taking a step.  A waiter that is woken or preempted may go on elsewhere, on
 * a core that is its own, and of which there is no more to say.
 *
 * Parts that a check may do with or without:
 *
 *	SWITCH	   a WAIT may begin with one
 *	PUT_OFF	   who joins may put the timer off; FOREVER: again and again
 *	HOTPLUG	   the core goes down, and comes up again
 *	LIFETIME   waiters end, and RCU
 *	STAY	   nobody goes elsewhere
 *	COMPUTING  somebody computes all the time
 *	NO_OTHER   nobody else computes
 */

#ifndef ROUNDS
#define ROUNDS 1 /* WAITs of each waiter */
#endif

#define NW    2 /* waiters: 0 and 1 */
#define D     2 /* the dispatcher */
#define H     3 /* who computes */
#define TASKS 4
#define NONE  4

#define OTHER(w) (1 - (w))

/* ---- the scheduler's ---- */

byte owner = NONE;  /* who has the core, with preemption disabled */
bool idle;	    /* is_idle_task(current), perhaps with someone just woken */
bool rq[TASKS];	    /* runnable */
bool asleep[TASKS]; /* task state: to leave the run queue in schedule() */
bool here[TASKS];   /* on this core, else elsewhere */
bool cpuhp;	    /* the thread that takes the core down is runnable */

#define RUNS(t)	   (rq[t] && (!here[t] || owner == NONE || owner == (t)))
#define ON_CORE(t) (rq[t] && here[t])
#define OTHERS	   (ON_CORE(0) + ON_CORE(1) + ON_CORE(H))
#define NR_RUNNING (OTHERS + ON_CORE(D) + cpuhp)

/*
 * SCHED_IDLE: while others are runnable the dispatcher gets a turn now and then,
 * on which nothing may depend.
 */
bool turn;
#define RUNS_D (rq[D] && (owner == D || (owner == NONE && (turn || OTHERS == 0))))

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
#ifndef STAY
			:: t < NW -> here[t] = false
#endif
			fi
		:: else
		fi
	:: else
	fi
}

/* ---- the waiters' ---- */

mtype = { PENDING, LOOKED, EXPIRED, AGAIN, BLOCKED, JOINED, WOKE, BUSY, EMPTY };

bool in_wait[NW];
bool changed[NW]; /* the word of a waiter in WAIT */
bool expired[NW];
bool sig[NW];
bool woken[NW]; /* ->event: FW_EVENT_WOKEN */
mtype result[NW] = PENDING;

/*
 * LATER: the first waiter's watch is in no hurry as long as time says so (hurry), and
 * scanners pass it by until one has looked at the clock (->later), or is idle.
 */
#ifdef LATER
bool hurry;
bool later;

#ifdef NEVER_IDLE
#define GOES(w, alone) ((w) != 0 || !later)
#else
#define GOES(w, alone) ((w) != 0 || !later || (alone))
#endif
#define URGENT(w)      ((w) != 0 || hurry)
#define LATER_IS_NOW   (queued[0] && !expired[0] && later && hurry)
#define later_is_now() later = false

inline in_no_hurry(w)
{
	if
	:: w == 0 -> later = true; hurry = false
	:: else
	fi
}
#else
#define GOES(w, alone) true
#define URGENT(w)      true
#define LATER_IS_NOW   false
#define later_is_now() skip
#define in_no_hurry(w) skip
#endif

#define DUE(w) (in_wait[w] && \
	(changed[w] && URGENT(w) || expired[w] || sig[w] || woken[w]))

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

bool online = true;
bool queued[NW];
bool armed; /* ->backstop_armed */
bool timer; /* the timer runs */
bool due;   /* its period is over; of no interest unless it is put off */
bool seen[NW]; /* looked at since it was set: ->looked */
bool dispatcher_asleep;
bool elect;
bool scanner; /* somebody scans */
bool should_stop; /* kthread_should_stop() */

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

#ifdef PUT_OFF
inline all_seen()
{
	seen[0] = true;
	seen[1] = true
}

inline none_seen()
{
	seen[0] = false;
	seen[1] = false
}
#else
#define all_seen()  skip
#define none_seen() skip
#endif

/* Sets FOUND to a waiter with a watch that holds. */
inline scan(found)
{
	if
	:: queued[0] && changed[0] && GOES(0, NR_RUNNING == 1) ->
		found = 0; end_wait(0, LOOKED)
	:: queued[1] && changed[1] -> found = 1; end_wait(1, LOOKED)
	:: else -> all_seen()
	fi
}

inline expire(found)
{
	if
	:: found == NONE && queued[0] && expired[0] -> found = 0; end_wait(0, EXPIRED)
	:: found == NONE && queued[1] && expired[1] -> found = 1; end_wait(1, EXPIRED)
	:: found == NONE && LATER_IS_NOW ->
		later_is_now();
		if
		:: queued[0] && changed[0] -> found = 0; end_wait(0, LOOKED)
		:: else
		fi
	:: else
	fi
}

/* ---- backstop.c ---- */

inline fw_backstop_set()
{
	timer = true;
	due = false;
#ifndef SEEN_ONCE_AND_FOR_ALL
	none_seen()
#endif
}

inline fw_backstop_arm()
{
	if
	:: !armed && online -> armed = true; fw_backstop_set()
	:: else
	fi
}

inline take_over()
{
	if
	:: NR_WAITERS > 0 -> fw_backstop_arm()
	:: else
	fi
}

inline backstop_look(w, woke)
{
#ifndef NO_CLOCK_AT_LATER
	if
	:: w == 0 && LATER_IS_NOW -> later_is_now()
	:: else
	fi;
#endif
	if
	:: queued[w] && changed[w] && GOES(w, idle) ->
		end_wait(w, LOOKED); wake_up_process(w); woke = true
	:: queued[w] && !(changed[w] && GOES(w, idle)) && expired[w] ->
		end_wait(w, EXPIRED); wake_up_process(w)
	:: else
	fi
}

#ifdef PUT_OFF
#define DUE_TIMER due
#else
#define DUE_TIMER true
#endif
#define ALL_SEEN ((!queued[0] || seen[0]) && (!queued[1] || seen[1]))

#ifdef PUT_OFF
/*
 * Words need not be looked at that were looked at since; times always are.  Whoever
 * does it may find himself.
 */
inline fw_backstop_put_off(woke)
{
#ifndef PUT_OFF_BLINDLY
	if
	:: ALL_SEEN ->
		if
		:: queued[0] && expired[0] -> end_wait(0, EXPIRED); wake_up_process(0)
		:: else
		fi;
		if
		:: queued[1] && expired[1] -> end_wait(1, EXPIRED); wake_up_process(1)
		:: else
		fi
	:: else ->
		backstop_look(0, woke);
		backstop_look(1, woke)
	fi;
#endif
	woke = false;
	fw_backstop_set()
}

/* Whether it is put off is a matter of how many have come, and of the clock. */
inline fw_backstop_joined(woke)
{
	if
	:: armed -> fw_backstop_put_off(woke)
	:: armed -> skip
	:: !armed -> fw_backstop_arm()
	fi
}
#else
#define fw_backstop_joined(woke) fw_backstop_arm()
#endif

/* ---- wait.c ---- */

/* fw_look(), and the clock where FW_EXPIRED may come of it. */
inline look(w, with_clock, ret)
{
	ret = (changed[w] || sig[w] || woken[w] -> LOOKED :
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
#ifndef STAY
	/* How long it spins elsewhere is of no interest. */
	:: atomic { RUNS(w) -> here[w] = false; ret = LOOKED }
#endif
	fi
}

inline fw_join(w, handed, woke)
{
	result[w] = PENDING;
	queued[w] = true;
	elect = (!handed && !dispatcher_asleep);
#ifndef NO_ARM_BLOCK
	fw_backstop_joined(woke)
#endif
}

inline fw_block(w, ret, handed, woke)
{
	if
	:: atomic {
		RUNS(w) && here[w] && online ->
		owner = w;
		/* (E1) */
		ret = PENDING;
		fw_join(w, handed, woke)
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
	/* It parks. */
	:: atomic { RUNS(w) && here[w] && !online -> handed = false; ret = EXPIRED }
#ifndef STAY
	/* Elsewhere there is no need to. */
	:: atomic { RUNS(w) -> here[w] = false; handed = false; ret = AGAIN }
#endif
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

#ifdef SWITCH
/*
 * To the other if it is in the set of this core, whose place is taken; else as WAKE
 * if it waits, or to somebody of whom there is no more to say.
 */
inline fw_switch_to(w, ret, handed, woke)
{
	if
	:: atomic {
		RUNS(w) && here[w] && queued[OTHER(w)] && online -> /* (S2) */
		owner = w
#ifndef NO_LOOK_UNDER_LOCK
		;
#else
	   };
	   atomic {
		RUNS(w) ->
#endif
		/* (S3), (S4) */
		handed = true;
		end_wait(OTHER(w), JOINED);
		fw_join(w, handed, woke)
	   };
	   atomic {
		RUNS(w) ->
		wake_up_process(OTHER(w)); /* (S5) */
		if
		:: NR_RUNNING == 1 && dispatcher_asleep -> wake_up_process(D)
		:: else
		fi;
		handed = false;
		ret = JOINED;
		owner = NONE
	   }
	:: atomic {
		RUNS(w) && in_wait[OTHER(w)] && !woken[OTHER(w)] ->
		woken[OTHER(w)] = true;
		wake_up_process(OTHER(w));
		handed = true
	   }
	:: atomic { RUNS(w) -> handed = true }
	:: atomic { RUNS(w) -> skip } /* WAIT */
	fi
}
#else
#define fw_switch_to(w, ret, handed, woke) skip
#endif

/*
 * With FOREVER waiter 1 waits again and again, as far as the scheduler lets it: who is
 * runnable gets the core before another has it many times.
 */
#ifdef FOREVER
#define ONE_MORE(w, round) ((w) == 1 || (round) < ROUNDS)
#define MAY_BEGIN(w)	   ((w) == 0 || !ON_CORE(0))
#else
#define MAY_BEGIN(w)	   true
#define ONE_MORE(w, round) ((round) < ROUNDS)
#endif

proctype waiter(byte w)
{
	byte round, peer = NONE;
	bool handed, woke;
	mtype ret = PENDING;

	do
	:: atomic {
		ONE_MORE(w, round) && MAY_BEGIN(w) && RUNS(w) ->
		round = (round < ROUNDS -> round + 1 : round);
		in_wait[w] = true;
		in_no_hurry(w)
	   };
	   fw_switch_to(w, ret, handed, woke);
	   do
	   :: if
	      :: ret == PENDING -> fw_spin(w, ret, peer, handed)
	      :: else
	      fi;
	      if
	      :: ret == BLOCKED -> fw_block(w, ret, handed, woke)
	      :: ret == JOINED -> ret = PENDING
	      :: else
	      fi;
	      if
	      :: ret == PENDING -> fw_sleep(w, ret)
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
		woken[w] = false;
		result[w] = PENDING;
		ret = PENDING
	   }
	/* UNREGISTER; the task exits. */
	:: atomic {
		!ONE_MORE(w, round) && RUNS(w) ->
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
		RUNS_D ->
		scheduled(D);
		asleep[D] = false;
		dispatcher_asleep = false
	}
}

inline sleep_while_empty(nobody)
{
#ifdef LOOK_BEFORE_ASLEEP
	atomic { RUNS_D -> nobody = (NR_WAITERS == 0 && !should_stop) };
	atomic { RUNS_D -> prepare_to_sleep() };
#else
	atomic { RUNS_D -> prepare_to_sleep() };	  /* (D1) */
	atomic { RUNS_D -> nobody = (NR_WAITERS == 0 && !should_stop) }; /* (D2) */
#endif
	atomic {
		RUNS_D ->
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
		RUNS_D -> /* fw_find() */
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
		RUNS_D ->
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
		RUNS_D ->
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

inline sleep_until_woken()
{
	atomic {
		RUNS_D ->
		if
#ifndef NO_LOOK_AT_STOP
		:: should_stop -> asleep[D] = false
#endif
		:: else -> schedule(D)
		fi
	};
	awake_again()
}

inline yield()
{
	if
	:: atomic { RUNS_D && NR_RUNNING > 1 -> prepare_to_sleep() };
	   sleep_until_woken()
	:: atomic { RUNS_D && NR_RUNNING == 1 -> skip }
	fi
}

active proctype dispatcher()
{
	byte peer = NONE;
	bool nobody;
	mtype leave = PENDING;

end:	do
	:: atomic { RUNS_D && should_stop -> rq[D] = false; idle = (NR_RUNNING == 0) }
	:: atomic { RUNS_D && !should_stop && NR_WAITERS == 0 -> skip };
	   sleep_while_empty(nobody)
	:: atomic { RUNS_D && !should_stop && NR_WAITERS > 0 -> owner = D; scanner = true };
	   scan_as_dispatcher(peer, leave);
	   if
	   :: leave == WOKE ->
		leave = PENDING;
		sleep_until_woken()
	   :: leave == BUSY -> leave = PENDING; yield()
	   :: leave == EMPTY -> leave = PENDING
	   fi
	od
}

/* ---- backstop.c: the interrupt ---- */

active proctype backstop()
{
	bool woke;

end:	do
#ifdef PUT_OFF
	:: atomic { timer && !due -> due = true }
#endif
	:: atomic {
		timer && DUE_TIMER ->
		timer = false;
		backstop_look(0, woke);
		backstop_look(1, woke);
		armed = false;
		if
		:: NR_WAITERS > 0 && !scanner ->
#ifdef GIVE_UP_FOR_DISPATCHER
			armed = !(idle && !woke);
#else
#ifndef NO_REARM
			armed = true;
#endif
#endif
			if
			:: idle && !woke && dispatcher_asleep -> wake_up_process(D)
			:: else
			fi
		:: else
		fi;
		if
		:: armed -> fw_backstop_set()
		:: else
		fi;
		woke = false
	   }
	od
}

/* ---- hotplug.c ---- */

#ifdef HOTPLUG
inline evict(w)
{
	if
	:: queued[w] -> end_wait(w, AGAIN); wake_up_process(w)
	:: else
	fi
}

/*
 * Down, and up again.  On the core itself, hence not while preemption is disabled there.  The waiters need
 * not leave it: that they find it offline is what matters.
 */
active proctype hotplug()
{
	cpuhp = true;
	atomic {
		owner == NONE ->
		idle = false;
#ifdef EVICT_FIRST
		evict(0);
		evict(1)
	};
	atomic {
		owner == NONE ->
		idle = false;
		online = false;
#else
		online = false;
		evict(0);
		evict(1);
#endif
		cpuhp = false
	};
	timer = false; /* hrtimer_cancel() */
	atomic { should_stop = true; wake_up_process(D) };
	atomic {
		!rq[D] && !asleep[D] ->
#ifndef ARMED_STAYS
		armed = false;
#endif
		should_stop = false
	};
	/* fw_core_up() */
	atomic { dispatcher_asleep = false; rq[D] = true };
	cpuhp = true;
	atomic { owner == NONE -> online = true; cpuhp = false }
}
#endif

/* ---- what comes from outside ---- */

/*
 * Who computes, and sleeps, as it likes; words, time and signals, of which none
 * must come.  The waiters are alike, so that one of them has signals will do.
 */
active proctype outside()
{
end:	do
#ifndef NO_OTHER
	:: atomic { RUNS(H) -> idle = false }
#ifndef COMPUTING
	:: atomic { RUNS(H) -> asleep[H] = true; schedule(H) }
	:: atomic { !rq[H] -> wake_up_process(H) }
	:: !rq[H] -> skip
#endif
#endif
	:: atomic { in_wait[0] && !changed[0] && !expired[0] -> changed[0] = true }
	:: atomic { in_wait[1] && !changed[1] && !expired[1] -> changed[1] = true }
#ifndef NO_TIME
	:: atomic { in_wait[0] && !changed[0] && !expired[0] -> expired[0] = true }
	:: atomic { in_wait[1] && !changed[1] && !expired[1] -> expired[1] = true }
#endif
#ifdef LATER
	:: atomic { in_wait[0] && !hurry -> hurry = true }
#endif
#ifndef NO_SIGNALS
	:: atomic { in_wait[0] && !sig[0] -> sig[0] = true; wake_up_process(0) }
#endif
#ifdef FOREVER
	:: atomic { in_wait[1] && !woken[1] -> woken[1] = true; wake_up_process(1) }
#endif
	:: turn = !turn
	od
}

init
{
	atomic {
		rq[D] = true;
		here[D] = true;
		here[H] = true;
#ifdef COMPUTING
		rq[H] = true;
#else
		asleep[H] = true;
#endif
		rq[0] = true;
		here[0] = true;
		rq[1] = true;
		here[1] = true;
		run waiter(0);
		run waiter(1)
	}
}

ltl returns { []<>!DUE(0) }
#ifdef HOTPLUG
ltl stops { []<>online }
#endif
#ifdef LATER
/* Nobody but the waiters has the core to do anything on: no hurry is needed. */
ltl idles { [](in_wait[0] && changed[0] -> <>(!in_wait[0] || ON_CORE(H))) }
#endif
