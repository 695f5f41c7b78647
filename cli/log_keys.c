/* SPDX-License-Identifier: Apache-2.0
 * log_keys.c: see log_keys.h. The daemon's list of keys is believed in nothing: each step is proved
 * by the old key's signature over a tree that ends with the entry that names the new one. */
#include "cli/log_keys.h"

#include "lib/audit/merkle.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool same_key(const struct note_key *a, const struct note_key *b)
{
        return strcmp(a->name, b->name) == 0 &&
               memcmp(a->public_key, b->public_key, SIGN_PUBLIC_BYTES) == 0;
}

static int take_key(const struct json *item, struct note_key *out)
{
        struct errinfo e = {0};
        const char *text = json_string(json_get(item, "vkey"));
        if (text == NULL)
                return complain("keys: the daemon's list is not in the form of one");
        return note_vkey_parse(text, strlen(text), out, &e) == 0
                       ? 0
                       : complain("keys: one of the log's: %s", e.detail);
}

/* "hashes" of a proof; MERKLE_PROOF_MAX + 1 where they are not in their form. */
static size_t take_hashes(const struct json *doc, uint8_t (*hashes)[SHA256_BYTES])
{
        size_t n = 0;
        for (const struct json *v = json_first(json_get(doc, "hashes")); v != NULL;
             v = json_next(v), n++) {
                const char *text = json_string(v);
                if (n == MERKLE_PROOF_MAX || text == NULL ||
                    base64_decode(text, strlen(text), hashes[n], SHA256_BYTES) != SHA256_BYTES)
                        return MERKLE_PROOF_MAX + 1;
        }
        return n;
}

static int get_proof(struct ctl *c, const char *path, uint8_t (*hashes)[SHA256_BYTES],
                     size_t *count)
{
        struct http_answer a = {0};
        struct json *doc = NULL;
        int status = api_get(c, path, &a, &doc);
        *count = status == 0 ? take_hashes(doc, hashes) : 0;
        json_free(&doc);
        http_answer_free(&a);
        return status;
}

/* The entry whose bytes are `text` announces the new key. */
static int check_names(const char *text, const struct note_key *old, const struct note_key *new)
{
        char old_text[NOTE_VKEY_SIZE], new_text[NOTE_VKEY_SIZE];
        struct json *doc = NULL;
        int status = 0;
        if (json_parse(text, strlen(text), &doc, NULL) != 0)
                return complain("keys: the announcement is not in the form of an entry");
        const struct json *data = json_get(doc, "data");
        const char *type = json_string(json_get(doc, "type"));
        const char *said_old = data != NULL ? json_string(json_get(data, "old")) : NULL;
        const char *said_new = data != NULL ? json_string(json_get(data, "new")) : NULL;
        if (type == NULL || strcmp(type, AUDIT_KEY_ROTATED) != 0 || said_old == NULL ||
            said_new == NULL || strcmp(said_old, note_vkey_format(old, old_text)) != 0 ||
            strcmp(said_new, note_vkey_format(new, new_text)) != 0)
                status = complain("keys: the entry does not announce the new key");
        json_free(&doc);
        return status;
}

/* The last entry of the tree that was handed over announces the new key. */
static int check_announcement(struct ctl *c, const char *entry, const struct note_key *old,
                              const struct note_key *new, const struct checkpoint *handover)
{
        uint8_t hashes[MERKLE_PROOF_MAX][SHA256_BYTES], leaf[SHA256_BYTES];
        size_t count = 0;
        char path[96];
        int status = check_names(entry, old, new);
        merkle_leaf(entry, strlen(entry), leaf);
        (void)snprintf(path, sizeof path, "/v1/audit/%" PRIu64 "/proof?size=%" PRIu64,
                       handover->size - 1, handover->size);
        if (status == 0)
                status = get_proof(c, path, hashes, &count);
        if (status == 0 && (count > MERKLE_PROOF_MAX ||
                            !merkle_verify_inclusion(handover->size - 1, handover->size, leaf,
                                                     (const uint8_t(*)[SHA256_BYTES])hashes, count,
                                                     handover->root)))
                status = complain("keys: the announcement is not in the log that the old key "
                                  "signed last");
        return status;
}

