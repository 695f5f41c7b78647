/* SPDX-License-Identifier: Apache-2.0
 * fuzz_note.c: what an auditor is handed: signed notes, tree heads, verifier keys and Merkle
 * proofs. '0': the text of a note, signed here; it must verify, and not with any one byte changed.
 * '1': a note as it came, '2': a verifier key, '3': a proof, where the first bytes choose the tree,
 * and the rest replaces hashes of the true proof. Nothing but the truth verifies. */
#include "lib/audit/merkle.h"
#include "lib/audit/note.h"
#include "tests/fuzz/fuzz.h"
#include <strings.h>

static const uint8_t seed[SIGN_SEED_BYTES] = {7};
static struct note_key key;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        uint8_t public_key[SIGN_PUBLIC_BYTES];
        (void)argc, (void)argv;
        if (crypto_init() != 0)
                return -1;
        sign_keypair(seed, public_key);
        return note_key_make("example.org/log", public_key, &key, NULL);
}

/* --- notes --- */

static void check_tree_head(const char *text, size_t len)
{
        struct checkpoint c, again;
        struct buf out = {0};
        struct errinfo e = {0};
        const int err = checkpoint_parse(text, len, &c, &e);
        if (err != 0) {
                fuzz_check_refusal(err, &e);
                return;
        }
        assert(strlen(c.origin) >= 1 && strchr(c.origin, '\n') == NULL);
        checkpoint_format(c.origin, c.size, c.root, &out);
        assert(!out.failed && out.len <= len && memcmp(out.data, text, out.len) == 0);
        assert(checkpoint_parse((const char *)out.data, out.len, &again, &e) == 0);
        assert(again.size == c.size && memcmp(again.root, c.root, SHA256_BYTES) == 0);
        buf_free(&out, false);
}

static void check_note(const char *note, size_t len)
{
        struct checkpoint c;
        struct errinfo e = {0};
        size_t text_len = 0;
        const int err = note_verify(note, len, &key, &text_len, &e);
        if (err != 0) {
                fuzz_check_refusal(err, &e);
                assert(checkpoint_verify(note, len, &key, &c, &e) != 0);
                return;
        }
        assert(text_len > 0 && text_len < len && note[text_len - 1] == '\n');
        check_tree_head(note, text_len);
}

static void check_signed(const char *text, size_t len)
{
        struct buf note = {0};
        struct errinfo e = {0};
        size_t text_len = 0;
        check_tree_head(text, len);
        if (note_sign(&key, seed, text, len, &note, &e) == 0) {
                assert(note_verify((const char *)note.data, note.len, &key, &text_len, &e) == 0);
                assert(text_len == len);
                const size_t at = crc32c(0, text, len) % (len > 0 ? len : 1);
                note.data[at] ^= 1; /* still text, most often; never signed */
                assert(note_verify((const char *)note.data, note.len, &key, &text_len, &e) != 0);
        }
        buf_free(&note, false);
}

static void check_vkey(const char *text, size_t len)
{
        struct note_key k;
        struct errinfo e = {0};
        char out[NOTE_VKEY_SIZE];
        const int err = note_vkey_parse(text, len, &k, &e);
        if (err != 0) {
                fuzz_check_refusal(err, &e);
                return;
        }
        note_vkey_format(&k, out);
        assert(strlen(out) == len);
        /* the hex digits of the key id may have been capitals */
        const size_t id = strlen(k.name) + 1, rest = id + 2 * NOTE_KEY_ID_BYTES;
        assert(memcmp(out, text, id) == 0 && strncasecmp(out + id, text + id, rest - id) == 0);
        assert(memcmp(out + rest, text + rest, len - rest) == 0);
}

/* --- proofs --- */

enum { LEAVES_MAX = 64, LEVELS = 8 };
struct tree {
        uint8_t node[LEVELS][LEAVES_MAX][SHA256_BYTES];
};
static struct tree tree; /* leaves are their numbers; made once */

