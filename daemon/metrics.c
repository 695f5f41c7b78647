/* SPDX-License-Identifier: Apache-2.0
 * metrics.c: see metrics.h. Everything is a fixed table of atomics, so that counting takes no lock
 * and nothing can grow: a new (method, route, status) takes a free place under a mutex, once, and
 * where none is left it is counted as route "other". Sums are kept in nanoseconds, because integers
 * add without a loop. It must not know where the numbers come from. */
#include "daemon/metrics.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum {
        BUCKETS_MAX = 16,
        ROUTE_BYTES = 96, /* the longest pattern is some 50 */
        METHOD_BYTES = 12,
        REQUESTS_MAX = 2048, /* (method, route, status): some 70 routes, some 10 statuses each */
        ROUTES_MAX = 256,
        SECONDS_MAX = 1000000000, /* an observation is cut here: 31 years */
};

struct histogram {
        _Atomic uint64_t bucket[BUCKETS_MAX + 1]; /* not cumulative; the last is +Inf */
        _Atomic uint64_t sum_ns;
};
struct bounds {
        uint32_t count;
        double at[BUCKETS_MAX];
};
static const struct bounds fast = {16,
                                   {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                                    0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}};
static const struct bounds slow = {
        16, {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 300, 1800, 14400, 86400}};

static const struct {
        const char *name, *help;
} counter_names[METRIC_COUNTERS] = {
        [METRIC_ERASURES] = {"unlearnd_erasures_total", "Erasures accepted."},
        [METRIC_ERASURES_COMPLETED] = {"unlearnd_erasures_completed_total", "Erasures completed."},
        [METRIC_RECORDS_ACCEPTED] = {"unlearnd_records_accepted_total", "Records kept by uploads."},
        [METRIC_RECORDS_DUPLICATE] = {"unlearnd_records_duplicate_total",
                                      "Records of uploads that were held already."},
        [METRIC_RECORDS_SUPPRESSED] = {"unlearnd_records_suppressed_total",
                                       "Records of uploads refused because they were erased."},
        [METRIC_RECORDS_REJECTED] = {"unlearnd_records_rejected_total",
                                     "Records of uploads that did not validate."},
        [METRIC_RECORDS_ERASED] = {"unlearnd_records_erased_total", "Records erased."},
        [METRIC_PREDICTIONS] = {"unlearnd_predictions_total", "Rows predicted."},
        [METRIC_PREDICT_BATCHES] = {"unlearnd_predict_batches_total",
                                    "Batches that the predictions were gathered into."},
        [METRIC_COMMITS] = {"unlearnd_commits_total", "Group commits."},
        [METRIC_COMMANDS] = {"unlearnd_commands_total", "Changes in the group commits."},
        [METRIC_JOBS_SUCCEEDED] = {"unlearnd_jobs_succeeded_total", "Worker runs that succeeded."},
        [METRIC_JOBS_FAILED] = {"unlearnd_jobs_failed_total", "Worker runs that failed."},
        [METRIC_JOBS_FENCED] = {"unlearnd_jobs_fenced_total",
                                "Worker runs superseded by a later erasure."},
        [METRIC_AUDIT_ENTRIES] = {"unlearnd_audit_entries_total",
                                  "Audit entries written by this process."},
        [METRIC_LEDGER_FAILURES] = {"unlearnd_ledger_failures_total",
                                    "Groups of changes refused because the erasure ledger could "
                                    "not be written."},
        [METRIC_BACKUPS] = {"unlearnd_backups_total", "Backups written."},
        [METRIC_BACKUPS_FAILED] = {"unlearnd_backups_failed_total", "Backups that failed."},
        [METRIC_DELIVERIES_ABANDONED] = {"unlearnd_deliveries_abandoned_total",
                                         "Webhooks and callbacks given up."},
        [METRIC_DELIVERIES_DROPPED] = {"unlearnd_deliveries_dropped_total",
                                       "Webhooks and callbacks dropped: the endpoint is disabled, "
                                       "or the queue is full."},
        [METRIC_RECORDS_COMPACTED] = {"unlearnd_records_compacted_total",
                                      "Records that compactions brought into configured slices."},
};

