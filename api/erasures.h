/* SPDX-License-Identifier: Apache-2.0
 * erasures.h: the handlers that erasures.c lists in its routes and that live in files of their own.
 */
#ifndef UNLEARND_API_ERASURES_H
#define UNLEARND_API_ERASURES_H

#include "api/erasure_parse.h"
#include "api/http.h"

/* Hashes through the service of `req`. */
struct erasure_reader erasure_reader_of(struct request *req, bool batch);

/* erasure_batch.c */
enum { BATCH_BODY_MAX = 16 * 1024 * 1024 }; /* 10,000 requests of 1.6 KB */
enum handler_result erase_batch(struct request *req);
/* erasure_decide.c */
enum handler_result release_erasure(struct request *req);
enum handler_result refuse_erasure(struct request *req);
enum handler_result extend_erasure(struct request *req);
/* suppressions.c */
enum handler_result list_suppressions(struct request *req);
enum handler_result lift_suppression(struct request *req);
/* suppression_export.c */
enum handler_result export_suppressions(struct request *req);
/* suppression_import.c */
extern const struct upload_ops suppression_import_ops;

#endif