static int get_node(void *arg, uint32_t level, uint64_t index, uint8_t hash[SHA256_BYTES])
{
        struct tree *t = arg;
        assert(level < LEVELS && index < LEAVES_MAX);
        memcpy(hash, t->node[level][index], SHA256_BYTES);
        return 0;
}

static int put_node(void *arg, uint32_t level, uint64_t index, const uint8_t hash[SHA256_BYTES])
{
        struct tree *t = arg;
        assert(level < LEVELS && index < LEAVES_MAX);
        memcpy(t->node[level][index], hash, SHA256_BYTES);
        return 0;
}

static void grow_tree(void)
{
        static bool grown;
        uint8_t leaf[SHA256_BYTES];
        for (uint64_t i = 0; !grown && i < LEAVES_MAX; i++) {
                merkle_leaf(&i, sizeof i, leaf);
                assert(merkle_append(i, leaf, get_node, put_node, &tree) == 0);
        }
        grown = true;
}

/* Changes the hashes as the input says, and how many there are: as many, one or two more, or none.
 * True: it is the proof that it was. */
static bool tamper(uint8_t (*hashes)[SHA256_BYTES], uint32_t *count, const uint8_t *data,
                   size_t size)
{
        uint8_t before[MERKLE_PROOF_MAX][SHA256_BYTES];
        const uint32_t was = *count;
        memcpy(before, hashes, sizeof before);
        const uint32_t more = fuzz_choice(&data, &size, 4);
        *count = more == 3 ? 0 : was + more;
        assert(*count <= MERKLE_PROOF_MAX);
        const size_t room = (size_t)*count * SHA256_BYTES;
        for (size_t at = 0; at + 1 < size; at += 2) /* position and mask of a change */
                if (room > 0)
                        hashes[data[at] % room / SHA256_BYTES][data[at] % SHA256_BYTES] ^=
                                data[at + 1];
        return *count == was && memcmp(before, hashes, (size_t)was * SHA256_BYTES) == 0;
}

/* A proof in memory of its exact size. */
struct proof {
        void *memory;
        const uint8_t (*hashes)[SHA256_BYTES];
};

static struct proof exactly(uint8_t (*hashes)[SHA256_BYTES], uint32_t count)
{
        struct proof p = {.memory = malloc((size_t)count * SHA256_BYTES)};
        assert(p.memory != NULL);
        memcpy(p.memory, hashes, (size_t)count * SHA256_BYTES);
        p.hashes = p.memory;
        return p;
}

static void check_proofs(const uint8_t *data, size_t size)
{
        uint8_t hashes[MERKLE_PROOF_MAX][SHA256_BYTES] = {{0}};
        uint8_t root[SHA256_BYTES], root_from[SHA256_BYTES];
        uint32_t count = 0;
        grow_tree();
        const uint64_t to = 1 + fuzz_choice(&data, &size, LEAVES_MAX);
        const uint64_t from = 1 + fuzz_choice(&data, &size, (uint32_t)to);
        assert(merkle_root(to, get_node, &tree, root) == 0);
        assert(merkle_root(from, get_node, &tree, root_from) == 0);

        assert(merkle_inclusion(from - 1, to, get_node, &tree, hashes, &count) == 0);
        bool same = tamper(hashes, &count, data, size);
        struct proof p = exactly(hashes, count);
        assert(merkle_verify_inclusion(from - 1, to, tree.node[0][from - 1], p.hashes, count,
                                       root) == same);
        free(p.memory);

        memset(hashes, 0, sizeof hashes);
        assert(merkle_consistency(from, to, get_node, &tree, hashes, &count) == 0);
        same = tamper(hashes, &count, data, size);
        p = exactly(hashes, count);
        assert(merkle_verify_consistency(from, to, p.hashes, count, root_from, root) == same);
        free(p.memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const uint32_t choice = fuzz_choice(&data, &size, 4);
        const char *text = (const char *)data;
        if (choice == 0)
                check_signed(text, size);
        else if (choice == 1)
                check_note(text, size);
        else if (choice == 2)
                check_vkey(text, size);
        else
                check_proofs(data, size);
        return 0;
}
