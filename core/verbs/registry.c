// SPDX-License-Identifier: PostgreSQL
/*
 * registry.c - which contexts, channels and queues are managed.
 *
 * Looked up without a lock: slots are never freed, so one that is found while it
 * goes away is at worst somebody else's, and only a program that uses an
 * object while it destroys it can see that.
 */
#include "verbs.h"

#define CONTEXTS_MAX 64
#define FDS_MAX	     65536
#define QUEUES_MAX   16384
#define HASH_SIZE    (4 * QUEUES_MAX) /* a power of two */

unsigned int fv_channels;
_Alignas(FV_BELLS_SIZE) uint32_t fv_bells[FV_CHANNELS_MAX];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct fv_context contexts[CONTEXTS_MAX];
static struct fv_channel channels[FV_CHANNELS_MAX];
static unsigned int channels_used; /* slots that ever were */
static struct fv_channel *by_fd[FDS_MAX];
static struct fv_queue queues[QUEUES_MAX];
static unsigned int queues_used;
static struct fv_queue *queues_free;

/* In place of a queue that was there: looking goes on behind it. */
static struct fv_queue gone;
static struct fv_queue *hash[HASH_SIZE];

void fv_registry_lock(void)
{
	pthread_mutex_lock(&lock);
}

void fv_registry_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

/* In a child of fork, which has inherited it locked. */
void fv_registry_forget(void)
{
	pthread_mutex_init(&lock, NULL);
}

/* ---- contexts ---- */

struct fv_context *fv_context_find(const struct ibv_context *verbs)
{
	unsigned int i;

	for (i = 0; i < CONTEXTS_MAX; i++)
		if (fw_load_acquire(&contexts[i].verbs) == verbs)
			return &contexts[i];
	return NULL;
}

struct fv_context *fv_context_add(struct ibv_context *verbs)
{
	struct fv_context *context;

	fv_registry_lock();
	context = fv_context_find(NULL);
	if (context != NULL)
		fw_store_release(&context->verbs, verbs);
	fv_registry_unlock();
	return context;
}

void fv_context_remove(struct fv_context *context)
{
	fw_store_release(&context->verbs, (struct ibv_context *)NULL);
}

/* ---- channels ---- */

struct fv_channel *fv_channel_find(int fd)
{
	if (fw_load(&fv_channels) == 0 || (unsigned int)fd >= FDS_MAX)
		return NULL;
	return fw_load_acquire(&by_fd[fd]);
}

struct fv_channel *fv_channel_number(unsigned int i)
{
	if (i >= fw_load_acquire(&channels_used))
		return NULL;
	return &channels[i];
}

static struct fv_channel *free_channel(void)
{
	struct fv_channel *channel;
	unsigned int i;

	for (i = 0; i < channels_used; i++)
		if (channels[i].fd < 0)
			return &channels[i];
	if (channels_used == FV_CHANNELS_MAX)
		return NULL;
	channel = &channels[i];
	pthread_mutex_init(&channel->lock, NULL);
	pthread_cond_init(&channel->acknowledged, NULL);
	channel->bell = &fv_bells[i];
	channel->fd = -1;
	fw_store_release(&channels_used, i + 1);
	return channel;
}

static void begin(struct fv_channel *channel, struct ibv_comp_channel *verbs)
{
	fv_lock(channel);
	channel->verbs = verbs;
	channel->queues = NULL;
	channel->stock = channel->blind = 0;
	channel->strays = channel->misses = 0;
	channel->raiser = (struct fv_raiser){ .qp = NULL };
	channel->waiting = channel->parked = 0;
	channel->fetched = channel->waits = channel->trusted = false;
	channel->found = channel->turns = 0;
	channel->away = false;
	channel->asked_ns = 0;
	channel->nonblock = channel->always_stock = channel->sparse = false;
	channel->streak = 0;
	channel->unattached = channel->refused = channel->apart = 0;
	channel->sleeper = FASTWAKE_WAITER_NONE;
	channel->fd = verbs->fd;
	fv_unlock(channel);
}

