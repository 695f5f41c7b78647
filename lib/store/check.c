/* SPDX-License-Identifier: Apache-2.0
 * check.c: is every byte of the control database that means anything what was written? LMDB trusts
 * its file: on a damaged one it may crash, loop, or quietly find nothing. So this reads the file
 * itself, a page at a time and every number against its bounds, and never calls LMDB: it can
 * neither crash nor loop, and needs no process of its own. It knows the layout of LMDB's data
 * format 1 on a 64-bit machine, and the tags and names of this store:
 *
 *   page 0 and 1, the meta pages; the one with the higher transaction id counts
 *     0  page number u64, pad u16, flags u16, unused u32
 *    16  magic u32, format u32, address u64, map size u64
 *    40  two table records: free pages, main (names -> table records)
 *   136  last page u64, transaction id u64
 *   table record, 48 bytes
 *     0  pad u32 (free pages: the page size), flags u16, depth u16
 *     8  branch, leaf and overflow pages, entries, root: u64 each; root all ones: an empty table
 *   branch or leaf page
 *     0  page number u64, pad u16, flags u16, lower u16, upper u16
 *    16  offsets of the nodes, u16 each, up to `lower`; nodes without gaps from `upper` to the end
 *   node: low u16, high u16, flags u16, key length u16, key, then
 *     branch  the child is low | high << 16 | flags << 32
 *     leaf    value of low | high << 16 bytes, or (flag 1) the u64 of the first overflow page
 *   overflow pages: page number u64, pad u16, flags u16, pages u32, then the value
 *   value in the table of free pages: count u64, page numbers u64, descending
 *
 * What nobody reads is not checked: free pages, the room between `lower` and `upper`, pads.
 *
 * One thing it writes. Transaction n has its pages on the disk before its meta page, which is that
 * of n - 2. Where that write fails, LMDB writes once more to undo it, but only the last page and
 * the id of n - 2; one bit that flips in an id may leave the same. Either way the whole of n is
 * there, and nobody was told that it failed for good: clients that were not acknowledged were told
 * to ask again. So n is finished by giving its meta page its id and last page back. */
#include "lib/store/db.h"

#include "lib/util/file.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
        META_PAGES = 2,
        META_BYTES = 152,
        META_LAST_PAGE = 136, /* and the transaction id */
        META_MAGIC = (int)0xBEEFC0DE,
        FORMAT = 1,
        PAGE_HEADER = 16,
        NODE_HEADER = 8,
        RECORD_BYTES = 48,
        PAGE_MIN = 512,
        PAGE_MAX = 65536,
        DEPTH_MAX = 32,                    /* LMDB's cursors go no deeper */
        FREE_FLAGS = 0x08,                 /* keys are integers */
        FREE_FLAGS_ENV = 0x4000,           /* how the file was opened is kept beside it */
        UNWRITTEN_PAGES_MAX = 1024 * 1024, /* free pages at the end need not be in the file */
};
enum { PAGE_BRANCH = 0x01, PAGE_LEAF = 0x02, PAGE_OVERFLOW = 0x04, PAGE_META = 0x08 };
enum { NODE_OVERFLOW = 0x01, NODE_RECORD = 0x02 };
enum { TREE_MAIN = TABLE_COUNT, TREE_FREE };

static const uint64_t no_page = UINT64_MAX;

struct record {
        uint32_t pad;
        uint32_t flags, depth;
        uint64_t branch, leaf, overflow, entries, root;
};

struct meta {
        uint64_t txn, last_page;
        struct record free, main;
};

struct check {
        const char *file;
        int fd;
        uint64_t file_bytes;
        uint32_t page_bytes;
        struct meta metas[META_PAGES];
        const struct meta *meta; /* whose tree is read */
        bool whole;              /* all of it; else only the way to its commit id */
        uint8_t *seen;           /* [last_page / 8 + 1] a bit a page: in use, or free */
        uint64_t seen_count;
        uint64_t highest; /* page seen */
        uint64_t tables;  /* found in the main tree, a bit each */
        uint64_t commit;  /* the commit id that the tree holds */
        bool has_commit;
        struct errinfo *e;
};

