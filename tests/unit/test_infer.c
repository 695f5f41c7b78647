/* SPDX-License-Identifier: Apache-2.0
 * test_infer.c: the Open Inference Protocol V2 with its binary extension, and KServe's V1, over a
 * real connection. The predictions behind it are the test's own: the class is the first feature. */
#include "api/router.h"
#include "api/routes.h"
#include "api/server.h"
#include "lib/util/crypto.h"
#include "lib/util/number.h"
#include "tests/unit/http_client.h"
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

/* --- the models --- */

static char *digit_labels[] = {(char[]){"zero"}, (char[]){"o\"ne"}, (char[]){"two"}};
static char *spam_labels[] = {(char[]){"ham"}, (char[]){"spam"}};
static char *jobs[] = {(char[]){"clerk"}, (char[]){"7"}};
static struct column_spec people_columns[] = {
        {.name = (char[]){"age"}},
        {.name = (char[]){"job"},
         .categorical = true,
         .value_count = 2,
         .values = jobs,
         .first_feature = 1},
};
static const struct model_config models[] = {
        {.name = "digits", .features = 3, .outputs = 3, .labels = digit_labels},
        {.name = "texts",
         .encoder = ENCODER_HASH_TEXT,
         .features = 4,
         .outputs = 2,
         .labels = spam_labels},
        {.name = "people",
         .encoder = ENCODER_TABULAR,
         .features = 4,
         .outputs = 2,
         .labels = spam_labels,
         .column_count = 2,
         .columns = people_columns},
        {.name = "house", .task = TASK_REGRESSION, .features = 2, .outputs = 2},
        {.name = "price", .task = TASK_REGRESSION, .features = 1, .outputs = 1},
};

static const struct model_config *find_model(const char *name)
{
        for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
                if (strcmp(models[i].name, name) == 0)
                        return &models[i];
        }
        return NULL;
}

/* --- the service --- */

struct predict {
        const struct model_config *config;
        float *x, *y;
        uint32_t n;
        service_predict_done done;
        void *arg;
};
static _Atomic int open_predictions;
static _Atomic bool lose_constituents, ready = true;

void service_count_request(struct service *s, const char *method, const char *route, int status,
                           double seconds)
{
        (void)s, (void)method, (void)route, (void)status, (void)seconds;
}

void service_keyed_hash(struct service *s, const void *data, size_t len, uint8_t out[32])
{
        (void)s;
        sha256(data, len, out);
}

const char *service_version(void)
{
        return "1.2.3";
}

int service_ready(struct service *s, struct errinfo *e)
{
        (void)s;
        return ready ? 0 : ul_fail(e, UL_UNAVAILABLE, "not yet");
}

int service_metrics(struct service *s, struct buf *out, struct errinfo *e)
{
        (void)s, (void)e;
        buf_append_str(out, "unlearnd_up 1\n");
        return 0;
}

int service_model_get(struct service *s, const char *name, struct model_view *out,
                      struct errinfo *e)
{
        (void)s;
        memset(out, 0, sizeof *out);
        out->config = find_model(name);
        out->ready = ready;
        return out->config != NULL ? 0 : ul_fail(e, UL_NOT_FOUND, "there is no such model");
}

void model_view_release(struct model_view *v)
{
        v->config = NULL;
}

int service_predict_open(struct service *s, const char *model, struct predict **out,
                         struct errinfo *e)
{
        (void)s;
        const struct model_config *c = find_model(model);
        if (c == NULL)
                return ul_fail(e, UL_NOT_FOUND, "there is no such model");
        if (!ready) {
                e->retry_after_s = 9;
                ul_fail(e, UL_UNAVAILABLE, "nothing clean is left");
                e->retry_after_s = 9;
                return UL_UNAVAILABLE;
        }
        *out = calloc(1, sizeof **out);
        assert_non_null(*out);
        (*out)->config = c;
        atomic_fetch_add(&open_predictions, 1);
        return 0;
}

const struct model_config *predict_config(const struct predict *p)
{
        return p->config;
}