struct fv_channel *fv_channel_add(struct ibv_comp_channel *verbs)
{
	struct fv_channel *channel = NULL;
	int fd = verbs->fd;

	if ((unsigned int)fd >= FDS_MAX)
		return NULL;
	fv_fork_init();
	fv_registry_lock();
	channel = free_channel();
	if (channel != NULL) {
		begin(channel, verbs);
		fw_store_release(&by_fd[fd], channel);
		fw_store(&fv_channels, fv_channels + 1);
	}
	fv_registry_unlock();
	return channel;
}

void fv_channel_remove(struct fv_channel *channel)
{
	fv_registry_lock();
	if (fw_load(&by_fd[channel->fd]) == channel)
		fw_store(&by_fd[channel->fd], NULL);
	fv_lock(channel);
	channel->fd = -1;
	fv_unlock(channel);
	fw_store(&fv_channels, fv_channels - 1);
	fv_registry_unlock();
}

/* ---- queues ---- */

static unsigned int first_place(const struct ibv_cq *cq)
{
	uint64_t h = (uint64_t)(uintptr_t)cq * 0x9e3779b97f4a7c15ull;

	return (unsigned int)(h >> 32) & (HASH_SIZE - 1);
}

struct fv_queue *fv_queue_find(const struct ibv_cq *cq)
{
	unsigned int i = first_place(cq);
	struct fv_queue *queue;

	while ((queue = fw_load_acquire(&hash[i])) != NULL) {
		if (queue->cq == cq)
			return queue;
		i = (i + 1) & (HASH_SIZE - 1);
	}
	return NULL;
}

/* At most a quarter is in use, but places of those gone may fill it up. */
static bool insert(struct fv_queue *queue)
{
	unsigned int i = first_place(queue->cq), tries;

	for (tries = 0; tries < HASH_SIZE / 2; tries++) {
		if (hash[i] == NULL || hash[i] == &gone) {
			fw_store_release(&hash[i], queue);
			return true;
		}
		i = (i + 1) & (HASH_SIZE - 1);
	}
	return false;
}

/* A place whose successor is empty need not be marked. */
static void withdraw(const struct fv_queue *queue)
{
	unsigned int i = first_place(queue->cq);

	while (hash[i] != queue)
		i = (i + 1) & (HASH_SIZE - 1);
	fw_store(&hash[i], &gone);
	if (hash[(i + 1) & (HASH_SIZE - 1)] != NULL)
		return;
	while (hash[i] == &gone) {
		fw_store(&hash[i], NULL);
		i = (i - 1) & (HASH_SIZE - 1);
	}
}

static struct fv_queue *free_queue(void)
{
	struct fv_queue *queue = queues_free;

	if (queue != NULL)
		queues_free = queue->next;
	else if (queues_used < QUEUES_MAX)
		queue = &queues[queues_used++];
	return queue;
}

struct fv_queue *fv_queue_add(struct ibv_cq *cq,
			      const struct fv_context *context,
			      struct fv_channel *channel)
{
	struct fv_queue *queue;

	fv_registry_lock();
	queue = free_queue();
	if (queue != NULL) {
		*queue = (struct fv_queue){ .cq = cq,
					    .context = context,
					    .channel = channel };
		queue->word.region = queue->source = FV_NO_REGION;
		if (!insert(queue)) {
			queue->next = queues_free;
			queues_free = queue;
			queue = NULL;
		}
	}
	fv_registry_unlock();
	return queue;
}

void fv_queue_hide(struct fv_queue *queue)
{
	fv_registry_lock();
	withdraw(queue);
	fv_registry_unlock();
}

bool fv_queue_show(struct fv_queue *queue)
{
	bool shown;

	fv_registry_lock();
	shown = insert(queue);
	fv_registry_unlock();
	return shown;
}

void fv_queue_free(struct fv_queue *queue)
{
	fv_registry_lock();
	queue->cq = NULL;
	queue->next = queues_free;
	queues_free = queue;
	fv_registry_unlock();
}
