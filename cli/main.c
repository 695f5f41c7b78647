/* SPDX-License-Identifier: Apache-2.0
 * main.c: unlearnctl, the client. One table has every command: its name, what it takes, its help
 * and its function; the usage texts, --help and the completion are made of it. */
#include "cli/commands.h"

#include "cli/http.h"
#include "lib/util/crypto.h"
#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_URL "http://127.0.0.1:8417"

#define WITH(name) name##_options, &name##_options_size, name##_run
static const char file_help[] =
        "FILE is NDJSON, CSV (comma, semicolon, tab or bar) or a NumPy array, plain, gzip or "
        "zstd;\n"
        "- is the standard input. It is streamed. Where the daemon cannot read it as it is, rows\n"
        "are turned into NDJSON on the way; line numbers stay those of the file.";

static const struct command commands[] = {
        {"status", "", 0, 0, NULL, NULL, status_run, "is the daemon well; models; pending erasures",
         NULL},
        {"model create", "NAME [options]", 1, 1, WITH(model_create), "make a model",
         "With --from-csv the columns and classes are worked out from FILE and the encoder is\n"
         "tabular. A value that fewer than ten people have is not named in the schema (it counts\n"
         "as \"other\"): the schema holds nobody's data."},
        {"model list", "", 0, 0, NULL, NULL, model_list_run, "all models", NULL},
        {"model show", "NAME", 1, 1, NULL, NULL, model_show_run, "configuration and state", NULL},
        {"model delete", "NAME [--yes]", 1, 1, WITH(model_delete),
         "delete a model and overwrite its bytes", NULL},
        {"load", "MODEL FILE [options]", 2, 2, WITH(load), "load records", file_help},
        {"train", "MODEL [--wait]", 1, 1, WITH(train), "train on what has been loaded", NULL},
        {"compact", "MODEL [--wait]", 1, 1, WITH(compact),
         "bring appended slices back into the configured ones",
         "Records that came after the first training stand in slices of their own, each a stage "
         "more\n"
         "of every retrain. They go where a first load would have put them, and their shards are\n"
         "trained anew while the model is served as it was."},
        {"predict", "MODEL FILE [options]", 2, 2, WITH(predict), "predictions for rows of a file",
         "FILE is NDJSON (objects with features, text or columns) or CSV; - is the standard\n"
         "input."},
        {"evaluate", "MODEL FILE [options]", 2, 2, WITH(evaluate),
         "compare predictions with labelled records, which are not stored", file_help},
        {"erase", "--subject S | --record MODEL:ID | --from-file FILE [options]", 0, 0, WITH(erase),
         "forget people",
         "When it returns, no prediction is influenced by the erased records any more. --wait\n"
         "shows when their bytes are gone (scrubbed) and the model is back at full strength\n"
         "(completed)."},
        {"erasures", "[filters]", 0, 0, WITH(erasures), "list erasures, newest first", NULL},
        {"erasure", "ID", 1, 1, NULL, NULL, erasure_run, "one erasure", NULL},
        {"erasure release", "ID", 1, 1, NULL, NULL, erasure_release_run,
         "execute an erasure that was held", NULL},
        {"erasure refuse", "ID --reason CODE", 1, 1, WITH(erasure_refuse),
         "refuse an erasure that was held", NULL},
        {"erasure extend", "ID --deadline TIME --reason CODE", 1, 1, WITH(erasure_extend),
         "extend a deadline, once, as far as the law allows", NULL},
        {"certificate",
         "ID [-o FILE] | --verify FILE --key VKEY [--proof FILE] [--witness VKEY]...", 0, 1,
         WITH(certificate), "the certificate of an erasure: get it, check it",
         "With ID it is fetched together with the proof that the log records it, and both are\n"
         "checked before anything is written. With --verify nothing is asked of any daemon: the\n"
         "key, the certificate and the proof are enough. An error names the check that failed:\n"
         "signature, statement, checkpoint, inclusion or entry."},
        {"audit", "[filters]", 0, 0, WITH(audit), "entries of the audit log", NULL},
        {"audit verify", "[--key VKEY] [--witness VKEY]... [--offline FILE --checkpoint FILE]", 0,
         0, WITH(audit_verify), "check the whole log: signature, entries, root, history",
         "The key and the checkpoint are remembered in $XDG_STATE_HOME/unlearnd (by default\n"
         "~/.local/state/unlearnd), by address: another key or another history is refused.\n"
         "With --offline an export of the log is checked against a checkpoint and the key:\n"
         "unlearnctl audit --export ndjson -o FILE --checkpoint FILE writes both.\n"
         "Each --witness must have cosigned a checkpoint that the log goes on from (offline: the\n"
         "checkpoint itself; --export with --cosigned writes such a one), and not longer than\n"
         "--witness-max-age days ago, counted from now."},
        {"report", "[--since T] [--until T] [--html]", 0, 0, WITH(report),
         "erasures of a period: received, in time, overdue, how long they took",
         "Times are medians, and the worst. --html is the page that prints."},
        {"audit rotate-key", "--data-dir D", 0, 0, WITH(audit_rotate_key),
         "a new signing key for the log, offline",
         "The daemon announces it in the log at its next start, signed by the old key, which it\n"
         "then removes. Old checkpoints verify with the old key; `audit verify` follows the log\n"
         "from a key that it knows to the present one. A backup from before needs the old key:\n"
         "keep a copy of keys/log.key while there are any, and put it back as keys/log.key.old."},
        {"verify", "MODEL [--shard N]... | --certificate FILE --data-dir DIR [--shard N]...", 0, 1,
         WITH(verify), "retrain shards from nothing and compare bytes; 1 if they differ",
         "With --certificate no daemon is asked: each constituent that the certificate names is\n"
         "trained again from the rows in DIR, and its bytes are compared with the digest in the\n"
         "certificate. Where a later erasure or training changed the rows, that is said instead."},
        {"shards", "MODEL", 1, 1, NULL, NULL, shards_run, "every shard and slice of a model", NULL},
        {"jobs", "", 0, 0, WITH(jobs), "trainings and verifications, newest first", NULL},
        {"job", "ID [--wait]", 1, 1, WITH(job), "one job", NULL},
        {"suppressions", "", 0, 0, WITH(suppressions), "who may not be loaded again", NULL},
        {"suppressions list", "", 0, 0, WITH(suppressions), "the same", NULL},
        {"suppressions lift", "PSEUDONYM", 1, 1, NULL, NULL, suppressions_lift_run,
         "let a pseudonym be loaded again (audited)", NULL},
        {"suppressions export", "[--output FILE]", 0, 0, WITH(suppressions_export),
         "all of them, for a daemon with the same pseudonym key (audited)", NULL},
        {"suppressions import", "FILE [--erase-held]", 1, 1, WITH(suppressions_import),
         "take an export over (audited)",
         "FILE is what suppressions export wrote; - is the standard input. It may be imported "
         "again\n"
         "and again. A suppression lets nobody be loaded again; it takes nothing away: people who\n"
         "are held are counted, and erased with --erase-held. What was lifted there stays lifted."},
        {"recalls", "MODEL [filters]", 1, 1, WITH(recalls),
         "which generations of a model are withdrawn, and by which erasures", NULL},
        {"webhook list", "", 0, 0, NULL, NULL, webhook_list_run,
         "who is told of events, and how that goes", NULL},
        {"webhook test", "NAME", 1, 1, NULL, NULL, webhook_test_run,
         "send a message of type webhook.test and wait for its first attempt", NULL},
        {"webhook rotate", "NAME [--overlap SECONDS]", 1, 1, WITH(webhook_rotate),
         "make and print a new signing secret (audited)",
         "NAME is a [webhook NAME] of the daemon's configuration, or callbacks: the secret of the\n"
         "callback_url of every erasure."},
        {"webhook enable", "NAME", 1, 1, NULL, NULL, webhook_enable_run,
         "send again to one that answered 410 Gone (audited)", NULL},
        {"scan", "--data-dir DIR | --image FILE [options]", 0, 0, WITH(scan),
         "look for what is left of people in every byte of a data directory, offline",
         "Reads only. Looks for ids and their hashes, the rows of records in every type, texts, "
         "and\n"
         "checkpoints trained on what is no longer there, in allocated and free space alike. Exit\n"
         "status: 0 nothing is left, 1 traces were found, 2 something could not be looked into."},
        {"backup", "DIR [--with-keys]", 1, 1, WITH(backup), "write a backup while serving",
         "The daemon writes it, on its own host: DIR is a name below its backup_dir, or the whole\n"
         "path there. It appears under that name when it is whole and durable. It holds people's\n"
         "data until it is deleted."},
        {"restore", "DIR --data-dir D [options]", 1, 1, WITH(restore),
         "put a backup into a data directory, offline",
         "Every file is checked against the backup's MANIFEST before anything is written. What "
         "was\n"
         "erased after the backup is replayed from the erasure ledger when the daemon starts."},
        {"token new", "--name NAME --scope A,B,... [--rate N/SECONDS]", 0, 0, WITH(token_new),
         "make a token, offline", NULL},
        {"metrics", "", 0, 0, NULL, NULL, metrics_run, "Prometheus text", NULL},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

/* --- help --- */

static int help_all(FILE *out)
{
        (void)fputs("unlearnctl " UNLEARND_VERSION
                    ": the client of unlearnd, which makes models forget people.\n\n"
                    "usage: unlearnctl [--url URL] [--token TOKEN] [--json] COMMAND ...\n\n",
                    out);
        for (size_t i = 0; i < COMMANDS; i++)
                (void)fprintf(out, "  %-20s %s\n", commands[i].name, commands[i].summary);
        (void)fputs("\nunlearnctl COMMAND --help says more. UNLEARND_URL (default " DEFAULT_URL
                    ") and\nUNLEARND_TOKEN are read. Exit status: 0 done, 1 failed, 2 usage.\n",
                    out);
        return out == stdout ? EXIT_DONE : EXIT_USAGE;
}

static int help_command(const struct command *command)
{
        (void)printf("usage: unlearnctl %s %s\n\n%s\n", command->name, command->operands,
                     command->summary);
        if (command->more != NULL)
                (void)printf("\n%s\n", command->more);
        options_help(command->options, stdout);
        return EXIT_DONE;
}

/* Insertions, deletions and replacements between two words (Levenshtein), of up to 24 bytes. */
static size_t distance(const char *a, const char *b)
{
        enum { MAX = 24 };
        size_t row[MAX + 1];
        const size_t n = strnlen(a, MAX), m = strnlen(b, MAX);
        for (size_t k = 0; k <= m; k++)
                row[k] = k;
        for (size_t i = 1; i <= n; i++) {
                size_t corner = row[0];
                row[0] = i;
                for (size_t k = 1; k <= m; k++) {
                        size_t best = corner + (a[i - 1] != b[k - 1]);
                        best = row[k] + 1 < best ? row[k] + 1 : best;
                        best = row[k - 1] + 1 < best ? row[k - 1] + 1 : best;
                        corner = row[k];
                        row[k] = best;
                }
        }
        return row[m];
}

/* Whether `word` is the first of a command's two. */
static bool is_group(const char *word, const char *name)
{
        const size_t len = strlen(word);
        return name != NULL && strncmp(name, word, len) == 0 && name[len] == ' ';
}

static int unknown_command(const char *first, const char *second)
{
        char both[64];
        const char *nearest = NULL;
        assert(first != NULL);
        size_t best = 4; /* further away is another word */
        (void)snprintf(both, sizeof both, "%s%s%s", first, second != NULL ? " " : "",
                       second != NULL ? second : "");
        for (size_t i = 0; i < COMMANDS; i++) {
                size_t d = distance(both, commands[i].name), e = distance(first, commands[i].name);
                d = e < d ? e : d;
                if (d < best) {
                        best = d;
                        nearest = commands[i].name;
                }
                if (nearest == NULL && is_group(first, commands[i].name))
                        nearest = commands[i].name;
        }
        if (nearest != NULL)
                return complain_usage("there is no command \"%s\"; did you mean \"%s\"?", both,
                                      nearest);
        return complain_usage("there is no command \"%s\"; see unlearnctl --help", both);
}

/* --- running --- */

/* The command whose words stand first; the longer name wins. *words is how many there are. */
static const struct command *find_command(int argc, char **argv, int *words)
{
        const struct command *found = NULL;
        char both[64];
        *words = 0;
        if (argc > 1) {
                (void)snprintf(both, sizeof both, "%s %s", argv[0], argv[1]);
                for (size_t i = 0; i < COMMANDS; i++)
                        if (strcmp(commands[i].name, both) == 0)
                                found = &commands[i];
                *words = 2;
        }
        for (size_t i = 0; found == NULL && i < COMMANDS; i++) {
                if (strcmp(commands[i].name, argv[0]) == 0) {
                        found = &commands[i];
                        *words = 1;
                }
        }
        return found;
}

static bool wants_help(int argc, char **argv)
{
        for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
                if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
                        return true;
        return false;
}

/* The global options that stand before the command; returns where it begins, or a negative status.
 */
static int global_options(struct ctl *c, int argc, char **argv)
{
        int i = 1;
        for (; i < argc && argv[i][0] == '-'; i++) {
                const struct {
                        const char *name;
                        const char **value;
                } valued[] = {{"--url", &c->url}, {"--token", &c->token}};
                bool known = strcmp(argv[i], "--json") == 0;
                if (known)
                        c->json = true;
                for (size_t k = 0; !known && k < 2; k++) {
                        size_t len = strlen(valued[k].name);
                        if (strncmp(argv[i], valued[k].name, len) != 0)
                                continue;
                        if (argv[i][len] == '=')
                                *valued[k].value = argv[i] + len + 1;
                        else if (argv[i][len] == '\0' && i + 1 < argc)
                                *valued[k].value = argv[++i];
                        else
                                continue;
                        known = true;
                }
                if (!known)
                        return -complain_usage("%s stands before the command and is no global "
                                               "option with its value; see unlearnctl --help",
                                               argv[i]);
        }
        return i;
}

/* A copy without slashes at the end. */
static char *trimmed_url(const char *url)
{
        size_t len = strlen(url);
        while (len > 0 && url[len - 1] == '/')
                len--;
        return strndup(url, len);
}

static int run(struct ctl *c, const struct command *command, int argc, char **argv)
{
        _Alignas(max_align_t) char options[OPTIONS_SIZE_MAX] = {0};
        struct operands in = {0};
        char *url = NULL;
        assert(command->options_size == NULL || *command->options_size <= OPTIONS_SIZE_MAX);
        int status = options_parse(command, argc, argv, c, &in, options);
        if (status != 0)
                goto out;
        url = trimmed_url(c->url);
        status = url == NULL ? complain_memory() : 0;
        if (status == 0) {
                c->url = url;
                status = command->run(c, &in, options);
        }
out:
        options_free(command, &in, options);
        http_close(c);
        free(url);
        return status;
}

int main(int argc, char **argv)
{
        struct ctl c = {.url = getenv("UNLEARND_URL"), .token = getenv("UNLEARND_TOKEN")};
        int words = 0;
        if (c.url == NULL || c.url[0] == '\0')
                c.url = DEFAULT_URL;
        if (c.token != NULL && c.token[0] == '\0')
                c.token = NULL;
        if (crypto_init() != 0)
                return complain("libsodium cannot be initialised");
        if (argc > 1 && strcmp(argv[1], "--version") == 0) {
                (void)puts("unlearnctl " UNLEARND_VERSION);
                return EXIT_DONE;
        }
        if (argc > 1 && (wants_help(1, argv + 1) || strcmp(argv[1], "help") == 0))
                return help_all(stdout);
        int at = global_options(&c, argc, argv);
        if (at < 0)
                return -at;
        if (at == argc)
                return help_all(stderr);
        if (wants_help(1, argv + at))
                return help_all(stdout);
        const struct command *command = find_command(argc - at, argv + at, &words);
        if (command == NULL)
                return unknown_command(argv[at], at + 1 < argc ? argv[at + 1] : NULL);
        int status = wants_help(argc - at - words, argv + at + words)
                             ? help_command(command)
                             : run(&c, command, argc - at - words, argv + at + words);
        if (fflush(stdout) != 0 || ferror(stdout))
                status = complain("the standard output cannot be written");
        return status;
}