/* One tree on its way from the first key to the last. */
struct tree {
        struct check *c;
        int id; /* enum table, TREE_MAIN or TREE_FREE */
        struct record found;
        /* the greatest key or separator so far; the next one must not be below it */
        uint8_t key[DB_KEY_MAX];
        size_t key_len;
        bool any;
        bool separator; /* it is one: the next key may be equal to it */
};

struct node {
        uint16_t flags;
        uint16_t key_len;
        const uint8_t *key;
        const uint8_t *data; /* what follows the key */
        uint64_t child;      /* branch */
        uint64_t value_len;  /* leaf */
};

/* --- what is said --- */

static const char *tree_name(int id)
{
        return id == TREE_MAIN   ? "of tables"
               : id == TREE_FREE ? "of free pages"
                                 : db_table_name((enum table)id);
}

static int damaged(struct check *c, const char *what)
{
        return ul_fail(c->e, UL_CORRUPT, "%s", what);
}

static int damaged_page(const struct tree *tr, uint64_t page, const char *what)
{
        return ul_fail(tr->c->e, UL_CORRUPT, "table %s, page %" PRIu64 ": %s", tree_name(tr->id),
                       page, what);
}

/* --- reading --- */

static int open_file(const char *file, int how)
{
        int fd;
        do
                fd = open(file, how | O_CLOEXEC | O_NOFOLLOW);
        while (fd < 0 && errno == EINTR);
        return fd;
}

/* UL_CORRUPT past the end of the file. */
static int read_file_at(struct check *c, void *out, size_t len, uint64_t at)
{
        if (at > c->file_bytes || c->file_bytes - at < len)
                return damaged(c, "the file is shorter than what it holds");
        return read_at(c->fd, out, len, at, c->e);
}

static struct record record_of(const uint8_t *p)
{
        return (struct record){.pad = get_le32(p),
                               .flags = get_le16(p + 4),
                               .depth = get_le16(p + 6),
                               .branch = get_le64(p + 8),
                               .leaf = get_le64(p + 16),
                               .overflow = get_le64(p + 24),
                               .entries = get_le64(p + 32),
                               .root = get_le64(p + 40)};
}

/* Marks pages as in use (or free); each one can only be one thing, once. */
static int mark(const struct tree *tr, uint64_t page, uint64_t count)
{
        struct check *c = tr->c;
        const uint64_t last = c->meta->last_page;
        if (page < META_PAGES || page > last || count > last - page + 1)
                return damaged_page(tr, page, "there is no such page");
        for (uint64_t i = page; i < page + count; i++) {
                const uint8_t bit = (uint8_t)(1u << (i % 8));
                if ((c->seen[i / 8] & bit) != 0)
                        return damaged_page(tr, i, "the page is used twice");
                c->seen[i / 8] |= bit;
        }
        c->seen_count += count;
        if (page + count - 1 > c->highest)
                c->highest = page + count - 1;
        return 0;
}

/* --- keys and values --- */

static int compare(int id, const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
        if (id == TREE_FREE) {
                uint64_t x = get_le64(a), y = get_le64(b);
                return x < y ? -1 : x > y;
        }
        int r = memcmp(a, b, a_len < b_len ? a_len : b_len);
        return r != 0 ? r : a_len < b_len ? -1 : a_len > b_len;
}

/* Keys ascend, and each separator stands between what it separates: else LMDB would look for a key
 * in the wrong place and say that it is not there. */
static int next_key(struct tree *tr, uint64_t page, const struct node *n, bool separator)
{
        if (n->key_len == 0 || n->key_len > DB_KEY_MAX || (tr->id == TREE_FREE && n->key_len != 8))
                return damaged_page(tr, page, "a key has an impossible length");
        if (tr->any) {
                int order = compare(tr->id, tr->key, tr->key_len, n->key, n->key_len);
                if (order > 0 || (order == 0 && (separator || !tr->separator)))
                        return damaged_page(tr, page, "its keys are out of order");
        }
        memcpy(tr->key, n->key, n->key_len);
        tr->key_len = n->key_len;
        tr->any = true;
        tr->separator = separator;
        return 0;
}

static bool key_is(const struct node *n, const char *text)
{
        return n->key_len == strlen(text) && memcmp(n->key, text, n->key_len) == 0;
}

static int another_version(struct check *c, uint32_t found)
{
        return ul_fail(c->e, UL_INVALID,
                       "the control database has schema version %" PRIu32
                       " and this program reads %d: use the "
                       "version that wrote it",
                       found, DB_SCHEMA_VERSION);
}

