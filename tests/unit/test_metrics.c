/* SPDX-License-Identifier: Apache-2.0
 * test_metrics.c: what is rendered is valid Prometheus text 0.0.4 that agrees with itself, counts
 * are exact from any number of threads, and no client can make the tables grow. A small reader of
 * the format stands in for promtool. The numbers are global: tests look at differences. */
#include "daemon/metrics.h"

#include <ctype.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct metric_gauges gauges = {.models = 2,
                                            .records = 1797,
                                            .dirty_shards = 3,
                                            .overdue_erasures = 1,
                                            .nearest_deadline_seconds = 86400.5,
                                            .store_map_bytes = (uint64_t)1 << 40,
                                            .ready = 1,
                                            .witnesses = {{"w", 7, 1.5, 2}}};

static char *render(const struct metric_gauges *g)
{
        struct buf out = {0};
        metrics_render(g, &out);
        buf_append(&out, "", 1);
        assert_false(out.failed);
        return (char *)out.data; /* freed by the caller */
}

/* The value of the series with exactly this name and labels; NaN: there is none. */
static double value_of(const char *text, const char *series)
{
        size_t len = strlen(series);
        for (const char *p = text; p != NULL && *p != '\0'; p = strchr(p, '\n')) {
                p += *p == '\n';
                if (strncmp(p, series, len) == 0 && p[len] == ' ')
                        return strtod(p + len, NULL);
        }
        return (double)NAN;
}

static double now(const char *series)
{
        char *text = render(&gauges);
        double v = value_of(text, series);
        free(text);
        return isnan(v) ? 0 : v;
}

/* --- a reader of the format --- */

struct reader {
        char name[128], type[16]; /* of the last # TYPE */
        char bucket_labels[256];
        double bucket; /* the last of this histogram series */
        double infinity;
        size_t families, samples;
};

static const char *read_name(const char *p, char *out, size_t size)
{
        size_t n = 0;
        assert_true(isalpha((unsigned char)*p) || *p == '_');
        while (isalnum((unsigned char)*p) || *p == '_') {
                assert_true(n + 1 < size);
                out[n++] = *p++;
        }
        out[n] = '\0';
        return p;
}

/* {name="value",...}: le goes to *le, the others to `labels` as text. */
static const char *read_labels(const char *p, char *labels, size_t size, char *le)
{
        char name[64], value[256];
        size_t used = 0;
        labels[0] = le[0] = '\0';
        if (*p != '{')
                return p;
        do {
                size_t n = 0;
                p = read_name(p + 1, name, sizeof name);
                assert_int_equal(*p++, '=');
                assert_int_equal(*p++, '"');
                for (; *p != '"'; p++) {
                        assert_true(*p != '\n' && *p != '\0');
                        if (*p == '\\') {
                                value[n++] = *p++;
                                assert_true(*p == '\\' || *p == '"' || *p == 'n');
                        }
                        value[n++] = *p;
                        assert_true(n + 2 < sizeof value);
                }
                value[n] = '\0';
                p++;
                if (strcmp(name, "le") == 0)
                        (void)snprintf(le, 32, "%.30s", value);
                else
                        used += (size_t)snprintf(labels + used, size - used, "%s=%s,", name, value);
                assert_true(used < size);
        } while (*p == ',');
        assert_int_equal(*p, '}');
        return p + 1;
}

static void check_histogram(struct reader *r, const char *suffix, const char *labels,
                            const char *le, double value)
{
        if (strcmp(suffix, "_bucket") == 0) {
                assert_true(le[0] != '\0');
                if (strcmp(labels, r->bucket_labels) == 0)
                        assert_true(value >= r->bucket); /* cumulative */
                (void)snprintf(r->bucket_labels, sizeof r->bucket_labels, "%.250s", labels);
                r->bucket = value;
                if (strcmp(le, "+Inf") == 0) {
                        r->infinity = value;
                        r->bucket = 0;
                        r->bucket_labels[0] = '\0';
                }
        } else if (strcmp(suffix, "_count") == 0) {
                assert_true(value == r->infinity);
        } else {
                assert_string_equal(suffix, "_sum");
                assert_true(value >= 0 && (value > 0 || r->infinity >= 0));
        }
}

