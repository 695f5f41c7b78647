/* SPDX-License-Identifier: Apache-2.0
 * replay.c: see replay.h. An auditor who has a data directory (or a copy of one shard's folder,
 * with the configuration) and a certificate: are these the rows that it commits to, and do they
 * make the bytes that it names? Nothing of the data directory is written. */
#include "cli/replay.h"

#include "cli/http.h"
#include "cli/table.h"
#include "cli/worker.h"
#include "lib/audit/certificate.h"
#include "lib/audit/dsse.h"
#include "lib/scan/scan.h"
#include "lib/sisa/replay.h"
#include "lib/util/file.h"
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct replaying {
        const struct replay_options *o;
        char data_dir[PATH_SIZE], worker[PATH_SIZE];
        uint8_t pseudonym_key[KEY_BYTES];
        struct certificate_read certificate;
        struct table table;
        struct buf json;
        struct json_writer w;
        uint32_t tried, wrong;
};

/* What the certificate says of one constituent. */
struct wanted {
        const char *model, *kernel;
        int64_t shard, slices, records;
        uint8_t file_hash[SHA256_BYTES], retained[SHA256_BYTES], config[SHA256_BYTES];
};

static bool take_digest(const struct json *object, const char *key, uint8_t out[SHA256_BYTES])
{
        const char *text = json_string(json_get(object, key));
        return text != NULL && strlen(text) == 2 * (size_t)SHA256_BYTES &&
               hex_decode(text, strlen(text), out, SHA256_BYTES) == SHA256_BYTES;
}

static bool take_wanted(const struct json *constituent, struct wanted *out)
{
        const struct json *after = json_get(constituent, "after");
        const struct json *retained = json_get(after, "retained");
        out->model = json_string(json_get(constituent, "model"));
        out->kernel = json_string(json_get(after, "kernel"));
        return out->model != NULL && model_name_valid(out->model, strlen(out->model)) &&
               json_integer(json_get(constituent, "shard"), 0, SHARDS_MAX - 1, &out->shard) &&
               json_integer(json_get(after, "slices"), 1, SLICES_TOTAL_MAX, &out->slices) &&
               json_integer(json_get(retained, "records"), 0, INT64_MAX, &out->records) &&
               take_digest(after, "sha256", out->file_hash) &&
               take_digest(after, "config_sha256", out->config) &&
               take_digest(retained, "sha256", out->retained);
}

/* --- the parts of a job --- */

static int find_config(const struct replaying *r, const struct wanted *x, struct model_config **out,
                       struct errinfo *e)
{
        struct buf text = {0};
        char path[PATH_SIZE];
        int err;
        if (r->o->config == NULL) {
                err = path_format(path, e, "%s/control.mdb", r->data_dir);
                return err == 0 ? scan_find_config(path, x->config, out, e) : err;
        }
        err = read_file(r->o->config, MODEL_CONFIG_BYTES_MAX, &text, e);
        if (err == 0)
                err = model_config_parse((const char *)text.data, text.len, out, e);
        if (err == 0 && memcmp((*out)->hash, x->config, SHA256_BYTES) != 0) {
                model_config_destroy(out);
                err = ul_fail(e, UL_CORRUPT,
                              "--config is not the configuration that the certificate names");
        }
        buf_free(&text, false);
        return err;
}

static int make_scratch(char out[PATH_SIZE], struct errinfo *e)
{
        const char *tmp = getenv("TMPDIR");
        int err = path_format(out, e, "%s/unlearnctl-replay-XXXXXX", tmp != NULL ? tmp : "/tmp");
        if (err == 0 && mkdtemp(out) == NULL) {
                err = ul_fail_errno(e, "making a scratch folder");
                out[0] = '\0';
        }
        return err;
}

/* Trains it again, in a scratch folder that is overwritten afterwards, also where Ctrl-C ends the
 * worker: the job holds a key. */
