/* SPDX-License-Identifier: Apache-2.0
 * certificate.c: an erasure's certificate and the proof that the log records it: fetched and
 * checked before they are written, or checked as files that came from anywhere. */
#include "lib/audit/certificate.h"
#include "cli/commands.h"
#include "cli/log_keys.h"
#include "cli/log_memory.h"
#include "cli/table.h"
#include "cli/witnesses.h"
#include "lib/audit/certificate_page.h"
#include "lib/audit/dsse.h"
#include "lib/audit/proof.h"
#include "lib/util/file.h"
#include <inttypes.h>
#include <string.h>
#include <strings.h>

struct certificate_options {
        const char *output, *proof, *html, *verify, *key;
        struct text_list witnesses;
};
#define AT(m) offsetof(struct certificate_options, m)
const struct option_spec certificate_options[] = {
        {"output", "FILE", OPTION_TEXT, AT(output), "write the signed envelope there (also -o)"},
        {"proof", "FILE", OPTION_TEXT, AT(proof),
         "write the tlog-proof there; with --verify: check it"},
        {"html", "FILE", OPTION_TEXT, AT(html),
         "write the page for people there, made of what was checked"},
        {"verify", "FILE", OPTION_TEXT, AT(verify), "check this certificate, offline"},
        {"key", "VKEY", OPTION_TEXT, AT(key),
         "the log's key, as NAME+ID+KEY; anything else is refused"},
        {"witness", "VKEY", OPTION_LIST, AT(witnesses),
         "a witness that must have cosigned the proof's log; may be given again"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t certificate_options_size = sizeof(struct certificate_options);

/* What was checked. */
struct outcome {
        struct certificate_read c;
        struct note_key key;
        struct checkpoint log; /* the proof's; size 0: no proof was given */
        struct testimony y;    /* of the witnesses that were asked for */
};

/* "error: inclusion: ..." */
static int complain_check(const struct errinfo *e)
{
        return e->field[0] != '\0' ? complain("%s: %s", e->field, e->detail) : complain_about(e);
}

static int check_envelope(struct outcome *o, const struct buf *envelope)
{
        struct errinfo e = {0};
        return certificate_open(envelope->data, envelope->len, &o->key, &o->c, &e) == 0
                       ? 0
                       : complain_check(&e);
}

/* proof: NULL where there is none. */
static int check_proof(struct outcome *o, const struct buf *proof)
{
        struct errinfo e = {0};
        if (proof == NULL)
                return o->y.count == 0 ? 0
                                       : complain("checkpoint: without a proof there is nothing "
                                                  "that witnesses could have cosigned");
        if (certificate_check_proof(&o->c, proof->data, proof->len, &o->key, &o->log, &e) != 0)
                return complain_check(&e);
        return o->y.count > 0 ? testimony_take_proof(&o->y, proof) : 0;
}

/* --- what is shown --- */

static void print_member(const struct json *p, const char *key, const char *head)
{
        const char *text = json_string(json_get(p, key));
        (void)printf("%-12s ", head);
        print_text(stdout, text != NULL ? text : "-");
        (void)putchar('\n');
}

static void print_number(const struct json *p, const char *key, const char *head)
{
        int64_t v = 0;
        if (json_integer(json_get(p, key), 0, INT64_MAX, &v))
                (void)printf("%-12s %" PRId64 "\n", head, v);
}

static void print_outcome(const struct outcome *o)
{
        const struct json *p = o->c.predicate;
        char vkey[NOTE_VKEY_SIZE];
        print_member(p, "erasure", "erasure");
        print_member(p, "reference", "reference");
        print_member(p, "regulation", "regulation");
        print_number(p, "matched", "records");
        print_number(p, "checkpoints_destroyed", "checkpoints");
        print_member(p, "guarantee", "guarantee");
        print_member(p, "forgotten_at", "forgotten");
        print_member(p, "scrubbed_at", "scrubbed");
        print_member(p, "completed_at", "completed");
        (void)printf("%-12s good, by %s\n", "signature", note_vkey_format(&o->key, vkey));
        if (o->log.size > 0)
                (void)printf("%-12s entry %" PRIu64 " of the log of %" PRIu64
                             " entries records this certificate\n",
                             "proof", o->c.log_index, o->log.size);
        else
                (void)printf("%-12s none was given: that the log records it was not checked\n",
                             "proof");
        testimony_print(&o->y);
}

static int print_verdict(const struct outcome *o)
{
        struct buf out = {0};
        struct json_writer w;
        char vkey[NOTE_VKEY_SIZE];
        jw_init(&w, &out);
        jw_object(&w);
        jw_member_bool(&w, "verified", true);
        jw_member_string(&w, "erasure", o->c.erasure);
        jw_member_string(&w, "key", note_vkey_format(&o->key, vkey));
        jw_member_u64(&w, "log_index", o->c.log_index);
        jw_member_bool(&w, "proof_checked", o->log.size > 0);
        jw_key(&w, "log_size");
        if (o->log.size > 0)
                jw_u64(&w, o->log.size);
        else
                jw_null(&w);
        jw_key(&w, "witnesses");
        testimony_write(&o->y, &w);
        jw_key(&w, "predicate");
        json_copy(&w, o->c.predicate);
        jw_end_object(&w);
        int status = print_json(&out);
        buf_free(&out, false);
        return status;
}

/* --- files --- */

static int verify_files(const struct ctl *c, const struct certificate_options *o)
{
        struct errinfo e = {0};
        struct buf envelope = {0}, proof = {0};
        struct outcome out = {.log.size = 0};
        int status = 0;
        if (o->key == NULL)
                return complain_usage("--verify needs the log's key: --key VKEY");
        if (o->output != NULL || o->html != NULL)
                return complain_usage("--verify writes nothing: leave --output and --html out");
        if (note_vkey_parse(o->key, strlen(o->key), &out.key, &e) != 0)
                return complain_usage("--key: %s", e.detail);
        if (o->witnesses.count > 0 && o->proof == NULL)
                return complain_usage("--witness looks at the proof: --proof FILE");
        status = testimony_begin(&o->witnesses, &out.y);
        if (status == 0)
                status = testimony_not_by(&out.y, &out.key);
        if (status == 0 &&
            (read_file(o->verify, DSSE_BYTES_MAX, &envelope, &e) != 0 ||
             (o->proof != NULL && read_file(o->proof, TLOG_PROOF_BYTES_MAX, &proof, &e) != 0)))
                status = complain_about(&e);
        if (status == 0)
                status = check_envelope(&out, &envelope);
        if (status == 0)
                status = check_proof(&out, o->proof != NULL ? &proof : NULL);
        if (status == 0 && c->json)
                status = print_verdict(&out);
        else if (status == 0)
                print_outcome(&out);
        testimony_clear(&out.y);
        certificate_clear(&out.c);
        buf_free(&proof, false);
        buf_free(&envelope, false);
        return status;
}

/* --- the daemon --- */

static int get_certificate(struct ctl *c, const char *id, struct http_answer *a)
{
        struct buf path = {0};
        buf_append_str(&path, "/v1/erasures/");
        path_escape(&path, id);
        buf_append_str(&path, "/certificate");
        const char *text = path_text(&path);
        const struct http_request r = {.method = "GET", .path = text, .accept = "application/json"};
        int status = text != NULL ? api_call(c, &r, a) : EXIT_FAILED;
        buf_free(&path, false);
        return status;
}

/* The daemon says that the entry was pruned: then the log begins after it. */
static int check_pruned(struct ctl *c, uint64_t index)
{
        struct http_answer a = {0};
        struct json *doc = NULL;
        int64_t first = 0;
        int status = api_get(c, "/v1/audit?limit=1&order=asc", &a, &doc);
        const struct json *entry = status == 0 ? json_first(json_get(doc, "items")) : NULL;
        if (status == 0 &&
            (entry == NULL || !json_integer(json_get(entry, "index"), 0, INT64_MAX, &first) ||
             (uint64_t)first <= index))
                status = complain("the daemon gives no proof, as if entry %" PRIu64
                                  " were pruned, but the log begins before it: the proof is "
                                  "withheld",
                                  index);
        json_free(&doc);
        http_answer_free(&a);
        return status;
}

/* *pruned: the log has the entry's hash alone, which is no reason to have no certificate. */
static int get_proof(struct ctl *c, const char *id, const struct certificate_options *o,
                     uint64_t index, struct http_answer *a, bool *pruned)
{
        struct buf path = {0};
        buf_append_str(&path, "/v1/erasures/");
        path_escape(&path, id);
        buf_append_str(&path, o->witnesses.count > 0 ? "/proof?cosigned=true" : "/proof");
        const char *text = path_text(&path);
        const struct http_request r = {.method = "GET", .path = text, .accept = "text/plain"};
        int status = text != NULL ? http_call(c, &r, a) : EXIT_FAILED;
        *pruned = status == 0 && a->status == 410 && o->proof == NULL;
        if (status == 0 && !*pruned && a->status / 100 != 2)
                status = api_complain(a);
        if (*pruned)
                status = check_pruned(c, index);
        if (*pruned && status == 0)
                remark("the log entry was pruned after its retention: there is no proof any more, "
                       "and that the log records the certificate was not checked");
        buf_free(&path, false);
        return status;
}

/* The log of the proof is the one that was seen, or that the pinned key handed over. */
static int check_same_log(struct ctl *c, const struct memory *m, const struct checkpoint *log)
{
        if (!m->exists || log->size == 0)
                return 0;
        const bool later = log->size >= m->checkpoint.size;
        int status = check_growth(c, later ? &m->checkpoint : log, later ? log : &m->checkpoint);
        return status == UL_CORRUPT
                       ? complain(
                                 "checkpoint: the log of the proof does not go on from the one %s: "
                                 "its history was changed",
                                 m->handed_over ? "that the pinned key handed over" : "seen before")
                       : status;
}

/* From the statement that was checked: what the daemon would send as a page nobody signed. */
static int write_page(const struct outcome *out, const char *path)
{
        struct buf page = {0};
        char vkey[NOTE_VKEY_SIZE];
        int err = certificate_page(&out->c.statement, note_vkey_format(&out->key, vkey), &page);
        int status = err == 0          ? write_output(path, &page)
                     : err == UL_NOMEM ? complain_memory()
                                       : complain("statement: no page can be made of it");
        buf_free(&page, false);
        return status;
}

static int write_files(const struct certificate_options *o, const struct outcome *out,
                       const struct buf *envelope, const struct buf *proof)
{
        int status = o->output != NULL ? write_output(o->output, envelope) : 0;
        if (status == 0 && o->proof != NULL)
                status = write_output(o->proof, proof);
        if (status == 0 && o->html != NULL)
                status = write_page(out, o->html);
        return status;
}

static bool to_stdout(const char *path)
{
        return path != NULL && strcmp(path, "-") == 0;
}

static int fetch(struct ctl *c, const struct certificate_options *o, const char *id)
{
        struct http_answer envelope = {0}, proof = {0};
        struct memory m = {.exists = false};
        struct outcome out = {.log.size = 0};
        bool pruned = false;
        int status = testimony_begin(&o->witnesses, &out.y);
        if (status == 0)
                status = memory_read(c, &m);
        if (status == 0)
                status = choose_key(c, o->key, &m, &out.key);
        if (status == 0)
                status = testimony_not_by(&out.y, &out.key);
        if (status == 0)
                status = get_certificate(c, id, &envelope);
        if (status == 0)
                status = check_envelope(&out, &envelope.body);
        if (status == 0 && strcasecmp(out.c.erasure, id) != 0) /* ULIDs have no case */
                status = complain("statement: the certificate is of another erasure");
        if (status == 0)
                status = get_proof(c, id, o, out.c.log_index, &proof, &pruned);
        if (status == 0)
                status = check_proof(&out, pruned ? NULL : &proof.body);
        if (status == 0)
                status = check_same_log(c, &m, &out.log);
        if (status == 0)
                status = write_files(o, &out, &envelope.body, &proof.body);
        const bool busy = to_stdout(o->output) || to_stdout(o->html) || to_stdout(o->proof);
        if (status == 0 && c->json && o->output == NULL)
                status = print_json(&envelope.body);
        else if (status == 0 && c->json && !busy)
                status = print_verdict(&out);
        else if (status == 0 && !c->json && !busy)
                print_outcome(&out);
        testimony_clear(&out.y);
        certificate_clear(&out.c);
        http_answer_free(&proof);
        http_answer_free(&envelope);
        return status;
}

int certificate_run(struct ctl *c, const struct operands *in, const void *options)
{
        const struct certificate_options *o = options;
        if ((o->verify != NULL) == (in->count == 1))
                return complain_usage("give the ID of an erasure, or --verify FILE");
        return o->verify != NULL ? verify_files(c, o) : fetch(c, o, in->items[0]);
}
