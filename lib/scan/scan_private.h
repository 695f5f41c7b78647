/* SPDX-License-Identifier: Apache-2.0
 * scan_private.h: what the files of the scanner share, and nobody else includes. people.c and
 * record.c turn what is asked for into needles, files.c reads, judge.c says what a hit is,
 * commitment.c does so for checkpoints, learn.c finds out what a directory holds. */
#ifndef UNLEARND_SCAN_SCAN_PRIVATE_H
#define UNLEARND_SCAN_SCAN_PRIVATE_H

#include "lib/models/config.h"
#include "lib/records/encode.h"
#include "lib/scan/match.h"
#include "lib/scan/scan.h"
#include "lib/util/bytes.h"

enum {
        SCAN_PATH_MAX = 4096,
        EVIDENCE_BYTES_MIN = 8,
        NOBODY = UINT32_MAX,
        /* bytes of a file that are read around a needle: a word's neighbours */
        SCAN_MARGIN = MATCH_BYTES_MAX + 1,
};

/* A subject or a record. */
struct person {
        uint8_t digest[SHA256_BYTES]; /* of the id */
        uint8_t pseudonym[PSEUDONYM_BYTES];
        bool is_subject, is_record;
        uint32_t group; /* of a record: its subject, or NOBODY */
        char who[SCAN_WHO_MAX];
};

/* A pseudonym that a row of a searched record has. */
struct searched {
        uint8_t pseudonym[PSEUDONYM_BYTES];
        uint32_t who, group; /* the person; the subject that it belongs to, or NOBODY */
        bool learned;        /* from the control database's bytes; else its id was given */
};

/* The features of a record in one encoding. */
struct features {
        size_t at; /* in scan.feature_bytes */
        uint32_t bytes;
};

/* What a pattern of the matcher stands for. */
enum needle_rule {
        RULE_ANYWHERE,
        RULE_WHOLE_WORD, /* only between characters that no id has */
        RULE_ROWS_ALONE, /* only where it begins a row */
        RULE_PROVENANCE, /* of a checkpoint */
};
struct needle {
        uint8_t kind; /* enum scan_kind */
        uint8_t rule;
        uint32_t who;      /* index of a person, or NOBODY */
        uint32_t features; /* index, of rows */
        uint32_t within;   /* offset of the piece in them */
        const char *what;  /* static */
};

/* Live pseudonyms of one shard. */
struct member {
        uint8_t pseudonym[PSEUDONYM_BYTES];
        uint32_t slice;
};
struct shard_members {
        struct member *members; /* [count], sorted by pseudonym */
        size_t count, capacity;
        uint32_t slices;
        uint8_t (*commitments)[SHA256_BYTES]; /* [slices] */
};

/* A file that is being read. */
struct scan_file {
        int fd;
        const char *path;     /* as it is told */
        const char *relative; /* below the directory; NULL: an image */
        uint64_t bytes;
        bool is_rows;
        struct row_shape shape; /* of a row file */
        /* the row read last, of a row file */
        uint8_t *row; /* [row_bytes(&shape)], owned */
        uint64_t row_at;
        bool has_row;
        /* the last finding: neighbours of the same kind are told once */
        uint32_t last_who, last_kind;
        uint64_t last_at;
        bool has_last;
};

struct scan {
        /* set once */
        const char *data_dir;
        const uint8_t *key;
        struct scan_events events;
        /* what the directory holds */
        struct model_config **configs; /* [config_count], owned */
        size_t config_count;
        struct row_shape *shapes; /* [shape_count] of its row files */
        size_t shape_count;
        /* what is looked for */
        struct matcher *matcher;
        struct needle *needles; /* [needle_count]; a pattern's tag is its index */
        size_t needle_count, needle_capacity;
        struct person *people; /* [people_count] */
        size_t people_count, people_capacity;
        uint32_t *slots; /* [slot_count] open addressing by digest; NOBODY: free */
        size_t slot_count;
        struct features *features; /* [feature_count] */
        size_t feature_count, feature_capacity;
        struct buf feature_bytes;
        struct searched *searched; /* [searched_count] sorted by pseudonym, once it is ready */
        size_t searched_count, searched_capacity;
        bool ready; /* the matcher is built: nothing more is added */
        bool quiet; /* a walk that only learns: the one that searches tells what is unread */
        /* the shards of all models, for commitments */
        struct shard_members *shards; /* [shard_count] */
        size_t shard_count;
        char shard_folder[SCAN_PATH_MAX]; /* of the one that is being read */
        /* results */
        struct scan_totals totals;
        int err; /* the first error of a callback that ends the scan */
};

/* Grows an array of items by doubling, wiping what it leaves; UL_NOMEM. */
int scan_grow(void *array, size_t count, size_t *capacity, size_t item_bytes, struct errinfo *e);

/* --- people.c --- */
/* Finds or adds; new ids are made needles of. */
int person_add(struct scan *s, const char *id, size_t len, bool is_subject, const char *who,
               uint32_t *out, struct errinfo *e);
int needle_add(struct scan *s, const struct needle *n, const void *bytes, size_t len,
               struct errinfo *e);
/* Whether bytes are so many and so varied that they do not occur by chance. */
bool is_evidence(const uint8_t *p, size_t len);
void tell_unsearchable(struct scan *s, const char *who, const char *why);

/* --- learn.c --- */
/* The end of the JSON object that begins `text`; 0 where it does not end. */
size_t scan_object_end(const char *text, size_t len);
int learn_directory(struct scan *s, struct errinfo *e);
/* Fills `searched`: the records whose ids were given, and those of the searched subjects, from
 * what the control database's bytes say. */
int learn_records(struct scan *s, struct errinfo *e);
int searched_add(struct scan *s, const uint8_t *pseudonym, uint32_t who, uint32_t group,
                 bool learned, struct errinfo *e);
bool pseudonym_is_searched(const struct scan *s, const uint8_t pseudonym[PSEUDONYM_BYTES]);

/* --- files.c --- */
/* Calls `fn` with every stretch of data of an open file: bytes [from, to) of `data` stand at
 * `offset` + from on; what is around them is there for context. UL_IO, or what fn returned. */
typedef int (*scan_block_fn)(void *arg, const uint8_t *data, size_t len, size_t from, size_t to,
                             uint64_t offset);
int read_blocks(int fd, uint64_t bytes, scan_block_fn fn, void *arg, uint64_t *read_bytes,
                struct errinfo *e);
/* Calls `fn` for every regular file below `root`. Everything else is told as unread. */
typedef int (*scan_file_fn)(struct scan *s, int fd, const char *path, const char *relative,
                            struct errinfo *e);
int walk_files(struct scan *s, const char *root, scan_file_fn fn, struct errinfo *e);
void tell_unread(struct scan *s, const char *path, const char *why);
/* The shape of a row file; false where the file is none. */
bool read_row_shape(int fd, uint64_t bytes, struct row_shape *out);
bool ends_in(const char *text, const char *end);

/* --- judge.c --- */
/* One hit of a needle at `offset` of the file; data[at..at + len) is it. */
int judge(struct scan *s, struct scan_file *f, const struct needle *n, const uint8_t *data,
          size_t data_len, size_t at, size_t len, uint64_t offset);
void tell_found(struct scan *s, struct scan_file *f, enum scan_kind kind, bool trace, uint32_t who,
                const char *what, uint64_t offset);

/* --- commitment.c --- */
int commitments_read(struct scan *s, struct errinfo *e);
void commitments_free(struct scan *s);
/* The provenance whose member "retained" stands at `offset`. */
void judge_provenance(struct scan *s, struct scan_file *f, uint64_t offset);

#endif