int predict_rows(struct predict *p, uint32_t n, float **x, struct errinfo *e)
{
        if (n == 0)
                return ul_fail(e, UL_INVALID, "a prediction needs at least one row");
        if (n > 1000)
                return ul_fail(e, UL_TOO_LARGE, "at most 1000 rows");
        p->n = n;
        p->x = calloc((size_t)n * p->config->features, sizeof *p->x);
        p->y = calloc((size_t)n * p->config->outputs, sizeof *p->y);
        assert_non_null(p->x);
        *x = p->x;
        return 0;
}

/* The class is the length of the text, and whether there is a number in it. */
int predict_encode_text(struct predict *p, uint32_t row, const char *text, size_t len,
                        struct errinfo *e)
{
        (void)e;
        assert_true(row < p->n);
        p->x[row * p->config->features] = (float)(memchr(text, '!', len) != NULL);
        return 0;
}

int predict_encode_column(struct predict *p, uint32_t row, uint32_t column, const char *text,
                          size_t len, struct errinfo *e)
{
        float *x = p->x + row * p->config->features;
        assert_true(row < p->n && column < 2);
        if (column == 0) {
                if (text == NULL || parse_f32(text, len, x) != len)
                        return ul_fail_field(e, UL_INVALID, "/columns/age", "not a number");
                x[0] = x[0] > 40.0f;
        } else {
                x[text == NULL ? 3 : (len == 5 && memcmp(text, "clerk", 5) == 0) ? 1 : 2] = 1;
        }
        return 0;
}

static void *run(void *arg)
{
        struct predict *p = arg;
        struct errinfo e = {0};
        const struct model_config *c = p->config;
        for (uint32_t i = 0; i < p->n; i++) {
                for (uint32_t k = 0; k < c->outputs; k++) {
                        float first = p->x[i * c->features];
                        float *y = &p->y[i * c->outputs + k];
                        if (c->task == TASK_REGRESSION)
                                *y = first + 0.5f * (float)k;
                        else
                                *y = k == (uint32_t)first ? 0.75f : 0.125f;
                }
        }
        int err = lose_constituents ? ul_fail(&e, UL_UNAVAILABLE, "gone meanwhile") : 0;
        p->done(p->arg, err, &e);
        return NULL;
}

int service_predict(struct predict *p, service_predict_done done, void *arg, struct errinfo *e)
{
        pthread_t t;
        for (uint32_t i = 0; i < p->n * p->config->features; i++) {
                char field[64];
                if (isfinite(p->x[i]))
                        continue;
                snprintf(field, sizeof field, "/%u/%u", i / p->config->features,
                         i % p->config->features);
                return ul_fail_field(e, UL_INVALID, field, "every feature must be finite");
        }
        p->done = done;
        p->arg = arg;
        assert_int_equal(pthread_create(&t, NULL, run, p), 0);
        assert_int_equal(pthread_detach(t), 0);
        return 0;
}

const float *predict_output(const struct predict *p)
{
        return p->y;
}

uint32_t predict_count(const struct predict *p)
{
        return p->n;
}

uint64_t predict_generation(const struct predict *p)
{
        (void)p;
        return 17;
}

uint32_t predict_clean(const struct predict *p)
{
        (void)p;
        return 8;
}

void predict_close(struct predict **pp)
{
        if (*pp == NULL)
                return;
        free((*pp)->x);
        free((*pp)->y);
        free(*pp);
        *pp = NULL;
        atomic_fetch_sub(&open_predictions, 1);
}

static struct route_table table;
const struct route_table *route_table_default(void)
{
        return &table;
}

/* --- the server --- */

static struct server *server;
static uint16_t port;
static struct answer got;
static struct json *doc;

static int start(void **state)
{
        (void)state;
        struct errinfo e = {0};
        const struct route *const arrays[] = {infer_routes, ops_routes};
        const struct server_options o = {.host = "127.0.0.1",
                                         .listen_fd = -1,
                                         .threads = 2,
                                         .connections_max = 100,
                                         .idle_timeout_s = 5,
                                         .infer_max_bytes = 100000,
                                         .tokens_file = ""};
        route_table_build(&table, arrays, 2);
        ready = true;
        lose_constituents = false;
        return crypto_init() != 0 ? -1 : server_start(NULL, &o, &server, &port, &e);
}

static int stop(void **state)
{
        (void)state;
        drop(&got);
        json_free(&doc);
        server_stop(&server);
        return atomic_load(&open_predictions) == 0 ? 0 : -1;
}