static int check_meta_row(struct tree *tr, uint64_t page, const struct node *n,
                          const uint8_t *value, uint64_t len)
{
        if (key_is(n, DB_SCHEMA)) {
                if (len != 4)
                        return damaged_page(tr, page, "its schema version is no number");
                if (get_le32(value) != DB_SCHEMA_VERSION)
                        return another_version(tr->c, get_le32(value));
        } else if (key_is(n, DB_COMMIT)) {
                if (len != 8)
                        return damaged_page(tr, page, "its commit id is no number");
                tr->c->commit = get_le64(value);
                tr->c->has_commit = true;
        }
        return 0;
}

/* value: [len] whole, wherever it was. */
static int check_row(struct tree *tr, uint64_t page, const struct node *n, const uint8_t *value,
                     uint64_t len)
{
        if (tr->id == TABLE_META && key_is(n, DB_SCHEMA) && len == 4)
                return another_version(tr->c, get_le32(value)); /* before values had tags */
        if (len < DB_TAG_BYTES ||
            get_le64(value + len - DB_TAG_BYTES) !=
                    db_tag((enum table)tr->id, n->key, n->key_len, value, len - DB_TAG_BYTES))
                return damaged_page(tr, page, "a value fails its checksum");
        return tr->id == TABLE_META ? check_meta_row(tr, page, n, value, len - DB_TAG_BYTES) : 0;
}

static int check_free_list(struct tree *tr, uint64_t page, const struct node *n,
                           const uint8_t *value, uint64_t len)
{
        if (len < 8 || len % 8 != 0 || get_le64(value) > len / 8 - 1 ||
            get_le64(n->key) > tr->c->meta->txn)
                return damaged_page(tr, page, "a list of free pages has an impossible size");
        const uint64_t count = get_le64(value);
        int err = 0;
        for (uint64_t i = 1; i <= count && err == 0; i++) {
                uint64_t at = get_le64(value + 8 * i);
                if (i > 1 && at >= get_le64(value + 8 * (i - 1)))
                        return damaged_page(tr, page, "a list of free pages is out of order");
                err = mark(tr, at, 1);
        }
        return err;
}

static int check_tree(struct check *c, int id, const struct record *r);

static int check_table(struct tree *tr, uint64_t page, const struct node *n)
{
        struct check *c = tr->c;
        int id = 0;
        while (id < TABLE_COUNT && !key_is(n, db_table_name((enum table)id)))
                id++;
        if (id == TABLE_COUNT || n->value_len != RECORD_BYTES)
                return damaged_page(tr, page, "it names a table that does not exist");
        struct record r = record_of(n->data);
        if (r.flags != 0)
                return damaged_page(tr, page, "a table has an impossible kind");
        c->tables |= UINT64_C(1) << id;
        return c->whole || id == TABLE_META ? check_tree(c, id, &r) : 0;
}

static int check_value(struct tree *tr, uint64_t page, const struct node *n, const uint8_t *value)
{
        return tr->id == TREE_FREE ? check_free_list(tr, page, n, value, n->value_len)
                                   : check_row(tr, page, n, value, n->value_len);
}

/* The value stands in pages of its own. */
static int check_overflow(struct tree *tr, uint64_t page, const struct node *n)
{
        struct check *c = tr->c;
        uint8_t header[PAGE_HEADER];
        const uint64_t first = get_le64(n->data);
        const uint64_t needed = (PAGE_HEADER - 1 + n->value_len) / c->page_bytes + 1;
        if (first < META_PAGES || first > c->meta->last_page)
                return damaged_page(tr, page, "a value is nowhere");
        int err = read_file_at(c, header, sizeof header, first * c->page_bytes);
        if (err != 0)
                return err;
        const uint64_t pages = get_le32(header + 12);
        if (get_le64(header) != first || get_le16(header + 10) != PAGE_OVERFLOW || pages < needed)
                return damaged_page(tr, first, "the page is not what was written");
        err = mark(tr, first, pages);
        if (err != 0)
                return err;
        tr->found.overflow += pages;
        uint8_t *value = malloc((size_t)n->value_len + 1);
        if (value == NULL)
                return ul_fail(c->e, UL_NOMEM, "no memory to check the control database");
        err = read_file_at(c, value, (size_t)n->value_len, first * c->page_bytes + PAGE_HEADER);
        if (err == 0)
                err = check_value(tr, first, n, value);
        free(value);
        return err;
}

