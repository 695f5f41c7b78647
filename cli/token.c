/* SPDX-License-Identifier: Apache-2.0
 * token.c: a new token, made offline: the secret, shown once, and the line for the daemon's tokens
 * file, which has only its hash. */
#include "cli/commands.h"
#include "cli/http.h"
#include "lib/util/crypto.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct token_options {
        const char *name, *scope, *rate;
};
const struct option_spec token_new_options[] = {
        {"name", "NAME", OPTION_TEXT, offsetof(struct token_options, name),
         "who it is for: the actor in the audit log"},
        {"scope", "A,B,...", OPTION_TEXT, offsetof(struct token_options, scope),
         "of ingest, predict, erase, audit, admin (all)"},
        {"rate", "N/SECONDS", OPTION_TEXT, offsetof(struct token_options, rate),
         "at most N requests in so many seconds"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t token_new_options_size = sizeof(struct token_options);

static bool name_valid(const char *name)
{
        static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                      "0123456789._-";
        size_t len = strlen(name);
        return len >= 1 && len <= 63 && strspn(name, letters) == len &&
               strchr("._-", *name) == NULL;
}

static bool scopes_valid(const char *scopes)
{
        static const char *const names[] = {"ingest", "predict", "erase", "audit", "admin"};
        for (;;) {
                const char *comma = strchr(scopes, ',');
                size_t len = comma != NULL ? (size_t)(comma - scopes) : strlen(scopes);
                bool known = false;
                for (size_t i = 0; i < sizeof names / sizeof *names; i++)
                        known = known ||
                                (strlen(names[i]) == len && memcmp(names[i], scopes, len) == 0);
                if (!known || comma == NULL)
                        return known;
                scopes = comma + 1;
        }
}

/* N/SECONDS, as the tokens file has it. */
static bool rate_valid(const char *rate)
{
        enum { DAY_SECONDS = 86400 }; /* the longest window that the daemon takes */
        static const char digits[] = "0123456789";
        size_t n = strspn(rate, digits), m = rate[n] == '/' ? strspn(rate + n + 1, digits) : 0;
        return n >= 1 && n <= 9 && m >= 1 && m <= 9 && rate[n + 1 + m] == '\0' && rate[0] != '0' &&
               rate[n + 1] != '0' && strtoul(rate + n + 1, NULL, 10) <= DAY_SECONDS;
}

static void print_token(const struct ctl *c, const struct token_options *o, const char *token,
                        const char *hash)
{
        char rate[32] = "";
        if (o->rate != NULL)
                (void)snprintf(rate, sizeof rate, " rate=%s", o->rate);
        if (c->json) {
                (void)printf("{\"token\":\"%s\",\"line\":\"%s %s %s%s\"}\n", token, o->name,
                             o->scope, hash, rate);
                return;
        }
        (void)printf("token  %s\n", token);
        (void)printf("line   %s %s %s%s\n", o->name, o->scope, hash, rate);
        remark("keep the token now: it is shown once. The line goes into the daemon's tokens "
               "file; systemctl reload unlearnd (SIGHUP) reads it.");
}

int token_new_run(struct ctl *c, const struct operands *in, const void *options)
{
        enum { SECRET = 32 };
        const struct token_options *o = options;
        uint8_t secret[SECRET], digest[SHA256_BYTES];
        char token[4 + 2 * SECRET + 1] = "uln_", hash[2 * SHA256_BYTES + 1];
        (void)in;
        if (o->name == NULL || o->scope == NULL)
                return complain_usage("token new needs --name NAME and --scope A,B,...");
        if (!name_valid(o->name))
                return complain_usage("a name is up to 63 letters, digits, '.', '_' and '-'");
        if (!scopes_valid(o->scope))
                return complain_usage("scopes are ingest, predict, erase, audit and admin, joined "
                                      "by commas");
        if (o->rate != NULL && !rate_valid(o->rate))
                return complain_usage("--rate takes N/SECONDS, as in --rate 100/60");
        random_bytes(secret, sizeof secret);
        hex_encode(secret, sizeof secret, token + 4);
        sha256(token, strlen(token), digest);
        hex_encode(digest, sizeof digest, hash);
        print_token(c, o, token, hash);
        wipe(secret, sizeof secret);
        wipe(token, sizeof token);
        return 0;
}