static int ask(const char *method, const char *target, const char *body)
{
        return exchange(port, &got, method, target, NULL, body, body != NULL ? strlen(body) : 0);
}

static const struct json *answer(void)
{
        json_free(&doc);
        const char *length = header_of(&got, "Inference-Header-Content-Length");
        size_t len = length != NULL ? strtoul(length, NULL, 10) : got.body.len;
        if (json_parse(body_text(&got), len, &doc, NULL) != 0)
                fail_msg("not JSON: %s", body_text(&got));
        return doc;
}

static const struct json *output(const char *name)
{
        const struct json *v = json_first(json_get(answer(), "outputs"));
        while (v != NULL && strcmp(json_string(json_get(v, "name")), name) != 0)
                v = json_next(v);
        assert_non_null(v);
        return v;
}

static const struct json *item(const struct json *list, int at)
{
        const struct json *v = json_first(list);
        while (at-- > 0)
                v = json_next(v);
        assert_non_null(v);
        return v;
}

#define INFER "/v2/models/digits/infer"
#define FP32(shape, data)                                                                          \
        "{\"inputs\":[{\"name\":\"input\",\"datatype\":\"FP32\",\"shape\":" shape                  \
        ",\"data\":" data "}]}"

/* --- tests --- */

static void the_server_and_its_models_describe_themselves(void **state)
{
        (void)state;
        assert_int_equal(ask("GET", "/v2", NULL), 200);
        assert_contains(&got, "\"extensions\":[\"binary_tensor_data\"]");
        assert_int_equal(ask("GET", "/v2/", NULL), 200);
        assert_int_equal(ask("GET", "/v2/models/digits", NULL), 200);
        assert_contains(&got, "\"inputs\":[{\"name\":\"input\",\"datatype\":\"FP32\","
                              "\"shape\":[-1,3]}]");
        assert_contains(&got,
                        "{\"name\":\"probabilities\",\"datatype\":\"FP32\",\"shape\":[-1,3]}");
        assert_contains(&got, "{\"name\":\"label\",\"datatype\":\"BYTES\",\"shape\":[-1]}");
        assert_int_equal(ask("GET", "/v2/models/people/versions/1", NULL), 200);
        assert_contains(&got, "\"datatype\":\"BYTES\",\"shape\":[-1,2]");
        assert_int_equal(ask("GET", "/v2/models/house", NULL), 200);
        assert_contains(&got, "\"outputs\":[{\"name\":\"value\",\"datatype\":\"FP32\","
                              "\"shape\":[-1,2]}]");
        assert_int_equal(ask("GET", "/v2/models/none", NULL), 404);
        assert_contains(&got, "{\"error\":");
        assert_int_equal(ask("GET", "/v2/models/digits/versions/2", NULL), 404);
}

static void health_is_told_by_the_status(void **state)
{
        (void)state;
        static const char *const paths[] = {"/v2/health/ready", "/v2/models/digits/ready",
                                            "/v2/models/digits/versions/1/ready"};
        for (size_t i = 0; i < 3; i++) {
                ready = true;
                assert_int_equal(ask("GET", paths[i], NULL), 200);
                ready = false;
                assert_int_equal(ask("GET", paths[i], NULL), 503);
                assert_contains(&got, "{\"error\":");
        }
        assert_int_equal(ask("GET", "/v2/health/live", NULL), 200);
        assert_int_equal(ask("GET", "/metrics", NULL), 200);
        assert_string_equal(body_text(&got), "unlearnd_up 1\n");
}

