/* SPDX-License-Identifier: GPL-2.0 */
/*
 * trace.h - tracepoints fastwake:wait, wake, switch, park, backstop.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM fastwake

#if !defined(FW_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define FW_TRACE_H

#include <linux/tracepoint.h>

TRACE_EVENT(wait,
	TP_PROTO(u32 waiter, u32 nr_watches, u64 budget_ns),
	TP_ARGS(waiter, nr_watches, budget_ns),
	TP_STRUCT__entry(
		__field(u32, waiter)
		__field(u32, nr_watches)
		__field(u64, budget_ns)
	),
	TP_fast_assign(
		__entry->waiter = waiter;
		__entry->nr_watches = nr_watches;
		__entry->budget_ns = budget_ns;
	),
	TP_printk("waiter=%u watches=%u budget_ns=%llu",
		  __entry->waiter, __entry->nr_watches, __entry->budget_ns)
);

/* latency_ns: from the moment a scanner saw the word to here; 0: saw it itself. */
TRACE_EVENT(wake,
	TP_PROTO(u32 waiter, int index, u64 latency_ns),
	TP_ARGS(waiter, index, latency_ns),
	TP_STRUCT__entry(
		__field(u32, waiter)
		__field(int, index)
		__field(u64, latency_ns)
	),
	TP_fast_assign(
		__entry->waiter = waiter;
		__entry->index = index;
		__entry->latency_ns = latency_ns;
	),
	TP_printk("waiter=%u index=%d latency_ns=%llu",
		  __entry->waiter, __entry->index, __entry->latency_ns)
);

TRACE_EVENT(switch,
	TP_PROTO(u32 from, u32 to),
	TP_ARGS(from, to),
	TP_STRUCT__entry(
		__field(u32, from)
		__field(u32, to)
	),
	TP_fast_assign(
		__entry->from = from;
		__entry->to = to;
	),
	TP_printk("from=%u to=%u", __entry->from, __entry->to)
);

TRACE_EVENT(park,
	TP_PROTO(u32 waiter, u64 budget_ns),
	TP_ARGS(waiter, budget_ns),
	TP_STRUCT__entry(
		__field(u32, waiter)
		__field(u64, budget_ns)
	),
	TP_fast_assign(
		__entry->waiter = waiter;
		__entry->budget_ns = budget_ns;
	),
	TP_printk("waiter=%u budget_ns=%llu",
		  __entry->waiter, __entry->budget_ns)
);

TRACE_EVENT(backstop,
	TP_PROTO(int cpu, u32 woken, u32 waiters),
	TP_ARGS(cpu, woken, waiters),
	TP_STRUCT__entry(
		__field(int, cpu)
		__field(u32, woken)
		__field(u32, waiters)
	),
	TP_fast_assign(
		__entry->cpu = cpu;
		__entry->woken = woken;
		__entry->waiters = waiters;
	),
	TP_printk("core=%d woken=%u waiters=%u",
		  __entry->cpu, __entry->woken, __entry->waiters)
);

#endif /* FW_TRACE_H */

#undef TRACE_INCLUDE_PATH
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_PATH .
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