int check_growth(struct ctl *c, const struct checkpoint *from, const struct checkpoint *to)
{
        uint8_t hashes[MERKLE_PROOF_MAX][SHA256_BYTES];
        size_t count = 0;
        char path[96];
        if (from->size > to->size)
                return UL_CORRUPT;
        if (from->size == 0) /* every tree does */
                return 0;
        (void)snprintf(path, sizeof path, "/v1/audit/consistency?from=%" PRIu64 "&to=%" PRIu64,
                       from->size, to->size);
        int status = get_proof(c, path, hashes, &count);
        if (status == 0 && (count > MERKLE_PROOF_MAX ||
                            !merkle_verify_consistency(from->size, to->size,
                                                       (const uint8_t(*)[SHA256_BYTES])hashes,
                                                       count, from->root, to->root)))
                status = UL_CORRUPT;
        return status;
}

static int check_history(struct ctl *c, const struct checkpoint *seen,
                         const struct checkpoint *handover)
{
        if (seen->size > handover->size)
                return complain("keys: the old key signed more after it was retired");
        int status = check_growth(c, seen, handover);
        return status == UL_CORRUPT
                       ? complain("keys: the log that was handed over does not go on from the one "
                                  "that was seen before: its history was changed")
                       : status;
}

/* One exchange: `item` is the new key's. */
static int follow_one(struct ctl *c, const struct json *item, const struct note_key *old,
                      const struct note_key *new, const struct checkpoint *seen,
                      struct checkpoint *handover)
{
        struct errinfo e = {0};
        const char *note = json_string(json_get(item, "handover"));
        const char *entry = json_string(json_get(item, "entry"));
        if (note == NULL || entry == NULL)
                return complain("keys: the daemon's list is not in the form of one");
        if (checkpoint_verify(note, strlen(note), old, handover, &e) != 0)
                return complain("keys: the last checkpoint of the old key: %s", e.detail);
        if (handover->size == 0)
                return complain("keys: the last checkpoint of the old key is of an empty log");
        int status = check_announcement(c, entry, old, new, handover);
        if (status == 0 && seen != NULL)
                status = check_history(c, seen, handover);
        return status;
}

/* Where `from` stands last in the list: a log may have gone back to a key. *at NULL: nowhere. */
static int find_last(const struct json *item, const struct note_key *from, const struct json **at)
{
        *at = NULL;
        for (; item != NULL; item = json_next(item)) {
                struct note_key key;
                if (take_key(item, &key) != 0)
                        return EXIT_FAILED;
                if (same_key(&key, from))
                        *at = item;
        }
        return 0;
}

static int follow_list(struct ctl *c, const struct json *list, const struct note_key *from,
                       const struct note_key *to, const struct checkpoint *seen,
                       struct checkpoint *last)
{
        const struct json *item = NULL;
        struct note_key at = *from, next;
        if (find_last(list, from, &item) != 0)
                return EXIT_FAILED;
        if (item == NULL)
                return UL_NOT_FOUND;
        for (item = json_next(item); item != NULL; item = json_next(item)) {
                struct checkpoint handover;
                int status = take_key(item, &next);
                if (status == 0)
                        status = follow_one(c, item, &at, &next, seen, &handover);
                if (status != 0)
                        return status;
                *last = handover;
                seen = last;
                at = next;
        }
        return same_key(&at, to) ? 0
                                 : complain("keys: the log's last key is not the one that it "
                                            "gives");
}

int follow_keys(struct ctl *c, const struct note_key *from, const struct note_key *to,
                const struct checkpoint *seen, struct checkpoint *last)
{
        struct http_answer a = {0};
        struct json *doc = NULL;
        int status = api_get(c, "/v1/audit/keys", &a, &doc);
        if (status == 0) {
                const struct json *items = json_get(doc, "items");
                status = follow_list(c, items != NULL ? json_first(items) : NULL, from, to, seen,
                                     last);
        }
        json_free(&doc);
        http_answer_free(&a);
        return status;
}