static void numbers_give_label_class_and_probabilities(void **state)
{
        (void)state;
        assert_int_equal(ask("POST", INFER,
                             "{\"id\":\"a\\n7\",\"inputs\":[{\"name\":\"input\",\"shape\":[2,3],"
                             "\"datatype\":\"FP32\",\"data\":[[2,0,0],[1.0,-5e-1,0]]}]}"),
                         200);
        assert_string_equal(json_string(json_get(answer(), "id")), "a\n7");
        assert_string_equal(json_string(json_get(doc, "model_name")), "digits");
        assert_true(json_number(json_get(json_get(doc, "parameters"), "generation")) == 17.0);
        assert_true(json_number(json_get(json_get(doc, "parameters"), "clean_constituents")) ==
                    8.0);
        assert_int_equal(json_length(json_get(doc, "outputs")), 3);
        assert_string_equal(json_string(item(json_get(output("label"), "data"), 0)), "two");
        assert_string_equal(json_string(item(json_get(output("label"), "data"), 1)), "o\"ne");
        assert_true(json_number(item(json_get(output("class"), "data"), 1)) == 1.0);
        assert_int_equal(json_length(json_get(output("probabilities"), "data")), 6);
        assert_true(json_number(item(json_get(output("probabilities"), "data"), 2)) == 0.75);
        assert_true(json_number(item(json_get(output("probabilities"), "shape"), 1)) == 3.0);
        /* flat data, any order of members, and no id */
        assert_int_equal(ask("POST", "/v2/models/digits/versions/1/infer",
                             "{\"inputs\":[{\"data\":[0,0,0, 1,0,0],\"datatype\":\"UINT8\","
                             "\"shape\":[2,3],\"name\":\"input\"}]}"),
                         200);
        assert_null(json_get(answer(), "id"));
        assert_string_equal(json_string(item(json_get(output("label"), "data"), 0)), "zero");
}

static void only_the_outputs_that_are_asked_for_come_and_in_that_order(void **state)
{
        (void)state;
        assert_int_equal(ask("POST", INFER,
                             "{\"outputs\":[{\"name\":\"class\"},{\"name\":\"label\"}],"
                             "\"inputs\":[{\"name\":\"input\",\"shape\":[1,3],\"datatype\":"
                             "\"FP64\",\"data\":[2,0,0]}]}"),
                         200);
        const struct json *outputs = json_get(answer(), "outputs");
        assert_int_equal(json_length(outputs), 2);
        assert_string_equal(json_string(json_get(item(outputs, 0), "name")), "class");
        static const char *const bad[] = {"{\"name\":\"value\"}",
                                          "{\"name\":\"x\"}",
                                          "{}",
                                          "1",
                                          "{\"name\":\"class\",\"x\":1}",
                                          "{\"name\":\"class\",\"parameters\":{\"x\":1}}",
                                          "{\"name\":\"class\"},{\"name\":\"class\"}"};
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
                char body[512];
                snprintf(body, sizeof body,
                         "{\"outputs\":[%s],\"inputs\":[{\"name\":\"input\",\"shape\":[1,3],"
                         "\"datatype\":\"FP32\",\"data\":[2,0,0]}]}",
                         bad[i]);
                assert_int_equal(ask("POST", INFER, body), 422);
                assert_contains(&got, "/outputs/");
        }
}

/* What Triton's stock client sends: raw tensors both ways. */
static void raw_tensors_go_both_ways(void **state)
{
        (void)state;
        static const char text[] =
                "{\"id\":\"1\",\"inputs\":[{\"name\":\"input\",\"shape\":[2,3],\"datatype\":"
                "\"FP32\","
                "\"parameters\":{\"binary_data_size\":24}}],\"outputs\":[{\"name\":\"label\","
                "\"parameters\":{\"binary_data\":true}},{\"name\":\"class\",\"parameters\":"
                "{\"binary_data\":false}},{\"name\":\"probabilities\",\"parameters\":"
                "{\"binary_data\":true}}]}";
        const float x[6] = {2, 0, 0, 1, 0, 0};
        char header[64];
        uint8_t body[sizeof text - 1 + sizeof x];
        memcpy(body, text, sizeof text - 1);
        memcpy(body + sizeof text - 1, x, sizeof x);
        snprintf(header, sizeof header, "Inference-Header-Content-Length: %zu\r\n",
                 sizeof text - 1);
        assert_int_equal(exchange(port, &got, "POST", INFER, header, body, sizeof body), 200);
        assert_string_equal(header_of(&got, "Content-Type"), "application/octet-stream");
        size_t json_len = strtoul(header_of(&got, "Inference-Header-Content-Length"), NULL, 10);
        const uint8_t *raw = got.body.data + json_len;
        static const uint8_t labels[] = "\3\0\0\0two\4\0\0\0o\"ne";
        size_t labels_len = sizeof labels - 1;
        assert_int_equal(got.body.len, json_len + labels_len + 24);
        assert_memory_equal(raw, labels, labels_len);
        float y[6];
        memcpy(y, raw + labels_len, sizeof y);
        assert_true(y[2] == 0.75f && y[4] == 0.75f && y[0] == 0.125f);
        const struct json *label = output("label");
        assert_true(json_number(json_get(json_get(label, "parameters"), "binary_data_size")) ==
                    (double)labels_len);
        assert_null(json_get(label, "data"));
        assert_int_equal(json_length(json_get(output("class"), "data")), 2);
}

