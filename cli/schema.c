/* SPDX-License-Identifier: Apache-2.0
 * schema.c: see schema.h. Two passes over the file: one tells numbers from words, one counts the
 * values of the words. Whether a value is common is counted by people (the subject column, else
 * the id, else rows) up to ten and no further. It talks to nobody. */
#include "cli/schema.h"

#include "cli/source.h"
#include "lib/util/limits.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
        COMMON = 10,          /* people that must share a value */
        VALUES_MAX = 1 << 16, /* distinct values that are looked at in a column */
        LABELS_MAX = 100,
        REGRESSION_OVER = 20, /* distinct numbers in a label: more are a quantity, not a class */
        PEEK = 64 * 1024,
};

struct value {
        char *text;
        uint64_t rows;
        uint32_t people;
        uint64_t seen[COMMON]; /* hashes of the people, [people] */
};
struct column {
        char *name;
        bool is_label, left_out;
        bool words; /* else numbers */
        uint64_t missing, present;
        struct value *values; /* a hash table of `slots` */
        size_t slots, count;
        bool crowded; /* more than VALUES_MAX */
};
struct table_scan {
        const struct schema_request *request;
        struct csv_options csv;
        size_t count, person; /* person: its column, or count for rows */
        size_t label;
        struct column *columns; /* [count] */
        uint64_t ragged;
};

/* --- reading --- */

static int read_source(void *arg, void *out, size_t cap, size_t *len, struct errinfo *e)
{
        return source_read(arg, out, cap, len, e);
}

static int pick_delimiter(struct table_scan *t, struct source *s, struct errinfo *e)
{
        const char *wanted = t->request->file.delimiter, *quotes = t->request->file.quotes;
        char *text = malloc(PEEK);
        size_t len = 0;
        if (text == NULL)
                return ul_fail(e, UL_NOMEM, "no memory to read a file");
        int err = source_peek(s, text, PEEK, &len, e);
        if (err == 0 && (wanted == NULL || strcmp(wanted, "auto") == 0))
                t->csv.delimiter = csv_delimiter(text, len);
        else if (err == 0)
                t->csv.delimiter = strcmp(wanted, "tab") == 0 ? '\t' : wanted[0];
        t->csv.quotes = quotes != NULL ? strcmp(quotes, "no") != 0 : t->csv.delimiter != '\t';
        free(text);
        return err;
}

/* One pass: the header to `head`, every whole row to `row`. */
static int scan(struct table_scan *t, int (*head)(struct table_scan *t, const struct csv_record *r),
                int (*row)(struct table_scan *t, const struct csv_record *r, uint64_t number))
{
        struct errinfo e = {0};
        struct source *s = NULL;
        struct csv *csv = NULL;
        struct csv_record r;
        const char *path = t->request->path;
        int status = 0, n = 0;
        if (source_open(path, &s, &e) != 0)
                return complain_about(&e);
        if (pick_delimiter(t, s, &e) != 0 || csv_open(read_source, s, &t->csv, &csv, &e) != 0) {
                status = complain("%s: %s", path, e.detail);
                goto out;
        }
        n = csv_next(csv, &r, &e);
        if (n == 1 && head != NULL)
                status = head(t, &r);
        for (uint64_t number = 0; n == 1 && status == 0;) {
                n = csv_next(csv, &r, &e);
                if (n == 1 && r.count == t->count)
                        status = row(t, &r, number++);
                else if (n == 1 && !(r.count == 1 && r.fields[0].len == 0) && head != NULL)
                        t->ragged++;
        }
        if (n < 0)
                status = complain("%s: %s", path, e.detail);
        else if (status == 0 && t->count == 0)
                status = complain("%s is empty", path);
out:
        csv_close(&csv);
        source_close(&s);
        return status;
}

/* --- first pass: names and types --- */

static bool is_missing(const struct csv_field *f)
{
        static const char *const marks[] = {"", "?", "NA", "N/A", "NaN", "nan", "null", "NULL"};
        for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
                if (strlen(marks[i]) == f->len && memcmp(marks[i], f->text, f->len) == 0)
                        return true;
        return false;
}