static void read_sample(struct reader *r, const char *line)
{
        char name[128], labels[512], le[32], *end = NULL;
        const char *p = read_labels(read_name(line, name, sizeof name), labels, sizeof labels, le);
        assert_int_equal(*p, ' ');
        double value = strtod(p + 1, &end);
        assert_true(end != p + 1 && *end == '\n');
        assert_int_equal(strncmp(name, r->name, strlen(r->name)), 0); /* under its own TYPE */
        const char *suffix = name + strlen(r->name);
        if (strcmp(r->type, "histogram") == 0) {
                check_histogram(r, suffix, labels, le, value);
        } else {
                assert_string_equal(suffix, "");
                assert_string_equal(le, "");
        }
        if (strcmp(r->type, "counter") == 0)
                assert_string_equal(name + strlen(name) - 6, "_total");
        r->samples++;
}

static void check_format(const char *text)
{
        struct reader r = {0};
        const char *end = text + strlen(text);
        assert_int_equal(end[-1], '\n');
        while (text < end) {
                char type_line[160];
                if (strncmp(text, "# HELP ", 7) == 0) {
                        (void)read_name(text + 7, r.name, sizeof r.name);
                        assert_int_equal(strncmp(r.name, "unlearnd_", 9), 0);
                        (void)snprintf(type_line, sizeof type_line, "# TYPE %s ", r.name);
                        text = strchr(text, '\n') + 1;
                        assert_int_equal(strncmp(text, type_line, strlen(type_line)), 0);
                        (void)read_name(text + strlen(type_line), r.type, sizeof r.type);
                        r.families++;
                } else {
                        read_sample(&r, text);
                }
                text = strchr(text, '\n') + 1;
        }
        assert_true(r.families > 30 && r.samples > 100);
}

