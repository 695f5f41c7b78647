/* SPDX-License-Identifier: Apache-2.0
 * json.c: the one owner of cJSON: parsed documents and how they are read. A struct json is a cJSON
 * item under another name, so nothing is copied. json_scan.c has checked every text before cJSON
 * sees it; what can only be checked on the tree (duplicate keys) is checked here. Documents hold
 * personal data, so every block that cJSON frees is overwritten first. */
#include "lib/util/json.h"

#include "lib/util/json_scan.h"
#include <assert.h>
#include <cjson/cJSON.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const cJSON *item_of(const struct json *v)
{
        return (const cJSON *)(const void *)v;
}

static const struct json *json_of(const cJSON *item)
{
        return (const struct json *)(const void *)item;
}

/* The size of a block stands before it, so that all of it can be wiped. cJSON frees more than the
 * tree: newer versions copy the text of each number. */
union block_head {
        size_t size;
        max_align_t align;
};

static void *counted_malloc(size_t size)
{
        if (size > SIZE_MAX - sizeof(union block_head))
                return NULL;
        union block_head *head = malloc(sizeof *head + size);
        if (head == NULL)
                return NULL;
        head->size = size;
        return head + 1;
}

static void wiping_free(void *block)
{
        if (block == NULL)
                return;
        union block_head *head = (union block_head *)block - 1;
        explicit_bzero(block, head->size);
        free(head);
}

static pthread_once_t hooks_once = PTHREAD_ONCE_INIT;

static void set_hooks(void)
{
        cJSON_Hooks hooks = {.malloc_fn = counted_malloc, .free_fn = wiping_free};
        cJSON_InitHooks(&hooks);
}

/* A key of one object, and its number among all keys of the document. */
struct key {
        const char *name;
        size_t ordinal;
};

static int compare_keys(const void *a, const void *b)
{
        const struct key *x = a;
        const struct key *y = b;
        int order = strcmp(x->name, y->name);
        if (order != 0)
                return order;
        return x->ordinal < y->ordinal ? -1 : 1;
}

static int find_duplicates(const cJSON *parent, size_t *ordinal, size_t *duplicate);

/* Duplicates among the keys of one object, having looked into its members in document order. */
static int find_in_object(const cJSON *object, size_t n, size_t *ordinal, size_t *duplicate)
{
        struct key few[16];
        struct key *keys = few;
        int r = UL_OK;
        size_t i = 0;
        if (n > sizeof few / sizeof *few) {
                keys = malloc(n * sizeof *keys);
                if (keys == NULL)
                        return UL_NOMEM;
        }
        for (const cJSON *c = object->child; c != NULL && r == UL_OK; c = c->next) {
                keys[i++] = (struct key){c->string, (*ordinal)++};
                r = find_duplicates(c, ordinal, duplicate);
        }
        if (r == UL_OK)
                qsort(keys, i, sizeof *keys, compare_keys);
        for (size_t k = 1; k < i && r == UL_OK; k++) {
                if (strcmp(keys[k - 1].name, keys[k].name) == 0) {
                        *duplicate = keys[k].ordinal;
                        r = UL_SYNTAX;
                }
        }
        if (keys != few)
                free(keys);
        return r;
}

/* UL_SYNTAX with the ordinal of a key that its object has already; the depth is bounded. */
static int find_duplicates(const cJSON *parent, size_t *ordinal, size_t *duplicate)
{
        if (cJSON_IsObject(parent))
                return find_in_object(parent, json_length(json_of(parent)), ordinal, duplicate);
        int r = UL_OK;
        if (cJSON_IsArray(parent)) {
                for (const cJSON *c = parent->child; c != NULL && r == UL_OK; c = c->next)
                        r = find_duplicates(c, ordinal, duplicate);
        }
        return r;
}

int json_parse(const char *text, size_t len, struct json **out, struct errinfo *e)
{
        *out = NULL;
        int r = json_scan(text, len, e);
        if (r != UL_OK)
                return r;
        pthread_once(&hooks_once, set_hooks);
        cJSON *root = cJSON_ParseWithLengthOpts(text, len, NULL, 0);
        if (root == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for a JSON document");
        struct json *doc = (struct json *)(void *)root;
        size_t ordinal = 0;
        size_t duplicate = 0;
        r = find_duplicates(root, &ordinal, &duplicate);
        if (r == UL_OK) {
                *out = doc;
                return UL_OK;
        }
        json_free(&doc);
        if (r == UL_NOMEM)
                return ul_fail(e, r, "no memory for a JSON document");
        return ul_fail(e, r, "not valid JSON at byte %zu: this key is in its object already",
                       json_scan_key_offset(text, len, duplicate));
}

void json_free(struct json **doc)
{
        cJSON_Delete((cJSON *)(void *)*doc); /* by wiping_free */
        *doc = NULL;
}

enum json_type json_type_of(const struct json *v)
{
        const cJSON *item = item_of(v);
        if (cJSON_IsObject(item))
                return JSON_OBJECT;
        if (cJSON_IsArray(item))
                return JSON_ARRAY;
        if (cJSON_IsString(item))
                return JSON_STRING;
        if (cJSON_IsNumber(item))
                return JSON_NUMBER;
        return cJSON_IsBool(item) ? JSON_BOOL : JSON_NULL;
}

const char *json_type_name(enum json_type t)
{
        static const char *const names[] = {"null",   "boolean", "number",
                                            "string", "array",   "object"};
        assert((size_t)t < sizeof names / sizeof *names);
        return names[t];
}

const struct json *json_get(const struct json *object, const char *key)
{
        return json_of(cJSON_GetObjectItemCaseSensitive(item_of(object), key));
}

size_t json_length(const struct json *array_or_object)
{
        size_t n = 0;
        for (const struct json *c = json_first(array_or_object); c != NULL; c = json_next(c))
                n++;
        return n;
}

const struct json *json_first(const struct json *array_or_object)
{
        return array_or_object == NULL ? NULL : json_of(item_of(array_or_object)->child);
}

const struct json *json_next(const struct json *child)
{
        return json_of(item_of(child)->next);
}

const char *json_key(const struct json *child)
{
        return item_of(child)->string;
}

const char *json_string(const struct json *v)
{
        return cJSON_GetStringValue(item_of(v));
}

double json_number(const struct json *v)
{
        const cJSON *item = item_of(v);
        return cJSON_IsNumber(item) ? item->valuedouble : (double)NAN;
}

bool json_is_true(const struct json *v)
{
        return cJSON_IsTrue(item_of(v));
}

bool json_integer(const struct json *v, int64_t min, int64_t max, int64_t *out)
{
        /* From 2^53 on a double no longer tells which integer was written. */
        const double limit = 9007199254740991.0;
        double d = json_number(v);
        if (!(d >= -limit && d <= limit) || d != floor(d))
                return false;
        int64_t i = (int64_t)d;
        if (i < min || i > max)
                return false;
        *out = i;
        return true;
}