static const struct {
        const char *name, *help;
        const struct bounds *bounds;
} histogram_names[METRIC_HISTOGRAMS] = {
        [METRIC_TIME_TO_FORGOTTEN] = {"unlearnd_erasure_forgotten_seconds",
                                      "From an erasure's acceptance to forgotten.", &fast},
        [METRIC_TIME_TO_SCRUBBED] = {"unlearnd_erasure_scrubbed_seconds",
                                     "From an erasure's acceptance to scrubbed.", &slow},
        [METRIC_TIME_TO_COMPLETED] = {"unlearnd_erasure_completed_seconds",
                                      "From an erasure's acceptance to completed.", &slow},
        [METRIC_PREDICT_SECONDS] = {"unlearnd_predict_seconds",
                                    "From a prediction's queueing to its answer.", &fast},
        [METRIC_COMMIT_SECONDS] = {"unlearnd_commit_seconds", "Group commits.", &fast},
        [METRIC_RETRAIN_SECONDS] = {"unlearnd_retrain_seconds", "Worker runs.", &slow},
};

/* A place of a table: empty until `used` is set, which publishes the labels. */
struct request_place {
        _Atomic bool used;
        int status;
        char method[METHOD_BYTES];
        char route[ROUTE_BYTES];
        _Atomic uint64_t count;
};
struct route_place {
        _Atomic bool used;
        char route[ROUTE_BYTES];
        struct histogram seconds;
};

static const char *const attempt_outcomes[] = {"delivered", "status",  "refused", "unreachable",
                                               "tls",       "timeout", "broken"};
enum { ATTEMPT_OUTCOMES = sizeof attempt_outcomes / sizeof attempt_outcomes[0] };
static _Atomic uint64_t attempts[ATTEMPT_OUTCOMES];
static const char *const witness_outcomes[] = {
        "cosigned",    "status",    "unknown_log",   "unknown_key", "inconsistent",
        "ahead",       "malformed", "bad_signature", "bad_time",    "refused",
        "unreachable", "tls",       "timeout",       "broken"};
enum { WITNESS_ATTEMPT_OUTCOMES = sizeof witness_outcomes / sizeof witness_outcomes[0] };
static _Atomic uint64_t witness_attempts[WITNESS_ATTEMPT_OUTCOMES];
static _Atomic uint64_t counters[METRIC_COUNTERS];
static struct histogram histograms[METRIC_HISTOGRAMS];
/* labels: set under claim, then read by any thread; numbers: any thread */
static struct request_place requests[REQUESTS_MAX];
static struct route_place routes[ROUTES_MAX];
static pthread_mutex_t claim = PTHREAD_MUTEX_INITIALIZER;
/* what found no place */
static _Atomic uint64_t requests_other, observed_other;
static struct histogram seconds_other;

/* --- counting --- */

static void add(_Atomic uint64_t *at, uint64_t n)
{
        atomic_fetch_add_explicit(at, n, memory_order_relaxed);
}

static uint64_t get(const _Atomic uint64_t *at)
{
        return atomic_load_explicit(at, memory_order_relaxed);
}

void metric_add(enum metric_counter c, uint64_t n)
{
        if (!metric_keep_add(c, n))
                add(&counters[c], n);
}

static void observe(struct histogram *h, const struct bounds *b, double seconds)
{
        uint32_t i = 0;
        if (isnan(seconds))
                return;
        seconds = seconds < 0 ? 0 : seconds > SECONDS_MAX ? SECONDS_MAX : seconds;
        while (i < b->count && seconds > b->at[i])
                i++;
        add(&h->bucket[i < b->count ? i : BUCKETS_MAX], 1);
        add(&h->sum_ns, (uint64_t)(seconds * 1e9));
}

void metric_observe(enum metric_histogram h, double seconds)
{
        if (!metric_keep_observe(h, seconds))
                observe(&histograms[h], histogram_names[h].bounds, seconds);
}

void metric_delivery(const char *outcome)
{
        for (uint32_t i = 0; i < ATTEMPT_OUTCOMES; i++)
                if (strcmp(outcome, attempt_outcomes[i]) == 0)
                        add(&attempts[i], 1);
}

void metric_witness(const char *outcome)
{
        for (uint32_t i = 0; i < WITNESS_ATTEMPT_OUTCOMES; i++)
                if (strcmp(outcome, witness_outcomes[i]) == 0)
                        add(&witness_attempts[i], 1);
}

static uint32_t hash_text(uint32_t h, const char *s) /* FNV-1a */
{
        for (; *s != '\0'; s++)
                h = (h ^ (uint8_t)*s) * 16777619u;
        return h;
}

