/* SPDX-License-Identifier: GPL-2.0 */
/*
 * event.pml - WAIT for the event of a completion queue (FASTWAKE_WAIT_SLEEP), against
 * the driver's completions and whoever detaches the queue.
 *
 * Nobody scans, and nothing else wakes the waiter.  Its program polls the queue, then
 * waits if there was nothing; from ESTALE on it uses the completion channel.  The
 * names of steps are those of source.c (C1 ..., V1 ...) and cq.c (H1 ..., T1 ...).
 *
 * Checked for every order of the steps:
 *
 *	(no invalid end state)	the program gets all completions: it does not sleep
 *				for good;
 *	reported		an event that took the WAIT's link is reported by it;
 *	for_good		the handler does not go round for ever in an interrupt
 *				that keeps the one who detaches from going on.
 *
 * One store may be kept back by the waiter's processor: that of its task state.
 */

#define COMPLETIONS 2

/* ---- the queue, as the driver sees it ---- */

byte entries; /* that nobody has polled */
bool armed;
byte channel; /* events of the completion channel */

mtype = { OURS, ORIGINAL };
mtype comp_handler = OURS;
bool hashed = true;

/* ---- the source and the waiter's link ---- */

bool locked; /* fw_source.lock */
bool linked;
bool fired;
bool gone;

#define LOCK()	 atomic { !locked -> locked = true }
#define UNLOCK() locked = false

/* ---- the waiter's task ---- */

bool event;   /* FW_EVENT_SOURCE */
bool state;   /* TASK_INTERRUPTIBLE, as others see it */
bool kept;    /* its store has not come there yet */
bool blocked; /* it has left the run queue */

inline wake_up_process()
{
	atomic {
		if
		:: state -> state = false; blocked = false
		:: else
		fi
	}
}

/* ->event has been set, then this: a full barrier. */
inline fw_source_tell()
{
	event = true;
	wake_up_process()
}

/* ---- WAIT ---- */

mtype = { NOTHING, EVENT, MISSED, STALE, OVER };

inline fw_link(outcome)
{
	LOCK();
	if
	:: gone -> outcome = STALE
	:: else -> linked = true
	fi;
	UNLOCK()
}

/* Under the source's lock, then under the driver's. */
inline fw_cq_arm(outcome)
{
	LOCK();
	outcome = (gone -> STALE : outcome);
	UNLOCK();
	atomic {
		if
		:: outcome == NOTHING ->
			armed = true;
#ifndef NO_LOOK_AT_MISSED
			outcome = (entries > 0 -> MISSED : NOTHING) /* (C3) */
#endif
		:: else
		fi
	}
}

inline fw_links_arm(outcome)
{
#ifndef ARM_FIRST
	fw_link(outcome); /* (C1) */
	if
	:: outcome == NOTHING -> fw_cq_arm(outcome) /* (C2) */
	:: else
	fi
#else
	fw_cq_arm(outcome);
	if
	:: outcome == NOTHING -> fw_link(outcome)
	:: else
	fi
#endif
}

inline look(outcome)
{
	atomic {
		if
		:: event ->
			event = false;
			outcome = (fired -> EVENT : (gone -> STALE : NOTHING))
		:: else
		fi
	}
}

inline set_state()
{
#ifndef NO_BARRIER_STATE
	state = true
#else
	kept = true
#endif
}

/* (C4) */
inline fw_sleep_alone(outcome, time_passes)
{
	do
	::
#ifndef LOOK_BEFORE_STATE
	   set_state();
	   look(outcome);
#else
	   look(outcome);
	   set_state();
#endif
	   if
	   :: outcome != NOTHING -> break
	   :: outcome == NOTHING ->
		atomic {
			state = state || kept;
			kept = false;
			blocked = state
		};
		!blocked
	   :: outcome == NOTHING && time_passes ->
		time_passes = false;
		outcome = OVER;
		break
	   fi
	od;
	atomic { kept = false; state = false }
}

inline fw_links_leave(outcome)
{
	LOCK();
	linked = false;
#ifndef NO_LOOK_AT_FIRED
	outcome = (fired -> EVENT : outcome); /* (C5) */
#endif
	assert(!fired || outcome == EVENT); /* reported */
	UNLOCK()
}

inline fw_wait(outcome, time_passes)
{
	atomic { event = false; fired = false; outcome = NOTHING };
	fw_links_arm(outcome);
	if
	:: outcome == NOTHING -> fw_sleep_alone(outcome, time_passes)
	:: else
	fi;
	fw_links_leave(outcome)
}

/* ---- the program ---- */

inline poll()
{
	atomic { got = got + entries; entries = 0 }
}

/* ibv_req_notify_cq(), poll again, ibv_get_cq_event() */
inline wait_on_channel()
{
	armed = true;
	poll();
	if
	:: got < COMPLETIONS -> atomic { channel > 0 -> channel-- }
	:: else
	fi
}

active proctype waiter()
{
	byte got;
	mtype outcome = NOTHING;
	bool time_passes = true; /* once: nothing depends on it */

	do
	:: poll();
	   if
	   :: got == COMPLETIONS -> break
	   :: got < COMPLETIONS && outcome == STALE -> wait_on_channel()
	   :: got < COMPLETIONS && outcome != STALE -> fw_wait(outcome, time_passes)
	   fi
	od
}

/* ---- the driver; in an interrupt, if it likes, in which nobody detaches ---- */

bool interrupt;

/* Whether an event took the link; else the other handler is called. */
inline fw_source_fire(taken)
{
	LOCK();
	taken = linked;
	if
	:: taken ->
		linked = false;
		fired = true;
		fw_source_tell() /* (V3) */
	:: else
	fi;
	UNLOCK()
}

inline fw_cq_handler(handler, found, taken)
{
	do
	:: found = hashed; /* (H2) */
	   if
	   :: found ->
		fw_source_fire(taken);
		handler = ORIGINAL;
		break
	   :: else ->
		handler = comp_handler; /* (H3) */
		if
		:: handler == ORIGINAL -> break
		:: else -> assert(!interrupt) /* for_good */
		fi
	   fi
	od;
	if
	:: !taken -> channel++
	:: else
	fi
}

active proctype driver()
{
	byte posted;
	bool asked, found, taken;
	mtype handler;

	do
	:: posted < COMPLETIONS ->
		if
		:: interrupt = true
		:: skip
		fi;
		/* (V1), (V2) */
		atomic { posted++; entries++; asked = armed; armed = false };
		if
		:: asked ->
			handler = comp_handler; /* (H1) */
			taken = false;
			if
			:: handler == OURS -> fw_cq_handler(handler, found, taken)
			:: else -> channel++
			fi
		:: else
		fi;
		interrupt = false
	:: else -> break
	od
}

/* ---- fw_cq_restore(), fw_source_end() ---- */

inline restore()
{
	atomic { !interrupt -> comp_handler = ORIGINAL }
}

inline forget()
{
	atomic { !interrupt -> hashed = false }
}

/* Perhaps. */
active proctype detacher()
{
	if
	:: true
	:: true -> goto end
	fi;
#ifndef FORGET_FIRST
	restore(); /* (T1) */
	forget(); /* (T2) */
#else
	forget();
	restore();
#endif
	atomic { !interrupt && !locked -> locked = true };
	gone = true;
#ifndef NO_TELL_AT_END
	if
	:: linked -> fw_source_tell()
	:: else
	fi;
#endif
	UNLOCK();
end:	skip
}
