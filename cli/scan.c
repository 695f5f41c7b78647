/* SPDX-License-Identifier: Apache-2.0
 * scan.c: is anything left of people? The only command that opens a data directory: offline, for
 * auditors, without the daemon and without its database. What is found is told by file and offset;
 * ids and texts are never repeated, a person is called by their place on the command line or in
 * the file. */
#include "cli/commands.h"

#include "cli/scan_records.h"
#include "cli/table.h"
#include "lib/util/file.h"
#include <stdlib.h>
#include <string.h>

enum { FOUND_NOTHING = 0, FOUND_TRACES = 1, COULD_NOT_LOOK = 2 };

struct scan_options {
        const char *data_dir, *key, *record_file;
        struct text_list subjects, records, images;
        struct scan_columns columns;
        bool explained;
};
#define IN(member) offsetof(struct scan_options, member)
const struct option_spec scan_options[] = {
        {"data-dir", "DIR", OPTION_TEXT, IN(data_dir), "the daemon's data directory, or a copy"},
        {"image", "FILE", OPTION_LIST, IN(images),
         "any file or block device: a disk's image, a log, a backup"},
        {"key", "FILE", OPTION_TEXT, IN(key), "pseudonym key (DIR/keys/pseudonym.key)"},
        {"subject", "S", OPTION_LIST, IN(subjects), "id of a subject"},
        {"record", "R", OPTION_LIST, IN(records), "id of a record"},
        {"record-file", "FILE", OPTION_TEXT, IN(record_file),
         "records as they were loaded: NDJSON or CSV, plain, gzip or zstd; - is standard input"},
        {"id", "COLUMN", OPTION_TEXT, IN(columns.id),
         "column of the record's id in a CSV (id; else row-0, row-1, ...)"},
        {"subject-column", "COLUMN", OPTION_TEXT, IN(columns.subject),
         "column of the subject's id (subject)"},
        {"label", "COLUMN", OPTION_TEXT, IN(columns.label), "column of the label (label)"},
        {"text", "COLUMN", OPTION_TEXT, IN(columns.text), "column of the text (text)"},
        {"explained", NULL, OPTION_FLAG, IN(explained),
         "list also what was found and is no trace, and why"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t scan_options_size = sizeof(struct scan_options);

/* --- telling --- */

struct report {
        bool json, explained;
        struct buf findings, unsearchable, unread; /* members of arrays, joined by commas */
};

static struct json_writer member_of(struct buf *list)
{
        struct json_writer w;
        if (list->len > 0)
                buf_append(list, ",", 1);
        jw_init(&w, list);
        jw_object(&w);
        return w;
}

static void on_found(void *arg, const struct scan_finding *f)
{
        struct report *r = arg;
        if (!f->trace && !r->explained)
                return;
        if (r->json) {
                struct json_writer w = member_of(&r->findings);
                jw_member_bool(&w, "trace", f->trace);
                jw_member_string(&w, "kind", scan_kind_name(f->kind));
                jw_member_string(&w, "of", f->who);
                jw_member_string(&w, "what", f->what);
                jw_member_string(&w, "path", f->path);
                jw_member_bool(&w, "in_name", f->in_name);
                jw_member_u64(&w, "offset", f->offset);
                jw_end_object(&w);
                return;
        }
        (void)printf("%-9s %-10s ", f->trace ? "trace" : "explained", scan_kind_name(f->kind));
        print_text(stdout, f->path);
        if (f->in_name)
                (void)printf(", the name of a file in it: %s", f->what);
        else
                (void)printf(" at %llu: %s", (unsigned long long)f->offset, f->what);
        (void)printf(f->who[0] != '\0' ? " (%s)\n" : "%s\n", f->who);
}

static void on_unsearchable(void *arg, const char *who, const char *why)
{
        struct report *r = arg;
        if (r->json) {
                struct json_writer w = member_of(&r->unsearchable);
                jw_member_string(&w, "of", who);
                jw_member_string(&w, "why", why);
                jw_end_object(&w);
                return;
        }
        (void)printf("not searchable: %s: %s\n", who, why);
}

static void on_unread(void *arg, const char *path, const char *why)
{
        struct report *r = arg;
        if (r->json) {
                struct json_writer w = member_of(&r->unread);
                jw_member_string(&w, "path", path);
                jw_member_string(&w, "why", why);
                jw_end_object(&w);
        }
        (void)complain("%s: not read: %s", path, why);
}

static void list(struct json_writer *w, const char *key, const struct buf *members)
{
        jw_key(w, key);
        jw_array(w);
        if (members->len > 0)
                jw_raw(w, (const char *)members->data, members->len);
        jw_end_array(w);
}

static void count(struct json_writer *w, const char *key, uint64_t n)
{
        jw_member_u64(w, key, n);
}

static int print_json(const struct report *r, const struct scan_totals *t)
{
        struct buf out = {0};
        struct json_writer w;
        jw_init(&w, &out);
        jw_object(&w);
        jw_member_bool(&w, "clean", t->traces == 0 && t->unread == 0);
        count(&w, "traces", t->traces);
        count(&w, "explained", t->explained);
        count(&w, "files", t->files);
        count(&w, "bytes", t->bytes);
        count(&w, "checkpoints", t->checkpoints);
        list(&w, "findings", &r->findings);
        list(&w, "not_searchable", &r->unsearchable);
        list(&w, "not_read", &r->unread);
        jw_end_object(&w);
        const bool failed =
                out.failed || r->findings.failed || r->unsearchable.failed || r->unread.failed;
        if (!failed)
                (void)printf("%.*s\n", (int)out.len, (const char *)out.data);
        buf_free(&out, false);
        return failed ? complain_memory() : 0;
}

static void print_summary(const struct scan_totals *t)
{
        (void)printf("%llu files, %llu bytes, %llu checkpoints: ", (unsigned long long)t->files,
                     (unsigned long long)t->bytes, (unsigned long long)t->checkpoints);
        (void)printf("%llu traces, %llu explained, %llu not searchable, %llu not read\n",
                     (unsigned long long)t->traces, (unsigned long long)t->explained,
                     (unsigned long long)t->unsearchable, (unsigned long long)t->unread);
}

/* --- the key --- */

/* 0 and *have, or a status (told). */
static int read_key(const struct scan_options *o, uint8_t key[KEY_BYTES], bool *have)
{
        char path[PATH_SIZE];
        struct errinfo e = {0};
        struct buf b = {0};
        *have = false;
        int err = 0;
        if (o->key == NULL && o->data_dir == NULL)
                return 0;
        if (o->key != NULL)
                err = path_format(path, &e, "%s", o->key);
        else
                err = path_format(path, &e, "%s/keys/pseudonym.key", o->data_dir);
        if (err == 0)
                err = read_file(path, KEY_BYTES + 1, &b, &e);
        if (err == 0 && b.len != KEY_BYTES)
                err = ul_fail(&e, UL_INVALID, "%s is no pseudonym key: want %d bytes", path,
                              KEY_BYTES);
        if (err == 0) {
                memcpy(key, b.data, KEY_BYTES);
                *have = true;
        }
        buf_free(&b, true);
        if (err == UL_NOT_FOUND && o->key == NULL) {
                remark("without the key (--key FILE) no pseudonyms are looked for, nor rows by "
                       "their subject");
                return 0;
        }
        if (err == 0)
                return 0;
        (void)complain_about(&e);
        return COULD_NOT_LOOK;
}

/* --- the search --- */

static int fail(const struct errinfo *e)
{
        (void)complain_about(e);
        return COULD_NOT_LOOK;
}

static int take_people(const struct scan_options *o, struct scan *scan)
{
        struct errinfo e = {0};
        char who[SCAN_WHO_MAX];
        int err = 0;
        for (size_t i = 0; i < o->subjects.count && err == 0; i++) {
                (void)snprintf(who, sizeof who, "subject %zu", i + 1);
                err = scan_subject(scan, o->subjects.items[i], strlen(o->subjects.items[i]), who,
                                   &e);
        }
        for (size_t i = 0; i < o->records.count && err == 0; i++) {
                (void)snprintf(who, sizeof who, "record %zu", i + 1);
                err = scan_record(scan, o->records.items[i], strlen(o->records.items[i]), who, &e);
        }
        if (err != 0)
                return fail(&e);
        return o->record_file != NULL ? scan_records_read(o->record_file, &o->columns, scan) : 0;
}

static int look(const struct scan_options *o, struct scan *scan)
{
        struct errinfo e = {0};
        int err = o->data_dir != NULL ? scan_directory(scan, &e) : 0;
        for (size_t i = 0; i < o->images.count && err == 0; i++)
                err = scan_image(scan, o->images.items[i], &e);
        return err == 0 ? 0 : fail(&e);
}

static int conclude(const struct report *r, const struct scan_totals *t)
{
        if (!r->json)
                print_summary(t);
        else if (print_json(r, t) != 0)
                return COULD_NOT_LOOK;
        if (t->traces > 0)
                return FOUND_TRACES;
        return t->unread > 0 ? COULD_NOT_LOOK : FOUND_NOTHING;
}

int scan_run(struct ctl *c, const struct operands *in, const void *options)
{
        const struct scan_options *o = options;
        struct report r = {.json = c->json, .explained = o->explained};
        const struct scan_events events = {on_found, on_unsearchable, on_unread, &r};
        struct scan *scan = NULL;
        struct errinfo e = {0};
        uint8_t key[KEY_BYTES];
        bool have_key;
        (void)in;
        if (o->data_dir == NULL && o->images.count == 0)
                return complain_usage("scan needs --data-dir DIR or --image FILE");
        int status = read_key(o, key, &have_key);
        if (status == 0 && scan_create(o->data_dir, have_key ? key : NULL, &events, &scan, &e) != 0)
                status = fail(&e);
        if (status == 0)
                status = take_people(o, scan);
        if (status == 0)
                status = look(o, scan);
        if (status == 0)
                status = conclude(&r, scan_totals(scan));
        scan_destroy(&scan);
        wipe(key, sizeof key);
        buf_free(&r.findings, false);
        buf_free(&r.unsearchable, false);
        buf_free(&r.unread, false);
        return status;
}