/* No two lines may name the same series. */
static int by_text(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static void check_unique(char *text)
{
        enum { LINES_MAX = 32768 };
        char **lines = calloc(LINES_MAX, sizeof *lines);
        size_t n = 0;
        assert_non_null(lines);
        for (char *line = strsep(&text, "\n"); line != NULL; line = strsep(&text, "\n")) {
                char *space = strrchr(line, ' ');
                if (space != NULL && line[0] != '#')
                        *space = '\0';
                if (line[0] != '\0')
                        lines[n++] = line;
                assert_true(n < LINES_MAX);
        }
        qsort(lines, n, sizeof *lines, by_text);
        for (size_t i = 1; i < n; i++)
                if (strcmp(lines[i], lines[i - 1]) == 0)
                        fail_msg("twice: %s", lines[i]);
        free(lines);
}

/* --- tests --- */

static void what_is_rendered_is_valid_prometheus_text(void **state)
{
        (void)state;
        for (int c = 0; c < METRIC_COUNTERS; c++)
                metric_add((enum metric_counter)c, 1 + (uint64_t)c);
        for (int h = 0; h < METRIC_HISTOGRAMS; h++)
                for (double v = 1e-6; v < 1e7; v *= 3)
                        metric_observe((enum metric_histogram)h, v);
        metric_request("GET", "/v1/models/{m}", 200, 0.002);
        metric_request("POST", "/v1/models/{m}", 404, 0.2);
        metric_request("POST", "a \"quoted\\path\"\nwith a newline", 400, 0.2);
        char *text = render(&gauges);
        check_format(text);
        check_unique(text);
        free(text);
}

static void gauges_are_those_handed_over(void **state)
{
        struct metric_gauges none = {.nearest_deadline_seconds = (double)NAN};
        (void)state;
        assert_true(now("unlearnd_records") == 1797);
        assert_true(now("unlearnd_ready") == 1);
        assert_true(now("unlearnd_store_map_bytes") == 1099511627776.0);
        assert_true(now("unlearnd_nearest_deadline_seconds") == 86400.5);
        char *text = render(&none);
        assert_non_null(strstr(text, "\nunlearnd_nearest_deadline_seconds NaN\n"));
        check_format(text);
        free(text);
}

static void a_witness_has_its_gauges_and_an_outcome_its_counter(void **state)
{
        struct metric_gauges g = gauges;
        (void)state;
        g.witnesses[0] = (struct metric_witness){"garden", 1432088532, 7.25, 0};
        g.witnesses[1] = (struct metric_witness){"late", 0, (double)NAN, 12};
        metric_witness("bad_signature");
        metric_witness("bad_signature");
        metric_witness("no such outcome");
        char *text = render(&g);
        assert_true(value_of(text, "unlearnd_witness_cosigned_entries{witness=\"garden\"}") ==
                    1432088532.0);
        assert_true(value_of(text, "unlearnd_witness_cosigned_age_seconds{witness=\"garden\"}") ==
                    7.25);
        assert_non_null(
                strstr(text, "unlearnd_witness_cosigned_age_seconds{witness=\"late\"} NaN\n"));
        assert_true(value_of(text, "unlearnd_witness_failures{witness=\"late\"}") == 12.0);
        assert_true(value_of(text, "unlearnd_witness_attempts_total{outcome=\"bad_signature\"}") ==
                    2.0);
        assert_true(value_of(text, "unlearnd_witness_attempts_total{outcome=\"cosigned\"}") == 0.0);
        free(text);
}

static void an_observation_counts_in_its_bucket_and_above(void **state)
{
        (void)state;
        double below = now("unlearnd_commit_seconds_bucket{le=\"0.001\"}");
        double above = now("unlearnd_commit_seconds_bucket{le=\"0.0025\"}");
        double all = now("unlearnd_commit_seconds_bucket{le=\"+Inf\"}");
        double sum = now("unlearnd_commit_seconds_sum");
        metric_observe(METRIC_COMMIT_SECONDS, 0.0025); /* le: the bound itself is in */
        metric_observe(METRIC_COMMIT_SECONDS, 100);
        assert_true(now("unlearnd_commit_seconds_bucket{le=\"0.001\"}") == below);
        assert_true(now("unlearnd_commit_seconds_bucket{le=\"0.0025\"}") == above + 1);
        assert_true(now("unlearnd_commit_seconds_bucket{le=\"+Inf\"}") == all + 2);
        assert_true(now("unlearnd_commit_seconds_count") == all + 2);
        assert_true(fabs(now("unlearnd_commit_seconds_sum") - sum - 100.0025) < 0.1);
}

static void observations_that_are_no_time_do_no_harm(void **state)
{
        (void)state;
        double count = now("unlearnd_retrain_seconds_count");
        double sum = now("unlearnd_retrain_seconds_sum");
        metric_observe(METRIC_RETRAIN_SECONDS, (double)NAN);
        assert_true(now("unlearnd_retrain_seconds_count") == count);
        metric_observe(METRIC_RETRAIN_SECONDS, -5); /* a clock that went back */
        metric_observe(METRIC_RETRAIN_SECONDS, (double)INFINITY);
        assert_true(now("unlearnd_retrain_seconds_count") == count + 2);
        assert_true(now("unlearnd_retrain_seconds_sum") >= sum);
        char *text = render(&gauges);
        check_format(text);
        free(text);
}

enum { THREADS = 4, ROUNDS = 20000 };

static void *count_much(void *arg)
{
        (void)arg;
        for (int i = 0; i < ROUNDS; i++) {
                metric_add(METRIC_PREDICTIONS, 3);
                metric_observe(METRIC_PREDICT_SECONDS, 0.001);
                metric_request("GET", i % 2 == 0 ? "/even" : "/odd", 200 + i % 3, 0.001);
        }
        return NULL;
}

static void counts_from_many_threads_are_exact(void **state)
{
        pthread_t threads[THREADS];
        double predictions = now("unlearnd_predictions_total");
        double observed = now("unlearnd_predict_seconds_count");
        (void)state;
        for (int i = 0; i < THREADS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, count_much, NULL), 0);
        char *during = render(&gauges); /* agrees with itself at any moment */
        check_format(during);
        free(during);
        for (int i = 0; i < THREADS; i++)
                assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(now("unlearnd_predictions_total") == predictions + 3.0 * THREADS * ROUNDS);
        assert_true(now("unlearnd_predict_seconds_count") == observed + THREADS * ROUNDS);
        double requests = 0;
        for (int status = 200; status < 203; status++) {
                char series[128];
                for (int odd = 0; odd < 2; odd++) {
                        (void)snprintf(series, sizeof series,
                                       "unlearnd_http_requests_total{method=\"GET\",route=\"/%s\","
                                       "status=\"%d\"}",
                                       odd ? "odd" : "even", status);
                        requests += now(series);
                }
        }
        assert_true(requests == THREADS * ROUNDS); /* no series was claimed twice */
        char *text = render(&gauges);
        check_unique(text);
        free(text);
}

