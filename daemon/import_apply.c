/* SPDX-License-Identifier: Apache-2.0
 * import_apply.c: suppressions of another instance with the same pseudonym key, inside a
 * transaction. Each is one of four things: new here; there already; lifted here before, which
 * stands; and beside that, of somebody who is held here. A suppression says that a person may not
 * be loaded again, so it takes nothing away by itself: whoever is held is reported, and erased by
 * an erasure of its own where that was asked for (suppress_import.c). A staged upload that would
 * bring a suppressed person in is called off, as an erasure would do. */
#include "daemon/state.h"
#include "daemon/suppress.h"
#include "daemon/upload.h"

#include "lib/util/crash_point.h"
#include <stdlib.h>
#include <string.h>

struct applying {
        struct service *s;
        struct txn *t;
        struct import_step *step;
        struct model **models; /* [model_count], referenced: all there are */
        uint32_t model_count;
};

struct look {
        struct txn *t;
        bool held;
        int err;
};

static int see_record(void *arg, const uint8_t record[PSEUDONYM_BYTES],
                      const struct record_row *row)
{
        struct look *l = arg;
        bool staged = false;
        (void)record;
        l->err = record_staged(l->t, row, &staged);
        l->held = l->err == 0 && !staged;
        return l->held ? 1 : l->err;
}

static int call_off(struct applying *a, uint32_t upload)
{
        a->step->called_off++;
        return upload_call_off(a->t, upload);
}

static int subject_held(struct applying *a, const struct model *m,
                        const uint8_t subject[PSEUDONYM_BYTES], bool *held)
{
        struct subject_row row;
        uint32_t active = 0;
        int err = t_subject_get(a->t, m->id, subject, &row);
        if (err != 0 || row.erased)
                return err == UL_NOT_FOUND ? 0 : err;
        if (row.staged != 0)
                err = upload_staged(a->t, m->id, &active);
        bool staged = err == 0 && active != 0 && active == row.staged;
        if (err == 0 && staged) { /* the counts are not of live rows alone */
                struct look l = {.t = a->t};
                (void)t_record_each_of_subject(a->t, m->id, subject, NULL, see_record, &l);
                err = l.err != 0 ? l.err : txn_error(a->t);
                *held = *held || l.held;
        } else {
                *held = *held || row.slice_count > 0;
        }
        return err == 0 && staged ? call_off(a, active) : err;
}

static int record_held(struct applying *a, const struct model *m,
                       const uint8_t record[PSEUDONYM_BYTES], bool *held)
{
        struct record_row row;
        struct subject_row subject;
        bool staged = false;
        int err = t_record_get(a->t, m->id, record, &row);
        if (err == 0)
                err = record_staged(a->t, &row, &staged);
        if (err == 0 && staged)
                return call_off(a, row.upload);
        if (err == 0)
                err = t_subject_get(a->t, m->id, row.subject, &subject);
        if (err == 0)
                *held = *held || !subject.erased;
        return err == UL_NOT_FOUND ? 0 : err;
}

static int look_for(struct applying *a, const struct ledger_suppression *x, bool *held)
{
        int err = 0;
        for (uint32_t i = 0; i < a->model_count && err == 0; i++) {
                const struct model *m = a->models[i];
                if (x->model[0] != '\0' && strcmp(x->model, m->config->name) != 0)
                        continue;
                err = x->record ? record_held(a, m, x->pseudonym, held)
                                : subject_held(a, m, x->pseudonym, held);
        }
        return err;
}

/* *stands: it is suppressed here from now on (a lift of the same erasure's stands against it). */
static int suppress(struct applying *a, const struct ledger_suppression *x, bool *stands)
{
        struct import_step *step = a->step;
        struct suppression_row row = {.since_ms = x->since_ms}, there;
        const uint32_t kind = x->record ? SUPPRESS_RECORD : SUPPRESS_SUBJECT;
        uint32_t scope = 0;
        int err = x->model[0] != '\0' ? model_scope(a->t, x->model, true, &scope) : 0;
        if (err == 0)
                err = t_suppression_get(a->t, x->pseudonym, scope, kind, &there);
        bool already = err == 0;
        if (err == UL_NOT_FOUND)
                err = t_suppression_noted(a->t, x->pseudonym, scope, kind, x->erasure);
        bool lifted = err == 0 && !already;
        *stands = !lifted;
        step->already += already;
        step->lifted += lifted;
        if (err != UL_NOT_FOUND && (err != 0 || lifted))
                return err;
        err = t_suppression_note(a->t, x->pseudonym, scope, kind, x->erasure);
        if (err != 0 || already)
                return err;
        memcpy(row.erasure, x->erasure, ULID_BYTES);
        memcpy(row.import, step->id, ULID_BYTES);
        step->added[step->added_count++] = *x;
        return t_suppression_put(a->t, x->pseudonym, scope, kind, &row);
}

static int audit_step(const struct applying *a, int64_t now)
{
        static const char *const types[] = {"suppressions.imported",
                                            "suppressions.import_replayed"};
        struct import_step *step = a->step;
        uint8_t(*of)[PSEUDONYM_BYTES] = malloc((step->added_count + 1) * sizeof *of);
        uint32_t subjects = 0, records = step->added_count;
        struct event ev;
        if (of == NULL)
                return txn_fail(a->t, UL_NOMEM);
        for (uint32_t i = 0; i < step->added_count; i++) /* subjects first, records last */
                memcpy(of[step->added[i].record ? --records : subjects++], step->added[i].pseudonym,
                       PSEUDONYM_BYTES);
        struct audit_keys keys = {.subjects = (const uint8_t(*)[PSEUDONYM_BYTES])of,
                                  .subject_count = subjects,
                                  .records = (const uint8_t(*)[PSEUDONYM_BYTES])(of + records),
                                  .record_count = step->added_count - records};
        event_begin(&ev);
        event_ulid(&ev, "import", step->id);
        jw_member_u64(&ev.w, "added", step->added_count);
        jw_member_u64(&ev.w, "already", step->already);
        jw_member_u64(&ev.w, "lifted", step->lifted);
        jw_member_u64(&ev.w, "held", step->held_count);
        if (step->replayed)
                jw_member_time(&ev.w, "imported_at", now);
        int err = event_append(&ev, a->s, a->t, types[step->replayed], step->actor, &keys, NULL);
        free(of);
        return err;
}

int import_apply(struct service *s, struct txn *t, const struct ledger_suppression *entries,
                 uint32_t count, int64_t imported_ms, uint64_t budget_us, struct import_step *step,
                 struct errinfo *e)
{
        struct applying a = {.s = s, .t = t, .step = step};
        const uint64_t began = mono_us();
        int err = registry_all(s, &a.models, &a.model_count, e);
        if (err != 0)
                return err;
        for (step->taken = 0; step->taken < count && err == 0; step->taken++) {
                bool held = false, stands = false;
                if (step->taken > 0 && budget_us != 0 && mono_us() - began > budget_us)
                        break;
                err = suppress(&a, &entries[step->taken], &stands);
                if (err == 0 && stands)
                        err = look_for(&a, &entries[step->taken], &held);
                if (held)
                        step->held[step->held_count++] = step->taken;
        }
        registry_release(a.models, a.model_count);
        if (err == 0 && (step->added_count > 0 || step->replayed)) /* else the ledger has no line */
                err = t_import_put(t, step->id, imported_ms, step->added_count);
        if (err == 0)
                err = audit_step(&a, imported_ms);
        CRASH_POINT("import.recorded");
        return err == 0 ? 0 : ul_fail(e, err, "the suppressions could not be recorded");
}