static int check_entry(struct tree *tr, uint64_t page, const struct node *n)
{
        const bool record = tr->id == TREE_MAIN;
        int err = next_key(tr, page, n, false);
        if (err != 0)
                return err;
        tr->found.entries++;
        if (n->flags != (record ? NODE_RECORD : n->flags & NODE_OVERFLOW))
                return damaged_page(tr, page, "an entry has an impossible kind");
        if (record)
                return check_table(tr, page, n);
        return n->flags == NODE_OVERFLOW ? check_overflow(tr, page, n)
                                         : check_value(tr, page, n, n->data);
}

/* --- pages --- */

/* The node at an offset; *bytes is what it takes of the page. */
static int node_at(const struct tree *tr, uint64_t page, const uint8_t *p, uint32_t at, bool leaf,
                   struct node *n, uint32_t *bytes)
{
        const uint32_t end = tr->c->page_bytes;
        if (at > end - NODE_HEADER)
                return damaged_page(tr, page, "a node is outside of its page");
        const uint64_t low = get_le16(p + at), high = get_le16(p + at + 2);
        *n = (struct node){.flags = get_le16(p + at + 4), .key_len = get_le16(p + at + 6)};
        n->child = low | high << 16 | (uint64_t)n->flags << 32;
        n->value_len = low | high << 16;
        n->key = p + at + NODE_HEADER;
        uint64_t size = NODE_HEADER + (uint64_t)n->key_len;
        if (leaf)
                size += (n->flags & NODE_OVERFLOW) != 0 ? 8 : n->value_len;
        size += size & 1;
        if (size > end - at)
                return damaged_page(tr, page, "a node is outside of its page");
        n->data = n->key + n->key_len;
        *bytes = (uint32_t)size;
        return 0;
}

static int check_page(struct tree *tr, uint64_t page, uint32_t depth);

static int check_nodes(struct tree *tr, uint64_t page, const uint8_t *p, uint32_t depth)
{
        const bool leaf = depth == 1;
        const uint32_t lower = get_le16(p + 12), upper = get_le16(p + 14);
        uint32_t taken = 0;
        if (lower <= PAGE_HEADER || lower % 2 != 0 || lower > upper || upper > tr->c->page_bytes)
                return damaged_page(tr, page, "its header is damaged");
        const uint32_t count = (lower - PAGE_HEADER) / 2;
        if (!leaf && count < 2 && tr->id != TREE_FREE)
                return damaged_page(tr, page, "it has too few children");
        int err = 0;
        for (uint32_t i = 0; i < count && err == 0; i++) {
                struct node n;
                uint32_t at = get_le16(p + PAGE_HEADER + 2 * i), bytes = 0;
                if (at < upper)
                        return damaged_page(tr, page, "a node is outside of its page");
                err = node_at(tr, page, p, at, leaf, &n, &bytes);
                taken += bytes;
                if (err == 0 && leaf)
                        err = check_entry(tr, page, &n);
                if (err == 0 && !leaf && i > 0) /* the first one's key is not looked at */
                        err = next_key(tr, page, &n, true);
                if (err == 0 && !leaf)
                        err = check_page(tr, n.child, depth - 1);
        }
        if (err == 0 && taken != tr->c->page_bytes - upper)
                return damaged_page(tr, page, "its nodes do not fill it");
        return err;
}

static int check_page(struct tree *tr, uint64_t page, uint32_t depth)
{
        struct check *c = tr->c;
        int err = mark(tr, page, 1);
        if (err != 0)
                return err;
        uint8_t *p = malloc(c->page_bytes);
        if (p == NULL)
                return ul_fail(c->e, UL_NOMEM, "no memory to check the control database");
        err = read_file_at(c, p, c->page_bytes, page * c->page_bytes);
        if (err == 0 &&
            (get_le64(p) != page || get_le16(p + 10) != (depth == 1 ? PAGE_LEAF : PAGE_BRANCH)))
                err = damaged_page(tr, page, "the page is not what was written");
        if (err == 0 && depth == 1)
                tr->found.leaf++;
        if (err == 0 && depth > 1)
                tr->found.branch++;
        if (err == 0)
                err = check_nodes(tr, page, p, depth);
        free(p);
        return err;
}

