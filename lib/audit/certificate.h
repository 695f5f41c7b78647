/* SPDX-License-Identifier: Apache-2.0
 * certificate.h: what an erasure's certificate says, written and checked; pure, so that a verifier
 * needs no daemon. It is an in-toto Statement v1 in a DSSE envelope (dsse.h). Its subjects are the
 * checkpoints of the new constituents; its predicate is described, with a JSON Schema, in
 * docs/erasure-certificate-v1.md. No member is ever left out, and none says who was forgotten.
 *
 * The log's entry "erasure.completed" holds the SHA-256 of the statement ("certificate"), so that a
 * proof of the entry (proof.h) is one of the certificate. */
#ifndef UNLEARND_AUDIT_CERTIFICATE_H
#define UNLEARND_AUDIT_CERTIFICATE_H

#include "lib/audit/note.h"
#include "lib/util/json.h"

#define CERTIFICATE_PREDICATE_TYPE "urn:unlearnd:erasure-certificate:v1"
#define CERTIFICATE_PAYLOAD_TYPE "application/vnd.in-toto+json"
#define CERTIFICATE_ENTRY_TYPE "erasure.completed"

enum {
        CERTIFICATE_CONSTITUENTS_MAX = 1024, /* said one by one; more are counted */
        CERTIFICATE_DIGESTS_MAX = 4096,      /* of destroyed checkpoints, said one by one */
};

enum certificate_outcome {
        CERTIFICATE_RETRAINED,     /* a new constituent stands in the place of the old one */
        CERTIFICATE_NEVER_TRAINED, /* no constituent had been trained on the records */
        CERTIFICATE_MODEL_DELETED, /* before it could be retrained */
};

/* Where the people whom the request named were looked for, and may not be loaded again. */
enum certificate_scope {
        CERTIFICATE_ALL_MODELS,   /* in every model that there was */
        CERTIFICATE_NAMED_MODELS, /* in those that the request named, or for records their own */
};

/* What became of one shard. Pointers are borrowed. */
struct certificate_constituent {
        const char *model;
        uint32_t shard, slice; /* slice: the first one that held a record of the erasure */
        uint64_t records;      /* overwritten in it */
        enum certificate_outcome outcome;
        uint32_t first, destroyed;              /* checkpoints of slices first.. */
        const uint8_t (*digests)[SHA256_BYTES]; /* [destroyed]; the last: the one served before */
        uint32_t slices;                        /* of the new one; 0 unless RETRAINED */
        const uint8_t *file_hash, *data_hash, *retained, *config_hash; /* [SHA256_BYTES] */
        uint64_t retained_records;
        int64_t trained_ms;
        const char *kernel;
};
struct certificate {
        const char *erasure;    /* ULID */
        const char *regulation; /* NULL: none */
        const char *reference;  /* "": none */
        const char *guarantee;
        const char *software;
        int64_t received_ms, accepted_ms, forgotten_ms, scrubbed_ms, completed_ms, deadline_ms;
        int64_t first_deadline_ms; /* before it was extended; 0: it was not */
        uint64_t matched;
        enum certificate_scope scope;
        const struct certificate_constituent *constituents; /* [count] */
        uint32_t count, left_out; /* left_out: those past CERTIFICATE_CONSTITUENTS_MAX */
        uint64_t destroyed;       /* checkpoints, of all */
        const char *origin;       /* of the log */
        uint64_t forgotten_index, completed_index;
        const uint8_t *forgotten_entry; /* [SHA256_BYTES] of its bytes: the subject where no
                                           constituent is new */
};
/* Appends the statement. */
void certificate_write(const struct certificate *c, struct buf *out);

/* A certificate whose signature holds. */
struct certificate_read {
        struct buf statement;
        struct json *doc;
        const struct json *predicate; /* of doc */
        uint8_t digest[SHA256_BYTES]; /* of the statement */
        const char *erasure;
        uint64_t log_index;
};
/* 0: signed by the key of the log that it names, and of our form. The field of `e` says which check
 * failed: "signature", "statement". key NULL: whose it is is not checked. The caller clears `out`
 * in every case. */
int certificate_open(const void *envelope, size_t len, const struct note_key *key,
                     struct certificate_read *out, struct errinfo *e);
void certificate_clear(struct certificate_read *c);
/* Whether the log entry that a tlog-proof proves is the one that records this certificate; field:
 * "checkpoint", "inclusion", "entry". *head: the log that it is proved to be in. */
int certificate_check_proof(const struct certificate_read *c, const void *proof, size_t len,
                            const struct note_key *key, struct checkpoint *head, struct errinfo *e);

#endif
