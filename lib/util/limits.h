/* SPDX-License-Identifier: Apache-2.0
 * limits.h: everything has a maximum at birth; here they are, each with its reason. */
#ifndef UNLEARND_UTIL_LIMITS_H
#define UNLEARND_UTIL_LIMITS_H

#ifdef UNLEARND_FUZZ
#define FUZZ_OR(small, limit) (small) /* so that the inputs of a fuzzer reach past it */
#else
#define FUZZ_OR(small, limit) (limit)
#endif

enum {
        MODEL_NAME_MAX = 63,      /* [a-z0-9][a-z0-9_-]{0,62}: a file name and a metric label */
        ID_BYTES_MAX = 512,       /* a record or subject id: longer than any e-mail address */
        LABEL_BYTES_MAX = 128,    /* a class label */
        COLUMN_NAME_MAX = 128,    /* a tabular column */
        CATEGORY_BYTES_MAX = 128, /* one categorical value */
        REFERENCE_MAX = 64,       /* the caller's ticket */
        FEATURES_MAX = 65536,     /* width of an encoded row */
        CLASSES_MAX = 1000,
        TARGETS_MAX = 64,
        HIDDEN_LAYERS_MAX = 8,
        HIDDEN_UNITS_MAX = 8192,
        SHARDS_MAX = 256,
        SLICES_MAX = 64,         /* configured slices */
        SLICES_TOTAL_MAX = 4096, /* with those that later training runs append */
        EPOCHS_MAX = 10000,
        BATCH_MAX = 4096,
        COLUMNS_MAX = 1024,
        CATEGORIES_MAX = 1024, /* values of one column */
        MODELS_MAX = 1024,
        PARAMETERS_MAX = 64 * 1024 * 1024,    /* of one constituent: 256 MiB of f32 */
        MODEL_CONFIG_BYTES_MAX = 1024 * 1024, /* its JSON */
        JSON_BODY_MAX = 1024 * 1024,          /* control requests */
        INFER_BODY_MAX = 16 * 1024 * 1024,
        NDJSON_LINE_MAX = FUZZ_OR(512, 1024 * 1024),
        BATCH_ERASURES_MAX = 10000,  /* lines of one :batch */
        ERASURE_SUBJECTS_MAX = 1000, /* in one request: the writer's 50 ms */
        ERASURE_RECORDS_MAX = 1000,
        ERASURE_MODELS_MAX = 64,
        UPLOAD_ERRORS_MAX = 100,  /* reported lines */
        UPLOAD_BATCH_ROWS = 2048, /* rows of one index commit */
        UPLOAD_BATCH_BYTES = 8 * 1024 * 1024,
        INTAKES_MAX = 64, /* uploads and evaluations at a time: two batches of memory each */
        IDEMPOTENCY_KEY_MAX = 255,
        IDEMPOTENCY_TTL_S = 7 * 24 * 3600, /* a client's longest retry */
        LIST_LIMIT_MAX = 1000,
        LIST_LIMIT_DEFAULT = 100,
        JOBS_KEPT = 10000,        /* older ones that have ended are pruned */
        AUDIT_ENTRY_MAX = 60000,  /* under the tile format's 64 KiB */
        PREDICT_ROWS_MAX = 65536, /* rows of one request */
        TOKENS_MAX = 1024,
        EVENT_STREAMS_MAX = 64,        /* each costs the writer a wake-up a commit */
        OPENDSR_URLS_MAX = 10,         /* callbacks of one request */
        OPENDSR_URL_MAX = 1024,        /* ten of them in a value of the store */
        URL_MAX = 2048,                /* of a callback: what servers take at the least */
        DELIVERY_BODY_MAX = 64 * 1024, /* an audit entry and its wrapping */
        DELIVERY_HEADERS_MAX = 4096,
        DELIVERIES_MAX = 1000000, /* waiting: further ones are dropped, and said so */
};

#endif