static bool counts_hold(const struct record *want, const struct record *found)
{
        return want->branch == found->branch && want->leaf == found->leaf &&
               want->overflow == found->overflow && want->entries == found->entries;
}

static int check_tree(struct check *c, int id, const struct record *r)
{
        struct tree *tr = calloc(1, sizeof *tr);
        if (tr == NULL)
                return ul_fail(c->e, UL_NOMEM, "no memory to check the control database");
        *tr = (struct tree){.c = c, .id = id};
        int err = 0;
        if ((r->root == no_page) != (r->depth == 0) || r->depth > DEPTH_MAX)
                err = damaged_page(tr, r->root, "it has an impossible depth");
        else if (r->root != no_page)
                err = check_page(tr, r->root, r->depth);
        if (err == 0 && !counts_hold(r, &tr->found))
                err = ul_fail(c->e, UL_CORRUPT, "table %s holds not as much as was written",
                              tree_name(id));
        free(tr);
        return err;
}

/* --- the two meta pages --- */

static int read_meta(struct check *c, uint32_t page, struct meta *m)
{
        uint8_t p[META_BYTES];
        int err = read_file_at(c, p, sizeof p, (uint64_t)page * c->page_bytes);
        if (err != 0)
                return err;
        *m = (struct meta){.free = record_of(p + 40),
                           .main = record_of(p + 40 + RECORD_BYTES),
                           .last_page = get_le64(p + META_LAST_PAGE),
                           .txn = get_le64(p + META_LAST_PAGE + 8)};
        if (get_le64(p) != page || get_le16(p + 10) != PAGE_META ||
            get_le32(p + 16) != (uint32_t)META_MAGIC || get_le32(p + 20) != FORMAT)
                return damaged(c, "a meta page is damaged");
        if ((m->free.flags & ~(uint32_t)FREE_FLAGS_ENV) != FREE_FLAGS || m->main.flags != 0 ||
            m->free.pad != c->page_bytes || m->last_page < META_PAGES - 1 ||
            m->last_page > c->file_bytes / c->page_bytes + UNWRITTEN_PAGES_MAX ||
            (m->txn != 0 && m->txn % META_PAGES != page))
                return damaged(c, "a meta page is damaged");
        return 0;
}

static bool pristine(const struct meta *m)
{
        return m->txn == 0 && m->main.root == no_page && m->free.root == no_page;
}

/* Reads everything that the meta page's tree holds (`whole`), or only the way to its commit id. */
static int read_tree(struct check *c, const struct meta *m, bool whole)
{
        c->meta = m;
        c->whole = whole;
        c->has_commit = false;
        c->tables = 0;
        c->seen_count = 0;
        c->highest = META_PAGES - 1;
        c->seen = calloc(1, (size_t)(m->last_page / 8 + 1));
        if (c->seen == NULL)
                return ul_fail(c->e, UL_NOMEM, "no memory to check the control database");
        int err = whole ? check_tree(c, TREE_FREE, &m->free) : 0;
        if (err == 0)
                err = check_tree(c, TREE_MAIN, &m->main);
        if (err == 0 && c->tables != (UINT64_C(1) << TABLE_COUNT) - 1)
                err = damaged(c, "a table is missing");
        if (err == 0 && whole && c->seen_count != c->highest + 1 - META_PAGES)
                err = damaged(c, "a page is neither used nor free");
        if (err == 0 && !c->has_commit)
                err = damaged(c, "its commit id is missing");
        free(c->seen);
        c->seen = NULL;
        return err;
}

/* A compacted copy begins at transaction 1 again, whatever its tree says. */
static int check_commit(struct check *c, const struct meta *m)
{
        return m->txn == c->commit || m->txn == 1
                       ? 0
                       : damaged(c, "a meta page is not that of its transaction");
}

static int check_newer(struct check *c, const struct meta *newer)
{
        int err = read_tree(c, newer, true);
        if (err == 0 && c->highest != newer->last_page)
                err = damaged(c, "a page is neither used nor free");
        return err == 0 ? check_commit(c, newer) : err;
}