static void binary_output_may_be_the_default_of_a_request(void **state)
{
        (void)state;
        assert_int_equal(ask("POST", "/v2/models/house/infer",
                             "{\"parameters\":{\"binary_data_output\":true},\"inputs\":[{\"name\":"
                             "\"input\",\"shape\":[1,2],\"datatype\":\"INT64\",\"data\":[3,0]}]}"),
                         200);
        float y[2];
        size_t json_len = strtoul(header_of(&got, "Inference-Header-Content-Length"), NULL, 10);
        assert_int_equal(got.body.len, json_len + sizeof y);
        memcpy(y, got.body.data + json_len, sizeof y);
        assert_true(y[0] == 3.0f && y[1] == 3.5f);
}

static void raw_tensors_of_a_wrong_size_are_refused(void **state)
{
        (void)state;
        const struct {
                size_t announced, sent;
                const char *header;
                int status;
        } tries[] = {
                {24, 24, NULL, 200},   {24, 23, NULL, 422}, {23, 23, NULL, 422},
                {24, 25, NULL, 422},   {0, 0, NULL, 422},   {12, 12, NULL, 422},
                {24, 24, "", 400},     {24, 24, "x", 400},  {24, 24, "-1", 400},
                {24, 24, "9999", 400}, {24, 24, "10", 400}, {48, 48, NULL, 422},
        };
        for (size_t i = 0; i < sizeof tries / sizeof tries[0]; i++) {
                char header[64];
                uint8_t body[400] = {0};
                int n = snprintf((char *)body, 300,
                                 "{\"inputs\":[{\"name\":\"input\",\"shape\":[2,3],\"datatype\":"
                                 "\"FP32\",\"parameters\":{\"binary_data_size\":%zu}}]}",
                                 tries[i].announced);
                if (tries[i].header != NULL)
                        snprintf(header, sizeof header, "Inference-Header-Content-Length: %s\r\n",
                                 tries[i].header);
                else
                        snprintf(header, sizeof header, "Inference-Header-Content-Length: %d\r\n",
                                 n);
                memset(body + n, 0, sizeof body - (size_t)n);
                assert_int_equal(exchange(port, &got, "POST", INFER, header, body,
                                          (size_t)n + tries[i].sent),
                                 tries[i].status);
        }
}

