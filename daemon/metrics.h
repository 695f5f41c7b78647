/* SPDX-License-Identifier: Apache-2.0
 * metrics.h: counters and histograms in Prometheus text 0.0.4. Counting is lock-free and safe from
 * any thread; gauges that are derived from state are handed over at rendering time. */
#ifndef UNLEARND_DAEMON_METRICS_H
#define UNLEARND_DAEMON_METRICS_H

#include "lib/util/bytes.h"
#include <stdbool.h>
#include <stdint.h>

enum metric_counter {
        METRIC_ERASURES,           /* unlearnd_erasures_total */
        METRIC_ERASURES_COMPLETED, /* unlearnd_erasures_completed_total */
        METRIC_RECORDS_ACCEPTED,   /* unlearnd_records_accepted_total */
        METRIC_RECORDS_DUPLICATE,
        METRIC_RECORDS_SUPPRESSED,
        METRIC_RECORDS_REJECTED,
        METRIC_RECORDS_ERASED,
        METRIC_PREDICTIONS, /* rows */
        METRIC_PREDICT_BATCHES,
        METRIC_COMMITS,  /* group commits */
        METRIC_COMMANDS, /* write commands in them */
        METRIC_JOBS_SUCCEEDED,
        METRIC_JOBS_FAILED,
        METRIC_JOBS_FENCED,
        METRIC_AUDIT_ENTRIES,
        METRIC_LEDGER_FAILURES, /* groups refused */
        METRIC_BACKUPS,
        METRIC_BACKUPS_FAILED,
        METRIC_DELIVERIES_ABANDONED,
        METRIC_DELIVERIES_DROPPED,
        METRIC_RECORDS_COMPACTED,
        METRIC_COUNTERS
};
enum metric_histogram {
        METRIC_TIME_TO_FORGOTTEN, /* unlearnd_erasure_forgotten_seconds */
        METRIC_TIME_TO_SCRUBBED,
        METRIC_TIME_TO_COMPLETED,
        METRIC_PREDICT_SECONDS, /* from queued to answered */
        METRIC_COMMIT_SECONDS,
        METRIC_RETRAIN_SECONDS,
        METRIC_HISTOGRAMS
};
void metric_add(enum metric_counter c, uint64_t n);
void metric_observe(enum metric_histogram h, double seconds);
/* metrics_held.c: counts of changes that may not come true, kept by whoever makes these. */
struct metric_held {
        struct metric_count *counts; /* [count], owned */
        uint32_t count, cap;
};
/* What this thread counts goes there from now on; NULL: it counts at once. */
void metric_hold(struct metric_held *h);
void metric_held_drop(struct metric_held *h, uint32_t count); /* but the first did not happen */
void metric_held_end(struct metric_held *h, bool came_true);  /* counts them, or not; frees */
/* metrics.c asks: whether it was kept. */
bool metric_keep_add(enum metric_counter c, uint64_t n);
bool metric_keep_observe(enum metric_histogram h, double seconds);

/* unlearnd_delivery_attempts_total{outcome}: "delivered", "status" (an answer that is not 2xx), or
 * a http_outcome_name(). */
void metric_delivery(const char *outcome);
/* unlearnd_witness_attempts_total{outcome}: a witness_outcome_name(). */
void metric_witness(const char *outcome);
/* unlearnd_http_requests_total{method,route,status} and unlearnd_http_request_seconds{route}. */
void metric_request(const char *method, const char *route, int status, double seconds);

enum { METRIC_FAULTS = 7 };
struct metric_fault {       /* unlearnd_degraded{reason}, unlearnd_faults_total{reason} */
        const char *reason; /* static; NULL: none */
        bool stands;
        uint64_t count;
};
enum { METRIC_WITNESSES = 16 };
struct metric_witness {   /* unlearnd_witness_...{witness} */
        const char *name; /* NULL: none */
        uint64_t size;
        double age_seconds; /* NaN: it has not cosigned anything */
        uint64_t failures;
};
struct metric_gauges { /* of the moment, from the service */
        uint64_t models, records, dirty_shards, damaged_shards, appended_slices, pending_erasures,
                overdue_erasures, running_jobs;
        double nearest_deadline_seconds; /* NaN: none */
        uint64_t store_used_bytes, store_map_bytes;
        uint64_t audit_entries;
        uint64_t suppressions;
        uint64_t deliveries; /* that wait */
        int ready;
        struct metric_fault faults[METRIC_FAULTS];
        int store_damaged;
        struct metric_witness witnesses[METRIC_WITNESSES];
};
void metrics_render(const struct metric_gauges *g, struct buf *out);

#endif
