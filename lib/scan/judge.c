/* SPDX-License-Identifier: Apache-2.0
 * judge.c: a hit is evidence, or has another explanation (scan.h says which). In a row file a hit
 * is held against the row that it stands in; an intact row says itself whose it is. It must not
 * know how needles are made. */
#include "lib/scan/scan_private.h"

#include "lib/util/file.h"
#include <string.h>

enum { NEIGHBOURS = 4096 }; /* of one finding: told once */

void tell_found(struct scan *s, struct scan_file *f, enum scan_kind kind, bool trace, uint32_t who,
                const char *what, uint64_t offset)
{
        const struct scan_finding finding = {.kind = kind,
                                             .trace = trace,
                                             .who = who == NOBODY ? "" : s->people[who].who,
                                             .what = what,
                                             .path = f->path,
                                             .offset = offset};
        const bool again = f->has_last && f->last_who == who && f->last_kind == (uint32_t)kind &&
                           kind != SCAN_ROW && kind != SCAN_CHECKPOINT && offset >= f->last_at &&
                           offset - f->last_at < NEIGHBOURS;
        f->has_last = true;
        f->last_who = who;
        f->last_kind = (uint32_t)kind;
        f->last_at = offset;
        if (again)
                return;
        s->totals.traces += trace;
        s->totals.explained += !trace;
        s->events.found(s->events.arg, &finding);
}

/* What may stand beside an id or a word without being a part of it. */
static bool is_boundary(const uint8_t *data, size_t len, size_t at)
{
        if (at >= len)
                return true;
        const uint8_t c = data[at];
        return c == 0 || c == '\t' || c == '\n' || c == '\r' ||
               (c >= ' ' && c < 127 && strchr("_-.@+/", c) == NULL &&
                !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')));
}

/* A full stop may end a sentence. */
static bool is_whole_word(const uint8_t *data, size_t data_len, size_t at, size_t len)
{
        const size_t end = at + len;
        if (at > 0 && !is_boundary(data, data_len, at - 1))
                return false;
        return is_boundary(data, data_len, end) ||
               (data[end] == '.' && is_boundary(data, data_len, end + 1));
}

/* --- rows --- */

/* Reads the row that `offset` lies in; false where that is no whole row. */
static bool take_row(struct scan_file *f, uint64_t offset)
{
        if (!f->is_rows || offset < ROWFILE_HEADER_BYTES)
                return false;
        const uint32_t width = row_bytes(&f->shape);
        const uint64_t at = ROWFILE_HEADER_BYTES + (offset - ROWFILE_HEADER_BYTES) / width * width;
        if (f->has_row && f->row_at == at)
                return true;
        f->has_row = at + width <= f->bytes && read_at(f->fd, f->row, width, at, NULL) == 0;
        f->row_at = at;
        return f->has_row;
}

/* Whether the row that begins there was the last finding. */
static bool is_told(const struct scan_file *f, uint32_t who, uint64_t row_at)
{
        return f->has_last && f->last_kind == SCAN_ROW && f->last_who == who &&
               f->last_at == row_at;
}

/* Whether the features of the row at hand are these, of the type that the file has. */
static bool same_features(const struct scan *s, const struct scan_file *f, const struct features *x)
{
        return x->bytes == row_feature_bytes(&f->shape) &&
               memcmp(f->row + row_feature_offset(&f->shape), s->feature_bytes.data + x->at,
                      x->bytes) == 0;
}

/* Whether the whole of the features stands around the piece that was hit. */
static bool whole_features(const struct scan *s, const struct scan_file *f, const struct needle *n,
                           uint64_t offset)
{
        uint8_t part[512];
        const struct features *x = &s->features[n->features];
        if (offset < n->within || f->bytes - (offset - n->within) < x->bytes)
                return false;
        for (uint32_t done = 0; done < x->bytes;) {
                const uint32_t len = x->bytes - done < sizeof part ? x->bytes - done : sizeof part;
                if (read_at(f->fd, part, len, offset - n->within + done, NULL) != 0 ||
                    memcmp(part, s->feature_bytes.data + x->at + done, len) != 0)
                        return false;
                done += len;
        }
        return true;
}

static void judge_row(struct scan *s, struct scan_file *f, const struct needle *n, uint64_t offset)
{
        const struct features *x = &s->features[n->features];
        const bool in_row = take_row(f, offset);
        const bool intact = in_row && row_intact(f->row, row_bytes(&f->shape));
        if (intact && !same_features(s, f, x))
                return; /* another record's, which looks like this one in part */
        if (in_row && is_told(f, n->who, f->row_at))
                return; /* by another piece of it, or its pseudonym */
        if (intact && s->key != NULL && !pseudonym_is_searched(s, f->row)) {
                tell_found(s, f, SCAN_ROW, false, n->who, "another record has the same features",
                           f->row_at);
                return;
        }
        if (in_row)
                tell_found(s, f, SCAN_ROW, true, n->who,
                           intact ? "the row" : "the row, or a part of it, in a damaged row",
                           f->row_at);
        else if (!whole_features(s, f, n, offset))
                tell_found(s, f, SCAN_ROW_PART, true, n->who, "a part of the features of the row",
                           offset);
        else if (!is_told(f, n->who, offset - n->within))
                tell_found(s, f, SCAN_ROW, true, n->who, "the features of the row",
                           offset - n->within);
}

/* --- pseudonyms --- */

/* Where a pseudonym has to stand: suppressions, the index, the audit log; erasures that are told
 * again to a backup that is restored. */
static bool is_bookkeeping(const struct scan_file *f)
{
        const char *slash = strrchr(f->path, '/'), *name = slash != NULL ? slash + 1 : f->path;
        return f->relative == NULL || /* an image: whose bytes these are cannot be told */
               strcmp(name, "control.mdb") == 0 || ends_in(name, ".ledger");
}

static void judge_pseudonym(struct scan *s, struct scan_file *f, const struct needle *n,
                            uint64_t offset)
{
        const bool row = take_row(f, offset) && offset == f->row_at;
        if (row && !is_told(f, n->who, f->row_at))
                tell_found(s, f, SCAN_ROW, true, n->who,
                           n->rule == RULE_ROWS_ALONE ? "a row of a record of the subject"
                                                      : "a row with the record's pseudonym",
                           offset);
        if (row || n->rule == RULE_ROWS_ALONE)
                return;
        if (is_bookkeeping(f))
                tell_found(s, f, SCAN_PSEUDONYM, false, n->who,
                           "a pseudonym, where it keeps the person out", offset);
        else
                tell_found(s, f, SCAN_PSEUDONYM, true, n->who, n->what, offset);
}

int judge(struct scan *s, struct scan_file *f, const struct needle *n, const uint8_t *data,
          size_t data_len, size_t at, size_t len, uint64_t offset)
{
        if (n->rule == RULE_WHOLE_WORD && !is_whole_word(data, data_len, at, len))
                return 0;
        switch ((enum scan_kind)n->kind) {
        case SCAN_ROW:
        case SCAN_ROW_PART:
                judge_row(s, f, n, offset);
                break;
        case SCAN_PSEUDONYM:
                judge_pseudonym(s, f, n, offset);
                break;
        case SCAN_CHECKPOINT:
                judge_provenance(s, f, offset);
                break;
        case SCAN_ID:
        case SCAN_HASH:
        case SCAN_TEXT:
        case SCAN_TOKEN:
        case SCAN_WORD:
                tell_found(s, f, (enum scan_kind)n->kind, n->kind != SCAN_WORD, n->who, n->what,
                           offset);
                break;
        }
        return s->err;
}