static int rebuild(const struct replaying *r, const struct wanted *x, struct job *j,
                   struct worker_result *out, struct errinfo *e)
{
        const char *kernel = x->kernel != NULL ? x->kernel : "";
        struct progress bar;
        struct errinfo why = {0};
        char path[PATH_SIZE] = "";
        sigset_t held, before;
        (void)sigemptyset(&held);
        (void)sigaddset(&held, SIGINT);
        (void)sigaddset(&held, SIGTERM);
        (void)sigaddset(&held, SIGHUP);
        (void)sigprocmask(SIG_BLOCK, &held, &before);
        int err = make_scratch(path, e);
        if (err != 0)
                goto out;
        memcpy(j->scratch, path, sizeof j->scratch);
        (void)snprintf(j->kernel, sizeof j->kernel, "%s", kernel);
        progress_begin(&bar, "training", 0);
        err = worker_run(r->worker, j, kernel, &bar, out, e);
        progress_end(&bar);
        if (err == 0 && out->slice != x->slices)
                err = ul_fail(e, UL_INTERNAL, "the worker did not train all slices");
        if (scrub_tree(path, &why) != 0)
                remark("%s is left: %s", path, why.detail);
out:
        (void)sigprocmask(SIG_SETMASK, &before, NULL);
        return err;
}

/* --- one constituent --- */

static void show(struct replaying *r, const struct wanted *x, const struct worker_result *got,
                 bool identical)
{
        char wanted[2 * SHA256_BYTES + 1], rebuilt[2 * SHA256_BYTES + 1];
        hex_encode(x->file_hash, SHA256_BYTES, wanted);
        hex_encode(got->file_hash, SHA256_BYTES, rebuilt);
        table_add(&r->table, x->model);
        table_add_format(&r->table, "%" PRId64, x->shard);
        table_add(&r->table, identical ? "yes" : "no");
        table_add(&r->table, wanted);
        table_add(&r->table, rebuilt);
        jw_object(&r->w);
        jw_member_string(&r->w, "model", x->model);
        jw_member_i64(&r->w, "shard", x->shard);
        jw_member_bool(&r->w, "identical", identical);
        jw_member_string(&r->w, "certificate_hash", wanted);
        jw_member_string(&r->w, "rebuilt_hash", rebuilt);
        jw_end_object(&r->w);
}

/* The commitment first: other records make other bytes, and that would prove nothing. */
static int replay_one(struct replaying *r, const struct wanted *x, struct errinfo *e)
{
        struct model_config *config = NULL;
        struct replay replay = {0};
        struct worker_result got = {0};
        char root[PATH_SIZE];
        int err = path_format(root, e, "%s/models/%s", r->data_dir, x->model);
        if (err == 0)
                err = find_config(r, x, &config, e);
        if (err == 0)
                err = replay_open(root, config, r->pseudonym_key, (uint32_t)x->shard,
                                  (uint32_t)x->slices, &replay, e);
        if (err == 0 && (replay.records != (uint64_t)x->records ||
                         memcmp(replay.retained, x->retained, SHA256_BYTES) != 0))
                err = ul_fail(e, UL_CONFLICT,
                              "retained: the shard does not hold the records that the certificate "
                              "commits to; it changed since, or this is another directory");
        if (err == 0)
                err = rebuild(r, x, replay.job, &got, e);
        if (err == 0) {
                bool same = memcmp(got.file_hash, x->file_hash, SHA256_BYTES) == 0;
                r->wrong += !same;
                show(r, x, &got, same);
        }
        replay_clear(&replay);
        return err;
}

static bool is_chosen(const struct text_list *shards, int64_t shard)
{
        for (size_t i = 0; i < shards->count; i++)
                if (strtol(shards->items[i], NULL, 10) == shard)
                        return true;
        return shards->count == 0;
}

static int replay_all(struct replaying *r, const char *model, const struct text_list *shards)
{
        const struct json *list = json_get(r->certificate.predicate, "constituents");
        const struct json *c = list != NULL ? json_first(list) : NULL;
        for (; c != NULL; c = json_next(c)) {
                struct errinfo e = {0};
                struct wanted x = {0};
                const char *outcome = json_string(json_get(c, "outcome"));
                if (outcome == NULL || strcmp(outcome, "retrained") != 0)
                        continue;
                if (!take_wanted(c, &x))
                        return complain("statement: a constituent is not in the form of one");
                if ((model != NULL && strcmp(model, x.model) != 0) || !is_chosen(shards, x.shard))
                        continue;
                r->tried++;
                if (replay_one(r, &x, &e) != 0)
                        return complain("%s, shard %" PRId64 ": %s", x.model, x.shard, e.detail);
        }
        if (r->tried == 0)
                return complain("the certificate names no such constituent that was retrained");
        return 0;
}