static void wrong_requests_say_what_is_wrong_and_where(void **state)
{
        (void)state;
        static const struct {
                const char *body, *part;
                int status;
        } tries[] = {
                {"", "", 400},
                {"{", "", 400},
                {"[]", "", 422},
                {"{}", "/inputs", 422},
                {"{\"inputs\":[]}", "/inputs", 422},
                {"{\"inputs\":[1]}", "/inputs/0", 422},
                {"{\"inputs\":[{},{}]}", "/inputs", 422},
                {"{\"x\":1,\"inputs\":[]}", "/x", 422},
                {"{\"id\":7,\"inputs\":[]}", "/id", 422},
                {FP32("[2,3]", "[1,2,3,4,5]"), "/inputs/0/data", 422},
                {FP32("[2,3]", "[[1,2,3],[4,5]]"), "/inputs/0/data/1", 422},
                {FP32("[2,3]", "[[1,2,3],[4,5,\"6\"]]"), "/inputs/0/data/1/2", 422},
                {FP32("[2,2]", "[1,2,3,4]"), "[n, 3]", 422},
                {FP32("[3]", "[1,2,3]"), "[n, 3]", 422},
                {FP32("[1,1,3]", "[1,2,3]"), "/inputs/0/shape", 422},
                {FP32("[-1,3]", "[1,2,3]"), "/inputs/0/shape", 422},
                {FP32("[0,3]", "[]"), "/inputs/0/shape", 422},
                {FP32("[1.5,3]", "[1,2,3]"), "/inputs/0/shape", 422},
                {FP32("3", "[1,2,3]"), "/inputs/0/shape", 422},
                {FP32("[4000000000,3]", "[1,2,3]"), "/inputs/0/shape", 422},
                {FP32("[2000,3]", "[1,2,3]"), "1000 rows", 413},
                {FP32("[1,3]", "7"), "/inputs/0/data", 422},
                {FP32("[1,3]", "null"), "/inputs/0/data", 422},
                {FP32("[1,3]", "[1,2,3"), "", 400},
                {FP32("[1,3]", "[1,2,3]]"), "", 400},
                {FP32("[1,3]", "[1,2,NaN]"), "/inputs/0/data/0/2", 422},
                {FP32("[1,3]", "[1,Infinity,2]"), "/inputs/0/data/0/1", 422},
                {FP32("[1,3]", "[1,1e39,2]"), "/inputs/0/data/0/1", 422},
                {FP32("[1,3]", "[1,2,3],\"data\":[1,2,3]"), "", 400},
                {FP32("[1,3]", "[1,2,3],\"y\":[1,2,3]"), "/inputs/0/y", 422},
                {"{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1,3],\"data\":"
                 "[1,2,3]}]}",
                 "/inputs/0/name", 422},
                {"{\"inputs\":[{\"name\":\"input\",\"datatype\":\"FP16\",\"shape\":[1,3],\"data\":"
                 "[1,2,3]}]}",
                 "/inputs/0/datatype", 422},
                {"{\"inputs\":[{\"name\":\"input\",\"datatype\":\"BYTES\",\"shape\":[1,3],\"data\":"
                 "[\"a\",\"b\",\"c\"]}]}",
                 "/inputs/0/datatype", 422},
                {"{\"inputs\":[{\"name\":\"input\",\"datatype\":\"UINT8\",\"shape\":[1,3],\"data\":"
                 "[1,2,300]}]}",
                 "/inputs/0/data/0/2", 422},
                {"{\"inputs\":[{\"name\":\"input\",\"datatype\":\"FP32\",\"shape\":[1,3]}]}",
                 "/inputs/0/data", 422},
        };
        for (size_t i = 0; i < sizeof tries / sizeof tries[0]; i++) {
                int status = ask("POST", INFER, tries[i].body);
                if (status != tries[i].status)
                        fail_msg("%d for %s: %s", status, tries[i].body, body_text(&got));
                assert_contains(&got, "{\"error\":");
                assert_contains(&got, tries[i].part);
        }
        assert_int_equal(ask("POST", "/v2/models/none/infer", "{"), 404);
        assert_int_equal(ask("POST", "/v2/models/digits/versions/7/infer", "{"), 404);
        assert_int_equal(ask("GET", INFER, NULL), 405);
}

static void texts_come_as_strings_or_raw_bytes(void **state)
{
        (void)state;
        static const char *const good[] = {
                "{\"inputs\":[{\"name\":\"input\",\"shape\":[2],\"datatype\":\"BYTES\",\"data\":"
                "[\"win!\",\"a\\u0021\"]}]}",
                "{\"inputs\":[{\"name\":\"input\",\"shape\":[2,1],\"datatype\":\"BYTES\",\"data\":"
                "[[\"win!\"],[\"!\"]]}]}",
        };
        for (size_t i = 0; i < 2; i++) {
                assert_int_equal(ask("POST", "/v2/models/texts/infer", good[i]), 200);
                assert_string_equal(json_string(item(json_get(output("label"), "data"), 1)),
                                    "spam");
        }
        static const char head[] = "{\"inputs\":[{\"name\":\"input\",\"shape\":[2,1],\"datatype\":"
                                   "\"BYTES\",\"parameters\":{\"binary_data_size\":13}}]}";
        static const uint8_t raw[] = "\2\0\0\0hi\3\0\0\0a!b";
        char header[64];
        uint8_t body[sizeof head - 1 + 13];
        snprintf(header, sizeof header, "Inference-Header-Content-Length: %zu\r\n",
                 sizeof head - 1);
        memcpy(body, head, sizeof head - 1);
        memcpy(body + sizeof head - 1, raw, 13);
        assert_int_equal(
                exchange(port, &got, "POST", "/v2/models/texts/infer", header, body, sizeof body),
                200);
        assert_string_equal(json_string(item(json_get(output("label"), "data"), 0)), "ham");
        assert_string_equal(json_string(item(json_get(output("label"), "data"), 1)), "spam");
        body[sizeof head - 1] = 3; /* now the elements do not end where the bytes do */
        assert_int_equal(
                exchange(port, &got, "POST", "/v2/models/texts/infer", header, body, sizeof body),
                422);
        static const char *const bad[] = {"[\"a\"]",
                                          "[\"a\",\"b\",\"c\"]",
                                          "[1,2]",
                                          "[[\"a\",\"b\"]]",
                                          "[[\"a\"],[[\"b\"]]]",
                                          "[\"a\",]",
                                          "[\"a\",\"\\ud800\"]"};
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
                char text[256];
                snprintf(text, sizeof text,
                         "{\"inputs\":[{\"name\":\"input\",\"shape\":[2,1],\"datatype\":"
                         "\"BYTES\",\"data\":%s}]}",
                         bad[i]);
                int status = ask("POST", "/v2/models/texts/infer", text);
                if (status != 422 && status != 400)
                        fail_msg("%d for %s", status, text);
        }
}

