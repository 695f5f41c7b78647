/* SPDX-License-Identifier: Apache-2.0
 * routes.c: the daemon's route table: every resource's routes, joined. It stands alone so that a
 * test can serve a table of its own. */
#include "api/routes.h"
#include "api/router.h"
#include <pthread.h>

static struct route_table table;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void build(void)
{
        const struct route *const arrays[] = {
                models_routes,  records_routes, erasures_routes, certificates_routes, audit_routes,
                jobs_routes,    backups_routes, infer_routes,    webhooks_routes,     events_routes,
                recalls_routes, opendsr_routes, ops_routes,      witnesses_routes};
        route_table_build(&table, arrays, sizeof arrays / sizeof arrays[0]);
}

const struct route_table *route_table_default(void)
{
        pthread_once(&once, build);
        return &table;
}