/* --- all of it --- */

static int read_certificate(struct replaying *r)
{
        struct errinfo e = {0};
        struct buf text = {0};
        struct note_key key;
        const struct replay_options *o = r->o;
        if (o->key != NULL && note_vkey_parse(o->key, strlen(o->key), &key, &e) != 0)
                return complain_usage("--key: %s", e.detail);
        int err = read_file(o->certificate, DSSE_BYTES_MAX, &text, &e);
        if (err == 0)
                err = certificate_open(text.data, text.len, o->key != NULL ? &key : NULL,
                                       &r->certificate, &e);
        buf_free(&text, false);
        if (err != 0)
                return e.field[0] != '\0' ? complain("%s: %s", e.field, e.detail)
                                          : complain_about(&e);
        if (o->key == NULL)
                remark("without --key it is not checked who signed the certificate");
        return 0;
}

static int read_pseudonym_key(struct replaying *r, struct errinfo *e)
{
        char path[PATH_SIZE];
        struct buf b = {0};
        int err = r->o->pseudonym_key != NULL
                          ? path_format(path, e, "%s", r->o->pseudonym_key)
                          : path_format(path, e, "%s/keys/pseudonym.key", r->data_dir);
        if (err == 0)
                err = read_file(path, KEY_BYTES + 1, &b, e);
        if (err == UL_NOT_FOUND)
                err = ul_fail(e, err,
                              "%.120s is not there: placement and training draw from it; give it "
                              "with --pseudonym-key",
                              path);
        else if (err == 0 && b.len != KEY_BYTES)
                err = ul_fail(e, UL_CORRUPT, "%.150s is not a key of %d bytes", path, KEY_BYTES);
        if (err == 0)
                memcpy(r->pseudonym_key, b.data, KEY_BYTES);
        buf_free(&b, true);
        return err;
}

static int begin(struct replaying *r)
{
        struct errinfo e = {0};
        char *real = realpath(r->o->data_dir, NULL);
        if (real == NULL)
                return complain("%s cannot be read", r->o->data_dir);
        int err = path_format(r->data_dir, &e, "%s", real);
        free(real);
        if (err == 0)
                err = worker_find(r->o->worker, r->worker, &e);
        if (err == 0)
                err = read_pseudonym_key(r, &e);
        return err == 0 ? 0 : complain_about(&e);
}

int replay_run(struct ctl *c, const struct replay_options *o, const char *model,
               const struct text_list *shards)
{
        static const char *const heads[] = {
                "model", "shard", "identical", "certificate_hash", "rebuilt_hash", NULL};
        struct replaying r = {.o = o};
        if (o->data_dir == NULL || o->certificate == NULL)
                return complain_usage("a replay needs --data-dir and --certificate");
        int status = read_certificate(&r);
        if (status == 0)
                status = begin(&r);
        table_begin(&r.table, heads);
        jw_init(&r.w, &r.json);
        jw_object(&r.w);
        jw_key(&r.w, "constituents");
        jw_array(&r.w);
        if (status == 0)
                status = replay_all(&r, model, shards);
        jw_end_array(&r.w);
        jw_end_object(&r.w);
        int printed = 0;
        if (c->json || status != 0)
                table_drop(&r.table);
        if (status == 0)
                printed = c->json ? print_json(&r.json) : table_print(&r.table, stdout);
        status = status != 0 ? status : printed;
        if (status == 0 && r.wrong > 0)
                status = complain("%u constituent%s: not the bytes that the certificate names",
                                  r.wrong, r.wrong == 1 ? "" : "s");
        buf_free(&r.json, false);
        certificate_clear(&r.certificate);
        wipe(r.pseudonym_key, sizeof r.pseudonym_key);
        return status;
}