static int find_column(const struct table_scan *t, const char *option, const char *name,
                       size_t *out)
{
        *out = t->count;
        for (size_t i = 0; name != NULL && i < t->count; i++)
                if (strcmp(t->columns[i].name, name) == 0)
                        *out = i;
        if (name != NULL && *out == t->count)
                return complain("%s has no column \"%s\", which --%s names", t->request->path, name,
                                option);
        return 0;
}

static int take_header(struct table_scan *t, const struct csv_record *r)
{
        const struct file_options *o = &t->request->file;
        size_t id = 0, subject = 0, likelihood = 0;
        t->columns = calloc(r->count, sizeof *t->columns);
        if (t->columns == NULL)
                return complain_memory();
        t->count = r->count;
        for (size_t i = 0; i < r->count; i++) {
                const struct csv_field *f = &r->fields[i];
                t->columns[i].name = strndup(f->text, f->len);
                if (t->columns[i].name == NULL)
                        return complain_memory();
                if (!is_plain_text(f->text, f->len) || f->len == 0 || f->len > COLUMN_NAME_MAX)
                        return complain("%s: the name of column %zu is no text of 1 to %d bytes",
                                        t->request->path, i + 1, (int)COLUMN_NAME_MAX);
                for (size_t k = 0; k < i; k++)
                        if (strcmp(t->columns[k].name, t->columns[i].name) == 0)
                                return complain("%s has two columns \"%s\"", t->request->path,
                                                t->columns[i].name);
        }
        if (find_column(t, "id", o->id, &id) || find_column(t, "subject", o->subject, &subject) ||
            find_column(t, "label", o->label, &t->label) ||
            find_column(t, "likelihood", o->likelihood, &likelihood))
                return EXIT_FAILED;
        t->person = subject < t->count ? subject : id;
        for (size_t i = 0; i < t->count; i++) {
                struct column *c = &t->columns[i];
                const char *name = c->name;
                c->is_label = i == t->label;
                c->left_out = i == id || i == subject || i == likelihood;
                /* the daemon's own names for what is no column */
                if (!c->is_label && (strcmp(name, "id") == 0 || strcmp(name, "subject") == 0 ||
                                     strcmp(name, "erasure_likelihood") == 0))
                        c->left_out = true;
                if (!c->is_label && strcmp(name, "label") == 0)
                        return complain("column \"label\" is not the label: rename it");
                if (t->person == t->count && strcmp(name, "subject") == 0)
                        t->person = i;
        }
        return 0;
}

static int type_row(struct table_scan *t, const struct csv_record *r, uint64_t number)
{
        (void)number;
        for (size_t i = 0; i < t->count; i++) {
                double value = 0;
                struct column *c = &t->columns[i];
                if (is_missing(&r->fields[i])) {
                        c->missing++;
                        continue;
                }
                c->present++;
                if (!c->words && !is_number_text(r->fields[i].text, r->fields[i].len, &value))
                        c->words = true;
        }
        return 0;
}

/* --- second pass: values --- */

static uint64_t hash_text(const char *text, size_t len)
{
        uint64_t h = 14695981039346656037u; /* FNV-1a */
        for (size_t i = 0; i < len; i++)
                h = (h ^ (uint8_t)text[i]) * 1099511628211u;
        return h;
}

static struct value *slot_of(struct value *values, size_t slots, const char *text, size_t len)
{
        size_t at = (size_t)hash_text(text, len) & (slots - 1);
        while (values[at].text != NULL &&
               (strlen(values[at].text) != len || memcmp(values[at].text, text, len) != 0))
                at = (at + 1) & (slots - 1);
        return &values[at];
}

static int grow(struct column *c)
{
        size_t slots = c->slots == 0 ? 64 : 2 * c->slots;
        struct value *values = calloc(slots, sizeof *values);
        if (values == NULL)
                return complain_memory();
        for (size_t i = 0; i < c->slots; i++)
                if (c->values[i].text != NULL)
                        *slot_of(values, slots, c->values[i].text, strlen(c->values[i].text)) =
                                c->values[i];
        free(c->values);
        c->values = values;
        c->slots = slots;
        return 0;
}

