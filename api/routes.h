/* SPDX-License-Identifier: Apache-2.0
 * routes.h: the route arrays of every resource, each ended by an entry whose method is NULL.
 * router.c joins them to the one table that feeds dispatch, 405 Allow and the tests. */
#ifndef UNLEARND_API_ROUTES_H
#define UNLEARND_API_ROUTES_H

#include "api/http.h"

extern const struct route models_routes[];       /* models.c: /v1/models and what hangs below it */
extern const struct route records_routes[];      /* records.c: uploads, evaluate, one record */
extern const struct route erasures_routes[];     /* erasures.c: erasures and suppressions */
extern const struct route certificates_routes[]; /* certificates.c: below an erasure */
extern const struct route audit_routes[];        /* audit.c */
extern const struct route witnesses_routes[];    /* witnesses.c */
extern const struct route jobs_routes[];         /* jobs.c */
extern const struct route backups_routes[];      /* backups.c */
extern const struct route webhooks_routes[];     /* webhooks.c */
extern const struct route recalls_routes[];      /* recalls.c */
extern const struct route events_routes[];       /* events.c */
extern const struct route infer_routes[];        /* infer.c: /v2 and :predict */
extern const struct route opendsr_routes[];      /* opendsr.c: /opendsr/v2 */
extern const struct route ops_routes[];          /* ops.c: /metrics, /openapi.json */

#endif