static void clients_cannot_make_up_methods_or_statuses(void **state)
{
        (void)state;
        metric_request("BREW\"", "/coffee", 418, 0);
        metric_request(NULL, NULL, 99999, 0);
        assert_true(now("unlearnd_http_requests_total{method=\"other\",route=\"/coffee\","
                        "status=\"418\"}") == 1);
        assert_true(now("unlearnd_http_requests_total{method=\"other\",route=\"unmatched\","
                        "status=\"0\"}") == 1);
}

/* Last: it fills the tables. */
static void past_its_places_a_table_counts_as_other(void **state)
{
        char route[256];
        (void)state;
        for (int i = 0; i < 5000; i++) {
                (void)snprintf(route, sizeof route, "/%d/%0200d", i, 0);
                metric_request("GET", route, 200, 0.001);
        }
        double other = now("unlearnd_http_requests_total{method=\"other\",route=\"other\","
                           "status=\"0\"}");
        assert_true(other > 2000 && other < 5000);
        assert_true(now("unlearnd_http_request_seconds_count{route=\"other\"}") > 4000);
        /* what has its place keeps it */
        double before = now("unlearnd_http_requests_total{method=\"other\",route=\"/coffee\","
                            "status=\"418\"}");
        metric_request("BREW", "/coffee", 418, 0);
        assert_true(now("unlearnd_http_requests_total{method=\"other\",route=\"/coffee\","
                        "status=\"418\"}") == before + 1);
        char *text = render(&gauges);
        check_format(text);
        check_unique(text);
        free(text);
}

static void what_may_not_come_true_is_counted_when_it_does(void **state)
{
        (void)state;
        static const char counter[] = "unlearnd_erasures_completed_total";
        static const char histogram[] = "unlearnd_erasure_completed_seconds_count";
        struct metric_held held = {0};
        const double completed = now(counter), observed = now(histogram);
        metric_hold(&held);
        metric_add(METRIC_ERASURES_COMPLETED, 2);
        const uint32_t first = held.count;
        for (int i = 0; i < 100; i++)
                metric_add(METRIC_ERASURES_COMPLETED, 10); /* of a neighbour that fails */
        metric_held_drop(&held, first);
        metric_observe(METRIC_TIME_TO_COMPLETED, 0.5);
        metric_hold(NULL);
        assert_true(now(counter) == completed && now(histogram) == observed);
        metric_held_end(&held, true);
        assert_true(now(counter) == completed + 2 && now(histogram) == observed + 1);

        metric_hold(&held);
        metric_add(METRIC_ERASURES_COMPLETED, 5);
        metric_hold(NULL);
        metric_held_end(&held, false);
        assert_null(held.counts);
        metric_add(METRIC_ERASURES_COMPLETED, 1); /* at once again */
        assert_true(now(counter) == completed + 3);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_may_not_come_true_is_counted_when_it_does),
                cmocka_unit_test(what_is_rendered_is_valid_prometheus_text),
                cmocka_unit_test(gauges_are_those_handed_over),
                cmocka_unit_test(a_witness_has_its_gauges_and_an_outcome_its_counter),
                cmocka_unit_test(an_observation_counts_in_its_bucket_and_above),
                cmocka_unit_test(observations_that_are_no_time_do_no_harm),
                cmocka_unit_test(counts_from_many_threads_are_exact),
                cmocka_unit_test(clients_cannot_make_up_methods_or_statuses),
                cmocka_unit_test(past_its_places_a_table_counts_as_other),
        };
        int failed = cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
        if (argc > 1) { /* test_metrics FILE; promtool check metrics < FILE */
                char *text = render(&gauges);
                FILE *f = fopen(argv[1], "w");
                if (f == NULL || fputs(text, f) == EOF || fclose(f) != 0)
                        failed++;
                free(text);
        }
        return failed;
}