static void columns_come_as_texts(void **state)
{
        (void)state;
        assert_int_equal(ask("POST", "/v2/models/people/infer",
                             "{\"inputs\":[{\"name\":\"input\",\"shape\":[2,2],\"datatype\":"
                             "\"BYTES\",\"data\":[\"50\",\"clerk\",\"30\",\"x\"]}]}"),
                         200);
        assert_string_equal(json_string(item(json_get(output("label"), "data"), 0)), "spam");
        assert_string_equal(json_string(item(json_get(output("label"), "data"), 1)), "ham");
        assert_int_equal(ask("POST", "/v2/models/people/infer",
                             "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,2],\"datatype\":"
                             "\"BYTES\",\"data\":[\"old\",\"clerk\"]}]}"),
                         422);
        assert_contains(&got, "/columns/age");
}

#define V1(model) "/v1/models/" model ":predict"

static void v1_answers_with_predictions_alone(void **state)
{
        (void)state;
        static const struct {
                const char *target, *body, *want;
        } tries[] = {
                {V1("digits"), "{\"instances\": [[1,0,0], [2,0,0]]}",
                 "{\"predictions\":[\"o\\\"ne\",\"two\"]}"},
                {V1("digits"), "{\"instances\":[{\"features\":[2, 0,0]},{\"features\":[0,0,0]}]}",
                 "{\"predictions\":[\"two\",\"zero\"]}"},
                {V1("house"), "{\"instances\":[[3,0]]}", "{\"predictions\":[[3,3.5]]}"},
                {V1("price"), "{\"instances\":[[3],[1.25]]}", "{\"predictions\":[3,1.25]}"},
                {V1("texts"), "{\"instances\":[\"a\",\"b!\"]}",
                 "{\"predictions\":[\"ham\",\"spam\"]}"},
                {V1("texts"), "{\"instances\":[{\"text\":\"b!\"}]}",
                 "{\"predictions\":[\"spam\"]}"},
                {V1("people"),
                 "{\"instances\":[{\"columns\":{\"age\":41,\"job\":7}},"
                 "{\"columns\":{\"job\":null,\"age\":\"40\"}}]}",
                 "{\"predictions\":[\"spam\",\"ham\"]}"},
        };
        for (size_t i = 0; i < sizeof tries / sizeof tries[0]; i++) {
                assert_int_equal(ask("POST", tries[i].target, tries[i].body), 200);
                assert_string_equal(body_text(&got), tries[i].want);
        }
}