/* Methods are a label: whatever a client makes up is one value. */
static const char *bounded_method(const char *method)
{
        static const char *const known[] = {"GET",   "POST", "DELETE", "PUT",
                                            "PATCH", "HEAD", "OPTIONS"};
        for (size_t i = 0; method != NULL && i < sizeof known / sizeof known[0]; i++)
                if (strcmp(method, known[i]) == 0)
                        return known[i];
        return "other";
}

static bool request_is(const struct request_place *p, const char *method, const char *route,
                       int status)
{
        return p->status == status && strcmp(p->method, method) == 0 &&
               strcmp(p->route, route) == 0;
}

static bool used(const _Atomic bool *flag)
{
        return atomic_load_explicit(flag, memory_order_acquire);
}

/* Looks from the hash on; claims the first free place where there is none. NULL: full. */
static struct request_place *request_place(const char *method, const char *route, int status)
{
        uint32_t at = hash_text(hash_text((uint32_t)status * 2654435761u, method), route);
        bool locked = false;
        struct request_place *found = NULL;
        for (uint32_t i = 0; i < REQUESTS_MAX && found == NULL; i++) {
                struct request_place *p = &requests[(at + i) % REQUESTS_MAX];
                if (!used(&p->used) && !locked) {
                        pthread_mutex_lock(&claim);
                        locked = true; /* and look again: another thread may have been first */
                }
                if (!used(&p->used)) {
                        p->status = status;
                        (void)snprintf(p->method, sizeof p->method, "%s", method);
                        (void)snprintf(p->route, sizeof p->route, "%s", route);
                        atomic_store_explicit(&p->used, true, memory_order_release);
                        found = p;
                } else if (request_is(p, method, route, status)) {
                        found = p;
                }
        }
        if (locked)
                pthread_mutex_unlock(&claim);
        return found;
}

static struct route_place *route_place(const char *route)
{
        uint32_t at = hash_text(0, route);
        bool locked = false;
        struct route_place *found = NULL;
        for (uint32_t i = 0; i < ROUTES_MAX && found == NULL; i++) {
                struct route_place *p = &routes[(at + i) % ROUTES_MAX];
                if (!used(&p->used) && !locked) {
                        pthread_mutex_lock(&claim);
                        locked = true;
                }
                if (!used(&p->used)) {
                        (void)snprintf(p->route, sizeof p->route, "%s", route);
                        atomic_store_explicit(&p->used, true, memory_order_release);
                        found = p;
                } else if (strcmp(p->route, route) == 0) {
                        found = p;
                }
        }
        if (locked)
                pthread_mutex_unlock(&claim);
        return found;
}

void metric_request(const char *method, const char *route, int status, double seconds)
{
        char cut[ROUTE_BYTES];
        (void)snprintf(cut, sizeof cut, "%s", route != NULL ? route : "unmatched");
        if (status < 100 || status > 599)
                status = 0;
        struct request_place *request = request_place(bounded_method(method), cut, status);
        struct route_place *place = route_place(cut);
        add(request != NULL ? &request->count : &requests_other, 1);
        if (place == NULL)
                add(&observed_other, 1);
        observe(place != NULL ? &place->seconds : &seconds_other, &fast, seconds);
}

/* --- rendering --- */

