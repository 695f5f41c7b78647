/* SPDX-License-Identifier: Apache-2.0
 * audit_verify.c: the audit log, checked from outside: the checkpoint's signature, every leaf's
 * hash from the bytes of its entry, the root from all leaves, and that what was seen the last time
 * is still the beginning of it. The key and the last checkpoint are remembered by address: another
 * key or another history is refused. Offline the same is done to an export and a checkpoint, with
 * nothing but the key. Where witnesses are named, all of them must have cosigned one checkpoint
 * that the log goes on from. */
#include "cli/commands.h"
#include "cli/log_keys.h"
#include "cli/log_memory.h"
#include "cli/log_walk.h"
#include "cli/witnesses.h"
#include "lib/audit/tile.h"
#include "lib/util/file.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct verify_audit_options {
        const char *key, *offline, *checkpoint;
        struct text_list witnesses;
        struct count_option witness_max_age;
};
/* Of a cosignature: a log at rest is cosigned once a day. */
enum { WITNESS_AGE_DAYS = 2 };
#define AT(m) offsetof(struct verify_audit_options, m)
const struct option_spec audit_verify_options[] = {
        {"key", "VKEY", OPTION_TEXT, AT(key),
         "the log's key, as NAME+ID+KEY; anything else is refused"},
        {"offline", "FILE", OPTION_TEXT, AT(offline),
         "an export of the whole log (NDJSON); - is the standard input"},
        {"checkpoint", "FILE", OPTION_TEXT, AT(checkpoint),
         "with --offline: the signed checkpoint"},
        {"witness", "VKEY", OPTION_LIST, AT(witnesses),
         "a witness that must have cosigned it; may be given again"},
        {"witness-max-age", "DAYS", OPTION_COUNT, AT(witness_max_age),
         "how long ago at most; 2 by default"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t audit_verify_options_size = sizeof(struct verify_audit_options);

static uint64_t max_age(const struct verify_audit_options *o)
{
        return o->witness_max_age.given ? o->witness_max_age.value : WITNESS_AGE_DAYS;
}

/* --- the daemon's log --- */

/* How many entries were pruned: where the log begins. */
static int find_first(struct ctl *c, struct walk *w)
{
        struct http_answer a = {0};
        struct json *doc = NULL;
        int status = api_get(c, "/v1/audit?limit=1", &a, &doc);
        if (status == 0) {
                const struct json *first = json_first(json_get(doc, "items"));
                double index = first != NULL ? json_number(json_get(first, "index")) : 0;
                bool fits = index >= 0 && (index == 0 || index < (double)w->checkpoint.size);
                w->pruned = fits ? (uint64_t)index : 1;
                if (w->pruned % TILE_WIDTH != 0)
                        status = complain("the log does not begin where it may");
        }
        json_free(&doc);
        http_answer_free(&a);
        return status;
}

/* Their hashes, from the hash tiles: they have to make the signed root like all others. */
static int take_pruned(struct ctl *c, struct walk *w)
{
        int status = find_first(c, w);
        for (uint64_t i = 0; status == 0 && i < w->pruned; i += TILE_WIDTH) {
                const struct tile tile = {.index = i / TILE_WIDTH, .width = TILE_WIDTH};
                char name[TILE_PATH_SIZE], path[TILE_PATH_SIZE + 32];
                struct http_answer a = {0};
                (void)snprintf(path, sizeof path, "/v1/audit/tile/%s",
                               tile_path_format(&tile, name));
                const struct http_request r = {
                        .method = "GET", .path = path, .accept = "application/octet-stream"};
                status = api_call(c, &r, &a);
                if (status == 0 && a.body.len != (size_t)TILE_WIDTH * SHA256_BYTES)
                        status = complain("a tile of hashes is not whole");
                for (size_t k = 0; status == 0 && k < TILE_WIDTH; k++)
                        walk_leaf(w, a.body.data + k * SHA256_BYTES);
                http_answer_free(&a);
        }
        return status;
}

static int read_entries(struct ctl *c, struct walk *w)
{
        const struct http_request r = {.method = "GET",
                                       .path = "/v1/audit",
                                       .accept = "application/x-ndjson",
                                       .sink = walk_take,
                                       .arg = w};
        struct http_answer a = {0};
        walk_begin(w);
        int status = take_pruned(c, w);
        if (status == 0)
                status = api_call(c, &r, &a);
        http_answer_free(&a);
        int end = walk_end(w, status == 0);
        return status != 0 ? status : end;
}

/* What the log is held against. */
static const char *whence(const struct memory *m)
{
        return m->handed_over ? "that the pinned key handed over" : "seen before";
}

static int get_checkpoint(struct ctl *c, const struct note_key *key, const struct memory *m,
                          struct http_answer *note, struct walk *w)
{
        struct errinfo e = {0};
        http_answer_free(note);
        int status = get_text(c, "/v1/audit/checkpoint", note);
        if (status == 0 && checkpoint_verify((const char *)note->body.data, note->body.len, key,
                                             &w->checkpoint, &e) != 0)
                status = complain("the checkpoint: %s", e.detail);
        if (status == 0 && w->checkpoint.size < w->remembered)
                status = complain("the log has %" PRIu64 " entries, which is less than the %" PRIu64
                                  " %s: entries were taken away",
                                  w->checkpoint.size, w->remembered, whence(m));
        return status;
}

/* Entries were pruned, and no entry that the checkpoint covers says so. */
static bool unannounced(const struct walk *w)
{
        return w->pruned > 0 && !w->announced;
}

/* All entries, under the checkpoint that *note becomes. They may be pruned while they are read:
 * begins again, with a newer checkpoint, where the log begins later by now or tells of the pruning
 * after the checkpoint. */
static int check_entries(struct ctl *c, const struct note_key *key, const struct memory *m,
                         struct http_answer *note, struct walk *w)
{
        enum { TRIES = 8 };
        uint32_t pauses = 0;
        for (int i = 1;; i++) {
                const uint64_t gap = w->gap, size = w->checkpoint.size;
                int status = get_checkpoint(c, key, m, note, w);
                if (status != 0)
                        return status;
                status = read_entries(c, w);
                const bool later = w->gap > 0 && w->pruned >= gap;
                const bool longer = status == 0 && unannounced(w) && w->checkpoint.size > size;
                if (i < TRIES && (later || longer)) {
                        poll_pause(&pauses);
                        continue;
                }
                if (w->gap > 0)
                        return walk_complain_missing(w);
                if (status == 0 && unannounced(w))
                        status = complain("the first %" PRIu64
                                          " entries are not there, and the log does not say that "
                                          "they were pruned: they are withheld",
                                          w->pruned);
                return status;
        }
}

static int check_consistency(struct ctl *c, const struct memory *m, const struct walk *w)
{
        if (w->remembered == 0)
                return 0;
        int status = check_growth(c, &m->checkpoint, &w->checkpoint);
        if (status == UL_CORRUPT)
                return complain("the log does not go on from the %" PRIu64
                                " entries %s: its history was changed",
                                w->remembered, whence(m));
        if (status == 0 && memcmp(w->remembered_root, m->checkpoint.root, SHA256_BYTES) != 0)
                status = complain("the first %" PRIu64
                                  " entries are not those %s: the history was changed",
                                  w->remembered, whence(m));
        return status;
}

/* The tree that the witnesses cosigned is the beginning of this one. */
static int check_witnessed(struct ctl *c, const struct testimony *y, const struct note_key *key,
                           const struct checkpoint *head)
{
        if (y->count == 0)
                return 0;
        if (strcmp(y->head.origin, key->name) != 0)
                return complain("what the witnesses cosigned is of another log: %s",
                                y->head.origin);
        int status = check_growth(c, &y->head, head);
        return status == UL_CORRUPT
                       ? complain("the log does not go on from the %" PRIu64
                                  " entries that the witnesses have seen: they saw another history",
                                  y->head.size)
                       : status;
}

static void print_outcome(const struct ctl *c, const struct memory *m, const struct note_key *key,
                          const struct walk *w, const struct testimony *y)
{
        char vkey[NOTE_VKEY_SIZE], root[2 * SHA256_BYTES + 1];
        const uint64_t tail = walk_not_covered(w);
        note_vkey_format(key, vkey);
        hex_encode(w->checkpoint.root, SHA256_BYTES, root);
        if (!c->json) {
                (void)printf("entries      %" PRIu64 ", every one hashed again\n",
                             w->checkpoint.size - w->pruned);
                if (w->pruned > 0)
                        (void)printf("pruned       %" PRIu64
                                     " after their retention; their hashes make the root too\n",
                                     w->pruned);
                if (tail > 0)
                        (void)printf("not covered  %" PRIu64
                                     " after the checkpoint: nothing vouches for them\n",
                                     tail);
                (void)printf("checkpoint   size %" PRIu64 ", root %s, signature good\n",
                             w->checkpoint.size, root);
                (void)printf("key          %s\n", vkey);
                if (w->remembered > 0)
                        (void)printf("history      goes on from the %" PRIu64 " entries %s\n",
                                     w->remembered, whence(m));
                else if (m->path[0] != '\0')
                        (void)printf("history      seen for the first time; remembered in %s\n",
                                     m->path);
                testimony_print(y);
                (void)puts(tail > 0 ? "The log is whole as far as the checkpoint."
                                    : "The log is whole.");
                return;
        }
        struct buf out = {0};
        struct json_writer j;
        jw_init(&j, &out);
        jw_object(&j);
        jw_member_bool(&j, "verified", true);
        jw_member_u64(&j, "entries", w->checkpoint.size);
        jw_member_u64(&j, "pruned", w->pruned);
        jw_member_u64(&j, "not_covered", tail);
        jw_member_u64(&j, "size", w->checkpoint.size);
        jw_member_string(&j, "root", root);
        jw_member_string(&j, "key", vkey);
        jw_key(&j, "consistent_from");
        if (w->remembered > 0)
                jw_u64(&j, w->remembered);
        else
                jw_null(&j);
        jw_key(&j, "witnesses");
        testimony_write(y, &j);
        jw_end_object(&j);
        (void)print_json(&out);
        buf_free(&out, false);
}

static int verify_online(struct ctl *c, const struct verify_audit_options *o, struct testimony *y)
{
        struct http_answer note = {0};
        struct memory m = {.exists = false};
        struct note_key key;
        struct walk w = {.entries = 0};
        int status = memory_read(c, &m);
        if (status == 0)
                status = choose_key(c, o->key, &m, &key);
        if (status == 0)
                status = testimony_not_by(y, &key);
        if (status == 0) /* before the checkpoint, which then covers what they cosigned */
                status = testimony_fetch(c, y);
        if (status == 0)
                status = testimony_recent(y, max_age(o));
        w.remembered = m.exists ? m.checkpoint.size : 0;
        if (status == 0)
                status = check_entries(c, &key, &m, &note, &w);
        if (status == 0)
                status = check_consistency(c, &m, &w);
        if (status == 0)
                status = check_witnessed(c, y, &key, &w.checkpoint);
        if (status == 0)
                status = memory_write(c, &m, &key, &w.checkpoint, &note.body);
        if (status == 0)
                print_outcome(c, &m, &key, &w, y);
        buf_free(&w.line, false);
        http_answer_free(&note);
        return status;
}

/* --- an export --- */

static int read_export(const char *path, struct walk *w)
{
        char piece[32 * 1024];
        size_t n;
        bool ok = true;
        FILE *in = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
        if (in == NULL)
                return complain("%s cannot be read: %s", path, strerror(errno));
        walk_begin(w);
        while (ok && (n = fread(piece, 1, sizeof piece, in)) > 0)
                ok = walk_take(w, piece, n);
        int status = ok && ferror(in) ? complain("%s cannot be read", path) : 0;
        if (in != stdin)
                (void)fclose(in);
        int end = walk_end(w, ok && status == 0);
        if (w->gap > 0 && w->entries == 0)
                return complain("the export begins with entry %" PRIu64
                                ": the log was pruned after its retention, and an export has "
                                "no hashes of what was pruned. Verify it online: unlearnctl "
                                "audit verify --key VKEY",
                                w->gap);
        if (w->gap > 0)
                return walk_complain_missing(w);
        return ok && status == 0 ? end : EXIT_FAILED;
}

static int verify_offline(struct ctl *c, const struct verify_audit_options *o, struct testimony *y)
{
        struct errinfo e = {0};
        struct buf note = {0};
        struct note_key key;
        struct memory none = {.exists = false};
        struct walk w = {.entries = 0};
        if (o->key == NULL || o->checkpoint == NULL)
                return complain_usage("--offline needs --key VKEY and --checkpoint FILE");
        if (note_vkey_parse(o->key, strlen(o->key), &key, &e) != 0)
                return complain_usage("--key: %s", e.detail);
        int status = testimony_not_by(y, &key);
        if (status != 0)
                return status;
        if (read_file(o->checkpoint, NOTE_BYTES_MAX, &note, &e) != 0)
                status = complain_about(&e);
        else if (checkpoint_verify((const char *)note.data, note.len, &key, &w.checkpoint, &e) != 0)
                status = complain("the checkpoint: %s", e.detail);
        if (status == 0)
                status = testimony_take(y, note.data, note.len);
        if (status == 0)
                status = testimony_recent(y, max_age(o));
        if (status == 0)
                status = read_export(o->offline, &w);
        if (status == 0)
                print_outcome(c, &none, &key, &w, y);
        buf_free(&w.line, false);
        buf_free(&note, false);
        return status;
}

int audit_verify_run(struct ctl *c, const struct operands *in, const void *options)
{
        const struct verify_audit_options *o = options;
        struct testimony y;
        (void)in;
        int status = testimony_begin(&o->witnesses, &y);
        if (status == 0 && o->offline == NULL && o->checkpoint != NULL)
                status = complain_usage("--checkpoint goes with --offline");
        if (status == 0 && o->witness_max_age.given && o->witnesses.count == 0)
                status = complain_usage("--witness-max-age goes with --witness");
        if (status == 0)
                status = o->offline != NULL ? verify_offline(c, o, &y) : verify_online(c, o, &y);
        testimony_clear(&y);
        return status;
}