/* Both numbers are in one sector: all of the write is made, or none. */
static int finish(struct check *c, const struct meta *next)
{
        uint8_t p[META_BYTES - META_LAST_PAGE];
        put_le64(p, next->last_page);
        put_le64(p + 8, next->txn);
        int fd = open_file(c->file, O_WRONLY);
        if (fd < 0)
                return ul_fail_errno(c->e, "opening the control database to finish a commit");
        int err = write_at(fd, p, sizeof p, next->txn % META_PAGES * c->page_bytes + META_LAST_PAGE,
                           c->e);
        if (err == 0)
                err = sync_data(fd, c->e);
        if (close(fd) != 0 && err == 0)
                err = ul_fail_errno(c->e, "finishing a commit of the control database");
        return err;
}

/* Its tree is that of its transaction, or of the one after the newer one's: see the head of this
 * file. Last pages never go down, so a tree that ends before the newer one's is no later one, but
 * that of a copy. */
static int check_older(struct check *c, const struct meta *older, const struct meta *newer,
                       struct store_found *found)
{
        struct meta next = *older;
        next.txn += META_PAGES;
        next.last_page = c->file_bytes / c->page_bytes + UNWRITTEN_PAGES_MAX; /* at the most */
        int err = read_tree(c, &next, false);
        if (err == 0 && c->commit == next.txn) {
                err = read_tree(c, &next, true);
                found->finished = err == 0 && c->highest >= newer->last_page;
        }
        next.last_page = c->highest;
        if (found->finished)
                return finish(c, &next);
        return err == 0 ? check_commit(c, older) : err;
}

static int check_metas(struct check *c, struct store_found *found)
{
        const struct meta *m = c->metas;
        int err = 0;
        for (uint32_t i = 0; i < META_PAGES && err == 0; i++)
                err = read_meta(c, i, &c->metas[i]);
        if (err != 0)
                return err;
        found->empty = pristine(&m[0]) && pristine(&m[1]);
        if (found->empty)
                return 0;
        const struct meta *newer = &m[m[0].txn < m[1].txn];
        const struct meta *older = &m[m[0].txn >= m[1].txn];
        if (newer->txn != older->txn + 1)
                return damaged(c, "its two meta pages are not of successive transactions");
        err = check_newer(c, newer);
        return err != 0 || pristine(older) ? err : check_older(c, older, newer, found);
}

/* What a first start that was cut short by a power cut may leave. */
static int all_zero(struct check *c, bool *zero)
{
        uint8_t block[4096];
        int err = 0;
        *zero = true;
        for (uint64_t at = 0; at < c->file_bytes && *zero && err == 0; at += sizeof block) {
                size_t len = c->file_bytes - at < sizeof block ? (size_t)(c->file_bytes - at)
                                                               : sizeof block;
                err = read_file_at(c, block, len, at);
                for (size_t i = 0; i < len && err == 0 && *zero; i++)
                        *zero = block[i] == 0;
        }
        return err;
}

static int check_open(struct check *c, struct store_found *found)
{
        struct stat st;
        uint8_t size[4];
        if (fstat(c->fd, &st) != 0)
                return ul_fail_errno(c->e, "looking at the control database");
        if (!S_ISREG(st.st_mode))
                return damaged(c, "it is not a file");
        c->file_bytes = (uint64_t)st.st_size;
        int err = all_zero(c, &found->empty);
        if (err != 0 || found->empty)
                return err;
        err = read_file_at(c, size, sizeof size, 40); /* the first table record's pad */
        c->page_bytes = get_le32(size);
        if (err == 0 && (c->page_bytes < PAGE_MIN || c->page_bytes > PAGE_MAX ||
                         (c->page_bytes & (c->page_bytes - 1)) != 0))
                err = damaged(c, "a meta page is damaged");
        return err == 0 ? check_metas(c, found) : err;
}

int store_check(const char *file, struct store_found *found, struct errinfo *e)
{
        struct check c = {.file = file, .e = e};
        *found = (struct store_found){0};
        c.fd = open_file(file, O_RDONLY);
        if (c.fd < 0 && errno == ENOENT) {
                found->empty = true;
                return 0;
        }
        if (c.fd < 0)
                return ul_fail_errno(e, "opening the control database");
        (void)posix_fadvise(c.fd, 0, 0,
                            POSIX_FADV_WILLNEED); /* it is read in the order of its keys */
        int err = check_open(&c, found);
        (void)close(c.fd);
        return err;
}
