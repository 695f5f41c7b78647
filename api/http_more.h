/* SPDX-License-Identifier: Apache-2.0
 * http_more.h: what several resource handlers share on top of http.h: ids and names out of paths
 * and queries, strictly read; a list of one page, written item by item; a problem document that
 * carries members of its own. It knows no resource and, like them, no libmicrohttpd. */
#ifndef UNLEARND_API_HTTP_MORE_H
#define UNLEARND_API_HTTP_MORE_H

#include "api/http.h"

/* A page ends early where its text grows past this: items may be large (a verify job's result). */
enum { LIST_BYTES_MAX = 4 * 1024 * 1024, LIST_CURSOR_MAX = 128 };
/* A page that finds too little in this time is given as far as it got, with a cursor. */
enum { PAGE_BUDGET_US = 200 * 1000 };

/* The path's id. A text that is no ULID names nothing: UL_NOT_FOUND, saying what `what` ids are. */
int param_ulid(const struct request *req, const char *name, const char *what,
               uint8_t out[ULID_BYTES], struct errinfo *e);
/* The path's decimal number; anything else is UL_NOT_FOUND. */
int param_u64(const struct request *req, const char *name, uint64_t *out, struct errinfo *e);

/* UL_SYNTAX with the parameter's name unless absent (*seen false) or valid. */
int query_ulid(const struct request *req, const char *name, bool *seen, uint8_t out[ULID_BYTES],
               struct errinfo *e);
int query_model(const struct request *req, const char **out, struct errinfo *e);
int query_reference(const struct request *req, const char **out, struct errinfo *e);
/* since, until; 0 where absent. An empty interval is refused. */
int query_interval(const struct request *req, int64_t *since_ms, int64_t *until_ms,
                   struct errinfo *e);
/* An export has no limit and no cursor. */
int query_unpaged(const struct request *req, struct errinfo *e);
/* One of `names` (NULL-terminated); *out NULL where absent. */
int query_choice(const struct request *req, const char *name, const char *const *names,
                 const char **out, struct errinfo *e);

/* A subject or record id of a path or query to its pseudonym. UL_SYNTAX for one over ID_BYTES_MAX.
 */
int pseudonym_of_text(struct service *s, const char *name, const char *id,
                      uint8_t out[PSEUDONYM_BYTES], struct errinfo *e);

/* A body that may be absent or hold an empty JSON object, and nothing else. */
int request_no_content(struct request *req, struct errinfo *e);

/* One page of a list. For each item that the service offers: stop where list_full() says so, else
 * write the item through `w` and leave in `next` the cursor that would continue after it. */
struct list {
        struct buf out;
        struct json_writer w;
        uint32_t limit, count;
        bool more;
        char next[LIST_CURSOR_MAX];
};
void list_begin(struct list *l, uint32_t limit);
/* True: this item belongs to the next page. Counts the item otherwise. */
bool list_full(struct list *l);
/* Closes the document and replies; err != 0: replies with the problem instead. */
enum handler_result list_reply(struct request *req, struct list *l, int err,
                               const struct errinfo *e);

/* A list that has no pages: items_begin() opens {"items": [, items_reply() closes it and replies;
 * err != 0: replies with the problem instead. */
void items_begin(struct json_writer *w, struct buf *out);
enum handler_result items_reply(struct request *req, struct json_writer *w, int err,
                                const struct errinfo *e);

/* The headers of a page for people. */
void reply_page_headers(struct request *req, const char *policy);

/* Joins two JSON objects' texts: the members of `from` go to the end of `into`. */
void json_join(struct buf *into, const struct buf *from);

#endif