static void v1_errors_are_problems(void **state)
{
        (void)state;
        static const struct {
                const char *target, *body, *part;
                int status;
        } tries[] = {
                {V1("none"), "{}", "", 404},
                {V1("digits"), "{", "", 400},
                {V1("digits"), "[]", "", 422},
                {V1("digits"), "{}", "/instances", 422},
                {V1("digits"), "{\"instances\":[]}", "/instances", 422},
                {V1("digits"), "{\"instances\":7}", "/instances", 422},
                {V1("digits"), "{\"instances\":[7]}", "/instances", 422},
                {V1("digits"), "{\"instances\":[[1,2]]}", "/instances/0", 422},
                {V1("digits"), "{\"instances\":[[1,2,3],[1,2,3,4]]}", "/instances/1", 422},
                {V1("digits"), "{\"instances\":[[1,2,3],{\"features\":[1,2,3]}]}", "", 422},
                {V1("digits"), "{\"instances\":[{\"features\":[1,2,3]},[1,2,3]]}", "/instances/1",
                 422},
                {V1("digits"), "{\"instances\":[{\"features\":[1,2,3]},7]}", "/instances", 422},
                {V1("digits"), "{\"instances\":[{\"features\":0},{\"features\":[1,2,3]}]}",
                 "/instances/0/features", 422},
                {V1("digits"), "{\"instances\":[{\"features\":[1,2,3],\"x\":1}]}", "/instances/0/x",
                 422},
                {V1("digits"), "{\"instances\":[{\"features\":[1,2,\"3\"]}]}", "/instances/0", 422},
                {V1("digits"), "{\"instances\":[[1,2,NaN]]}", "/instances/0/2", 422},
                {V1("digits"), "{\"instances\":[[1,2,3]],\"more\":1}", "/more", 422},
                {V1("digits"), "{\"instances\":[[1,2,3]]}{}", "", 400},
                {V1("texts"), "{\"instances\":[[\"a\"]]}", "/instances", 422},
                {V1("texts"), "{\"instances\":[\"a\",{\"text\":1}]}", "/instances/1/text", 422},
                {V1("people"), "{\"instances\":[{\"columns\":{\"age\":1}}]}", "job", 422},
                {V1("people"), "{\"instances\":[{\"columns\":{\"age\":1,\"job\":\"x\",\"z\":1}}]}",
                 "/instances/0/columns", 422},
                {V1("people"), "{\"instances\":[{\"columns\":{\"age\":true,\"job\":\"x\"}}]}",
                 "/instances/0", 422},
                {V1("people"), "{\"instances\":[{\"columns\":{\"age\":\"old\",\"job\":\"x\"}}]}",
                 "/instances/0/columns/age", 422},
        };
        for (size_t i = 0; i < sizeof tries / sizeof tries[0]; i++) {
                int status = ask("POST", tries[i].target, tries[i].body);
                if (status != tries[i].status)
                        fail_msg("%d for %s: %s", status, tries[i].body, body_text(&got));
                assert_string_equal(header_of(&got, "Content-Type"), "application/problem+json");
                assert_contains(&got, tries[i].part);
        }
}

static void nothing_clean_is_503_with_advice_before_and_after_the_queue(void **state)
{
        (void)state;
        ready = false;
        assert_int_equal(ask("POST", INFER, FP32("[1,3]", "[1,2,3]")), 503);
        assert_string_equal(header_of(&got, "Retry-After"), "9");
        ready = true;
        lose_constituents = true;
        assert_int_equal(ask("POST", INFER, FP32("[1,3]", "[1,2,3]")), 503);
        assert_non_null(header_of(&got, "Retry-After"));
        assert_contains(&got, "gone meanwhile");
}

static void a_body_over_the_limit_is_refused(void **state)
{
        (void)state;
        char *body = malloc(100001);
        assert_non_null(body);
        memset(body, ' ', 100001);
        assert_int_equal(exchange(port, &got, "POST", INFER, NULL, body, 100000), 400);
        assert_int_equal(exchange(port, &got, "POST", INFER, NULL, body, 100001), 413);
        assert_contains(&got, "{\"error\":");
        free(body);
}

#define SERVED(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
        const struct CMUnitTest tests[] = {
                SERVED(the_server_and_its_models_describe_themselves),
                SERVED(health_is_told_by_the_status),
                SERVED(numbers_give_label_class_and_probabilities),
                SERVED(only_the_outputs_that_are_asked_for_come_and_in_that_order),
                SERVED(raw_tensors_go_both_ways),
                SERVED(binary_output_may_be_the_default_of_a_request),
                SERVED(raw_tensors_of_a_wrong_size_are_refused),
                SERVED(wrong_requests_say_what_is_wrong_and_where),
                SERVED(texts_come_as_strings_or_raw_bytes),
                SERVED(columns_come_as_texts),
                SERVED(v1_answers_with_predictions_alone),
                SERVED(v1_errors_are_problems),
                SERVED(nothing_clean_is_503_with_advice_before_and_after_the_queue),
                SERVED(a_body_over_the_limit_is_refused),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
