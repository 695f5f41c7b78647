/* SPDX-License-Identifier: Apache-2.0
 * progress.c: how far the runs under way are, for GET /v1/jobs. Kept in memory alone: after a
 * restart a job's progress begins again with its runs. */
#include "daemon/state.h"

#include <stdlib.h>
#include <string.h>

void progress_set(struct service *s, const uint8_t job[ULID_BYTES], uint32_t shard, uint64_t done,
                  uint64_t total)
{
        struct progress *p;
        pthread_mutex_lock(&s->progress_lock);
        for (p = s->progress; p != NULL; p = p->next)
                if (p->shard == shard && memcmp(p->job, job, ULID_BYTES) == 0)
                        break;
        if (p == NULL && (p = calloc(1, sizeof *p)) != NULL) {
                memcpy(p->job, job, ULID_BYTES);
                p->shard = shard;
                p->next = s->progress;
                s->progress = p;
        }
        if (p != NULL) { /* without memory the job merely shows no progress */
                p->done = done;
                p->total = total;
        }
        pthread_mutex_unlock(&s->progress_lock);
        feed_progress(s);
}

void progress_end(struct service *s, const uint8_t job[ULID_BYTES], uint32_t shard)
{
        pthread_mutex_lock(&s->progress_lock);
        for (struct progress **at = &s->progress; *at != NULL; at = &(*at)->next) {
                struct progress *p = *at;
                if (p->shard != shard || memcmp(p->job, job, ULID_BYTES) != 0)
                        continue;
                *at = p->next;
                free(p);
                break;
        }
        pthread_mutex_unlock(&s->progress_lock);
}

double progress_get(struct service *s, const uint8_t job[ULID_BYTES])
{
        double sum = 0;
        pthread_mutex_lock(&s->progress_lock);
        for (const struct progress *p = s->progress; p != NULL; p = p->next)
                if (p->total > 0 && memcmp(p->job, job, ULID_BYTES) == 0)
                        sum += (double)p->done / (double)p->total;
        pthread_mutex_unlock(&s->progress_lock);
        return sum;
}