static void head(struct buf *out, const char *name, const char *type, const char *help)
{
        buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A label's value: backslash, quote and newline are escaped. */
static void put_label(struct buf *out, const char *name, const char *value)
{
        buf_printf(out, "%s=\"", name);
        for (; *value != '\0'; value++) {
                if (*value == '\n')
                        buf_append_str(out, "\\n");
                else if (*value == '\\' || *value == '"')
                        buf_printf(out, "\\%c", *value);
                else
                        buf_append(out, value, 1);
        }
        buf_append_str(out, "\"");
}

/* route NULL: no label. The count is the sum of the buckets just read, so that they always agree.
 */
static void put_histogram(struct buf *out, const char *name, const struct histogram *h,
                          const struct bounds *b, const char *route)
{
        uint64_t total = 0;
        for (uint32_t i = 0; i <= b->count; i++) {
                total += get(&h->bucket[i < b->count ? i : BUCKETS_MAX]);
                buf_printf(out, "%s_bucket{", name);
                if (route != NULL) {
                        put_label(out, "route", route);
                        buf_append_str(out, ",");
                }
                if (i < b->count)
                        buf_printf(out, "le=\"%g\"} %llu\n", b->at[i], (unsigned long long)total);
                else
                        buf_printf(out, "le=\"+Inf\"} %llu\n", (unsigned long long)total);
        }
        for (int sum = 1; sum >= 0; sum--) {
                buf_printf(out, "%s_%s", name, sum ? "sum" : "count");
                if (route != NULL) {
                        buf_append_str(out, "{");
                        put_label(out, "route", route);
                        buf_append_str(out, "}");
                }
                if (sum)
                        buf_printf(out, " %.9g\n", (double)get(&h->sum_ns) / 1e9);
                else
                        buf_printf(out, " %llu\n", (unsigned long long)total);
        }
}

static void put_request(struct buf *out, const char *method, const char *route, const char *status,
                        uint64_t count)
{
        buf_append_str(out, "unlearnd_http_requests_total{");
        put_label(out, "method", method);
        buf_append_str(out, ",");
        put_label(out, "route", route);
        buf_append_str(out, ",");
        put_label(out, "status", status);
        buf_printf(out, "} %llu\n", (unsigned long long)count);
}

static void put_requests(struct buf *out)
{
        char status[16];
        head(out, "unlearnd_http_requests_total", "counter", "Requests answered.");
        for (uint32_t i = 0; i < REQUESTS_MAX; i++) {
                const struct request_place *p = &requests[i];
                if (!used(&p->used))
                        continue;
                (void)snprintf(status, sizeof status, "%d", p->status);
                put_request(out, p->method, p->route, status, get(&p->count));
        }
        if (get(&requests_other) > 0)
                put_request(out, "other", "other", "0", get(&requests_other));

        head(out, "unlearnd_http_request_seconds", "histogram",
             "From a request's first byte to its answer.");
        for (uint32_t i = 0; i < ROUTES_MAX; i++)
                if (used(&routes[i].used))
                        put_histogram(out, "unlearnd_http_request_seconds", &routes[i].seconds,
                                      &fast, routes[i].route);
        if (get(&observed_other) > 0)
                put_histogram(out, "unlearnd_http_request_seconds", &seconds_other, &fast, "other");
}

static void put_gauge(struct buf *out, const char *name, const char *help, uint64_t v)
{
        head(out, name, "gauge", help);
        buf_printf(out, "%s %llu\n", name, (unsigned long long)v);
}

static void put_fault(struct buf *out, const char *name, const char *reason, uint64_t v)
{
        buf_printf(out, "%s{", name);
        put_label(out, "reason", reason);
        buf_printf(out, "} %llu\n", (unsigned long long)v);
}

static void put_faults(struct buf *out, const struct metric_fault faults[METRIC_FAULTS])
{
        head(out, "unlearnd_degraded", "gauge", "1: a fault stands; see unlearnd(8).");
        for (uint32_t i = 0; i < METRIC_FAULTS && faults[i].reason != NULL; i++)
                put_fault(out, "unlearnd_degraded", faults[i].reason, faults[i].stands);
        head(out, "unlearnd_faults_total", "counter", "Durable writes and jobs that failed.");
        for (uint32_t i = 0; i < METRIC_FAULTS && faults[i].reason != NULL; i++)
                put_fault(out, "unlearnd_faults_total", faults[i].reason, faults[i].count);
}

static void put_attempts(struct buf *out)
{
        head(out, "unlearnd_delivery_attempts_total", "counter",
             "Attempts to deliver a webhook or a callback.");
        for (uint32_t i = 0; i < ATTEMPT_OUTCOMES; i++) {
                buf_append_str(out, "unlearnd_delivery_attempts_total{");
                put_label(out, "outcome", attempt_outcomes[i]);
                buf_printf(out, "} %llu\n", (unsigned long long)get(&attempts[i]));
        }
}

static void put_witness(struct buf *out, const char *name, const char *witness, double v)
{
        buf_printf(out, "%s{", name);
        put_label(out, "witness", witness);
        if (isnan(v))
                buf_append_str(out, "} NaN\n");
        else
                buf_printf(out, "} %.15g\n", v);
}

static void put_witnesses(struct buf *out, const struct metric_witness w[METRIC_WITNESSES])
{
        head(out, "unlearnd_witness_cosigned_entries", "gauge",
             "Entries of the newest checkpoint that the witness cosigned.");
        for (uint32_t i = 0; i < METRIC_WITNESSES && w[i].name != NULL; i++)
                put_witness(out, "unlearnd_witness_cosigned_entries", w[i].name, (double)w[i].size);
        head(out, "unlearnd_witness_cosigned_age_seconds", "gauge",
             "Since the witness last cosigned; NaN: never. A log at rest is cosigned once a day.");
        for (uint32_t i = 0; i < METRIC_WITNESSES && w[i].name != NULL; i++)
                put_witness(out, "unlearnd_witness_cosigned_age_seconds", w[i].name,
                            w[i].age_seconds);
        head(out, "unlearnd_witness_failures", "gauge", "Attempts in a row that failed.");
        for (uint32_t i = 0; i < METRIC_WITNESSES && w[i].name != NULL; i++)
                put_witness(out, "unlearnd_witness_failures", w[i].name, (double)w[i].failures);
        head(out, "unlearnd_witness_attempts_total", "counter",
             "Checkpoints offered to witnesses, by what came of it.");
        for (uint32_t i = 0; i < WITNESS_ATTEMPT_OUTCOMES; i++) {
                buf_append_str(out, "unlearnd_witness_attempts_total{");
                put_label(out, "outcome", witness_outcomes[i]);
                buf_printf(out, "} %llu\n", (unsigned long long)get(&witness_attempts[i]));
        }
}

static void put_gauges(struct buf *out, const struct metric_gauges *g)
{
        put_gauge(out, "unlearnd_ready", "1: requests are served.", g->ready != 0);
        put_gauge(out, "unlearnd_control_database_damaged",
                  "1: a value of the control database failed its checksum; restore a backup.",
                  g->store_damaged != 0);
        put_gauge(out, "unlearnd_models", "Models.", g->models);
        put_gauge(out, "unlearnd_records", "Records held.", g->records);
        put_gauge(out, "unlearnd_dirty_shards", "Shards that wait for a retrain.", g->dirty_shards);
        put_gauge(out, "unlearnd_damaged_shards", "Shards out of service: their rows are damaged.",
                  g->damaged_shards);
        put_gauge(out, "unlearnd_appended_slices",
                  "Slices beyond the configured ones, which a compaction takes back.",
                  g->appended_slices);
        put_gauge(out, "unlearnd_pending_erasures", "Erasures not completed.", g->pending_erasures);
        put_gauge(out, "unlearnd_overdue_erasures", "Erasures past their deadline.",
                  g->overdue_erasures);
        put_gauge(out, "unlearnd_running_jobs", "Workers at work.", g->running_jobs);
        put_gauge(out, "unlearnd_suppressions", "Ids that may not be loaded again.",
                  g->suppressions);
        put_gauge(out, "unlearnd_deliveries_pending", "Webhooks and callbacks that wait.",
                  g->deliveries);
        put_gauge(out, "unlearnd_audit_log_entries", "Entries of the audit log.", g->audit_entries);
        put_gauge(out, "unlearnd_store_used_bytes", "Pages in use of control.mdb.",
                  g->store_used_bytes);
        put_gauge(out, "unlearnd_store_map_bytes", "The most that control.mdb may grow to.",
                  g->store_map_bytes);
        head(out, "unlearnd_nearest_deadline_seconds", "gauge",
             "Until the nearest deadline of a pending erasure, negative when it is past; NaN: "
             "none.");
        if (isnan(g->nearest_deadline_seconds))
                buf_append_str(out, "unlearnd_nearest_deadline_seconds NaN\n");
        else
                buf_printf(out, "unlearnd_nearest_deadline_seconds %.3f\n",
                           g->nearest_deadline_seconds);
}

void metrics_render(const struct metric_gauges *g, struct buf *out)
{
        head(out, "unlearnd_build_info", "gauge", "1, labelled with the version.");
        buf_append_str(out, "unlearnd_build_info{");
        put_label(out, "version", UNLEARND_VERSION);
        buf_append_str(out, "} 1\n");
        put_gauges(out, g);
        put_faults(out, g->faults);
        put_attempts(out);
        put_witnesses(out, g->witnesses);
        for (uint32_t i = 0; i < METRIC_COUNTERS; i++) {
                head(out, counter_names[i].name, "counter", counter_names[i].help);
                buf_printf(out, "%s %llu\n", counter_names[i].name,
                           (unsigned long long)get(&counters[i]));
        }
        for (uint32_t i = 0; i < METRIC_HISTOGRAMS; i++) {
                head(out, histogram_names[i].name, "histogram", histogram_names[i].help);
                put_histogram(out, histogram_names[i].name, &histograms[i],
                              histogram_names[i].bounds, NULL);
        }
        put_requests(out);
}