static void count_person(struct value *v, uint64_t person)
{
        v->rows++;
        for (uint32_t i = 0; i < v->people; i++)
                if (v->seen[i] == person)
                        return;
        if (v->people < COMMON)
                v->seen[v->people++] = person;
}

static int count_value(struct column *c, const struct csv_field *f, uint64_t person)
{
        if (2 * (c->count + 1) > c->slots && grow(c) != 0)
                return EXIT_FAILED;
        struct value *v = slot_of(c->values, c->slots, f->text, f->len);
        if (v->text == NULL) {
                if (c->count == VALUES_MAX) {
                        c->crowded = true;
                        return 0;
                }
                v->text = strndup(f->text, f->len);
                if (v->text == NULL)
                        return complain_memory();
                c->count++;
        }
        count_person(v, person);
        return 0;
}

static int value_row(struct table_scan *t, const struct csv_record *r, uint64_t number)
{
        uint64_t person = number;
        if (t->person < t->count)
                person = hash_text(r->fields[t->person].text, r->fields[t->person].len);
        for (size_t i = 0; i < t->count; i++) {
                struct column *c = &t->columns[i];
                const struct csv_field *f = &r->fields[i];
                if (c->left_out || (!c->words && !c->is_label) || is_missing(f) ||
                    f->len > CATEGORY_BYTES_MAX || !is_plain_text(f->text, f->len))
                        continue;
                int status = count_value(c, f, person);
                if (status != 0)
                        return status;
        }
        return 0;
}

/* --- the outcome --- */

static int by_rows(const void *a, const void *b)
{
        const struct value *x = *(struct value *const *)a, *y = *(struct value *const *)b;
        return x->rows != y->rows ? (x->rows < y->rows ? 1 : -1) : strcmp(x->text, y->text);
}

static int by_text(const void *a, const void *b)
{
        const struct value *x = *(struct value *const *)a, *y = *(struct value *const *)b;
        return strcmp(x->text, y->text);
}

static int by_number(const void *a, const void *b)
{
        const struct value *x = *(struct value *const *)a, *y = *(struct value *const *)b;
        double p = strtod(x->text, NULL), q = strtod(y->text, NULL);
        return p != q ? (p > q ? 1 : -1) : strcmp(x->text, y->text);
}

/* The values that `people` have at least, at most `max` of them (the most frequent), sorted. The
 * caller frees the array. */
static int take_values(const struct column *c, uint32_t people, size_t max, struct value ***out,
                       size_t *count)
{
        *count = 0;
        *out = calloc(c->count + 1, sizeof **out);
        if (*out == NULL)
                return complain_memory();
        for (size_t i = 0; i < c->slots; i++)
                if (c->values[i].text != NULL && c->values[i].people >= people)
                        (*out)[(*count)++] = &c->values[i];
        qsort(*out, *count, sizeof **out, by_rows);
        if (*count > max)
                *count = max;
        qsort(*out, *count, sizeof **out, c->words ? by_text : by_number);
        return 0;
}

static void write_values(struct json_writer *w, const char *key, struct value **values, size_t n)
{
        jw_key(w, key);
        jw_array(w);
        for (size_t i = 0; i < n; i++)
                jw_string(w, values[i]->text);
        jw_end_array(w);
}

