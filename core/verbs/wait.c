// SPDX-License-Identifier: PostgreSQL
/*
 * wait.c - look at the words of channels until one moves.
 *
 * In the module where it is there, whose WAIT has its own proof; else by polling
 * for a short while, which a program that may run on one processor only had
 * better not do.  Either way nobody is to be woken by anyone: what is missed is
 * missed until the budget is over, and then the kernel is told, and asked.
 */
#include <errno.h>
#include <string.h>

#include "module.h"
#include "verbs.h"

#define LOOKS_PER_CLOCK 16

/* Waits in a row that change an adaptive channel's mind. */
#define STREAK 2

static __thread struct fw_budget budget
	__attribute__((tls_model("initial-exec")));

static bool may_spin(void)
{
	budget.poll_ns = fv_config.poll_ns;
	return fw_budget_now(&budget, fv_config.poll_ns, fastwake_now()) != 0;
}

bool fv_may_wait(const struct fv_channel *channel)
{
	if (fv_config.mode < FV_ADAPTIVE || !fv_filtered(channel) ||
	    channel->blind != 0 || channel->sparse || channel->away)
		return false;
	return fv_config.poll_ns != 0 && (fv_module() || may_spin());
}

static bool add_word(struct fv_set *set, uint32_t region, uint32_t offset,
		     uint32_t seen)
{
	if (set->watches == FV_WATCHES_MAX)
		return false;
	set->in_module = set->in_module && region != FV_NO_REGION;
	set->watch[set->watches++] = (struct fastwake_ioc_watch){
		.region = region,
		.condition = FASTWAKE_COND_NE,
		.word_size = sizeof(uint32_t),
		.offset = offset,
		.operand = seen,
	};
	return true;
}

bool fv_set_add(struct fv_set *set, struct fv_channel *channel)
{
	return fv_may_wait(channel) && fv_set_words(set, channel);
}

bool fv_set_words(struct fv_set *set, struct fv_channel *channel)
{
	const struct fv_queue *queue;
	uint32_t region, offset;
	bool any = false;

	if (set->n == FV_WATCHES_MAX)
		return false;
	if (set->n == 0)
		set->in_module = fv_module();
	region = fv_module_bells(&offset);
	offset += (uint32_t)((char *)channel->bell - (char *)fv_bells);
	if (!add_word(set, region, offset, fw_load(channel->bell)))
		return false;
	for (queue = channel->queues; queue != NULL; queue = queue->next) {
		if (!queue->requested)
			continue;
		any = true;
		if (!add_word(set, queue->word.region, queue->word.offset,
			      queue->seen))
			return false;
	}
	if (any)
		set->channel[set->n++] = channel;
	return any;
}

static bool look(const struct fv_set *set)
{
	bool due = false;
	unsigned int i;

	for (i = 0; i < set->n && !due; i++) {
		fv_lock(set->channel[i]);
		due = fv_look(set->channel[i]);
		fv_unlock(set->channel[i]);
	}
	return due;
}

static int spin(const struct fv_set *set, uint64_t budget_ns)
{
	uint64_t end_ns = fastwake_now() + budget_ns;
	unsigned int i;

	if (!may_spin())
		return -ETIME;
	do {
		for (i = 0; i < LOOKS_PER_CLOCK; i++) {
			if (look(set))
				return 0;
			fw_cpu_relax();
		}
	} while (fastwake_now() < end_ns);
	return -ETIME;
}

/*
 * An adaptive channel is to take little more of the processor than the kernel's events
 * would, so that it looks no longer than some of those would cost.
 */
#define ADAPTIVE_PATIENCE 4

uint64_t fv_budget(void)
{
	if (!fv_module())
		return fv_config.poll_ns;
	return fv_config.poll_ns * (fv_config.mode == FV_ADAPTIVE
					    ? ADAPTIVE_PATIENCE
					    : FW_MODULE_PATIENCE);
}

/* Once is enough to be told. */
static void refused(int rc)
{
	static bool told;

	if (!told)
		fv_log("the module refused a wait: %s", strerror(-rc));
	told = true;
}

int fv_set_wait(struct fv_set *set, uint64_t budget_ns)
{
	int rc;

	if (set->in_module && fv_module_ready()) {
		rc = fv_module_wait(set, budget_ns);
		set->slept = rc < 0 || (rc & FASTWAKE_WAIT_SLEPT) != 0;
		if (rc >= 0 || rc == -ETIME || rc == -EINTR)
			return rc < 0 ? rc : 0;
		refused(rc);
	}
	set->slept = false;
	return spin(set, budget_ns < fv_config.poll_ns ? budget_ns
						       : fv_config.poll_ns);
}

/*
 * Looking pays if events come within the time that one looks.  A channel is
 * sparse once two in a row did not, and ceases to be once two in a row did.
 */
void fv_adapt(struct fv_channel *channel, uint64_t waited_ns)
{
	bool late = waited_ns > fv_budget();

	if (fv_config.mode != FV_ADAPTIVE)
		return;
	if (late == channel->sparse) {
		channel->streak = 0;
		return;
	}
	if (++channel->streak < STREAK)
		return;
	channel->sparse = late;
	channel->streak = 0;
}