static int write_label(const struct table_scan *t, struct json_writer *w)
{
        assert(t->columns != NULL && t->label < t->count);
        const struct column *c = &t->columns[t->label];
        const char *task = t->request->task;
        struct value **values = NULL;
        size_t n = 0;
        const bool quantity = !c->words && c->count > REGRESSION_OVER;
        if (c->missing > 0)
                remark("%llu rows have no label and will be refused",
                       (unsigned long long)c->missing);
        if (task == NULL)
                task = quantity ? "regression" : "classification";
        jw_member_string(w, "task", task);
        if (strcmp(task, "regression") == 0)
                return !c->words ? 0
                                 : complain("the label \"%s\" is no number everywhere: it is no "
                                            "regression",
                                            c->name);
        if (c->count > LABELS_MAX)
                return complain("the label \"%s\" has %zu%s values; at most %d can be classes",
                                c->name, c->count, c->crowded ? " and more" : "", (int)LABELS_MAX);
        if (c->count < 2)
                return complain("the label \"%s\" has %zu values; two are the least", c->name,
                                c->count);
        int status = take_values(c, 1, LABELS_MAX, &values, &n);
        if (status == 0) {
                for (size_t i = 0; i < n; i++)
                        if (values[i]->people < COMMON)
                                remark("class \"%s\" has fewer than ten people, and its name is "
                                       "part of the schema",
                                       values[i]->text);
                jw_member_u64(w, "classes", n);
                write_values(w, "labels", values, n);
        }
        free(values);
        return status;
}

static int write_words(const struct column *c, struct json_writer *w, size_t *written)
{
        struct value **values = NULL;
        size_t n = 0;
        int status = take_values(c, COMMON, CATEGORIES_MAX, &values, &n);
        if (status == 0 && n == 0) {
                remark("column \"%s\" is left out: no value of it is shared by ten people",
                       c->name);
        } else if (status == 0) {
                jw_object(w);
                jw_member_string(w, "name", c->name);
                jw_member_string(w, "type", "categorical");
                write_values(w, "values", values, n);
                jw_end_object(w);
                *written += 1;
                if (n < c->count || c->crowded)
                        remark("column \"%s\": %zu%s rarer values count as \"other\"", c->name,
                               c->count - n, c->crowded ? " or more" : "");
        }
        free(values);
        return status;
}

static int write_columns(const struct table_scan *t, struct json_writer *w)
{
        size_t written = 0;
        int status = 0;
        jw_key(w, "columns");
        jw_array(w);
        for (size_t i = 0; i < t->count && status == 0; i++) {
                const struct column *c = &t->columns[i];
                if (c->left_out || c->is_label)
                        continue;
                if (c->present == 0) {
                        remark("column \"%s\" is left out: it is empty", c->name);
                } else if (c->words) {
                        status = write_words(c, w, &written);
                } else {
                        jw_object(w);
                        jw_member_string(w, "name", c->name);
                        jw_member_string(w, "type", "numeric");
                        jw_end_object(w);
                        written++;
                        if (c->missing > 0)
                                remark("column \"%s\": %llu rows have no number there and will be "
                                       "refused",
                                       c->name, (unsigned long long)c->missing);
                }
        }
        jw_end_array(w);
        if (status == 0 && (written == 0 || written > COLUMNS_MAX))
                status = complain("%s makes %zu columns; want 1 to %d", t->request->path, written,
                                  (int)COLUMNS_MAX);
        return status;
}

static void scan_free(struct table_scan *t)
{
        for (size_t i = 0; i < t->count; i++) {
                struct column *c = &t->columns[i];
                for (size_t k = 0; k < c->slots; k++)
                        free(c->values[k].text);
                free(c->values);
                free(c->name);
        }
        free(t->columns);
}

int schema_write(const struct schema_request *r, struct json_writer *w)
{
        struct table_scan t = {.request = r};
        if (strcmp(r->path, "-") == 0)
                return complain_usage("--from-csv reads the file twice: it cannot be the standard "
                                      "input");
        int status = scan(&t, take_header, type_row);
        if (status == 0)
                status = scan(&t, NULL, value_row);
        if (status == 0) {
                if (t.ragged > 0)
                        remark("%llu rows have another number of fields than the header and will "
                               "be refused",
                               (unsigned long long)t.ragged);
                jw_member_string(w, "encoder", "tabular");
                status = write_label(&t, w);
        }
        if (status == 0)
                status = write_columns(&t, w);
        scan_free(&t);
        return status;
}
