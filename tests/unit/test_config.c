/* SPDX-License-Identifier: Apache-2.0
 * test_config.c: the option table: what is documented is what is used, a mistake is answered with
 * the place and the way out, flags go before the file, and no address beyond loopback is taken
 * without tokens. Run from the top of the tree. */
#include "config/config.h"
#include "lib/util/bytes.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[PATH_SIZE];
static char file[PATH_SIZE];

static int make_dir(void **state)
{
        const char *tmp = getenv("TMPDIR");
        (void)state;
        (void)unsetenv("STATE_DIRECTORY");
        (void)unsetenv("CREDENTIALS_DIRECTORY");
        if (path_format(dir, NULL, "%s/config.XXXXXX", tmp != NULL ? tmp : "/tmp") != 0 ||
            mkdtemp(dir) == NULL)
                return -1;
        return path_format(file, NULL, "%s/unlearnd.conf", dir);
}

static int remove_dir(void **state)
{
        (void)state;
        return scrub_tree(dir, NULL);
}

static void put(const void *text, size_t len)
{
        assert_int_equal(write_file_durably(file, text, len, NULL), 0);
}

/* Reads `text` over the defaults; the error's detail on failure. */
static int read_text(const char *text, struct config *c, struct errinfo *e)
{
        *e = (struct errinfo){0};
        put(text, strlen(text));
        config_defaults(c);
        return config_read(file, c, e);
}

static void assert_refused(const char *text, const char *needle)
{
        struct config c;
        struct errinfo e;
        assert_int_equal(read_text(text, &c, &e), UL_INVALID);
        if (strstr(e.detail, needle) == NULL)
                fail_msg("'%s' is not in '%s'", needle, e.detail);
}

static void the_documented_file_is_written_from_the_table(void **state)
{
        struct buf written = {0}, kept = {0};
        (void)state;
        config_document(&written);
        assert_false(written.failed);
        assert_int_equal(read_file("config/unlearnd.conf", 1 << 20, &kept, NULL), 0);
        assert_int_equal(written.len, kept.len);
        assert_memory_equal(written.data, kept.data, kept.len);
        buf_free(&written, false);
        buf_free(&kept, false);
}

static void every_documented_default_is_the_default_in_use(void **state)
{
        struct buf text = {0};
        struct config plain, read;
        struct errinfo e;
        size_t options = 0;
        (void)state;
        config_document(&text);
        /* "#name = value" becomes an option; "# words" stays a comment */
        for (size_t i = 0; i + 1 < text.len; i++) {
                bool first = i == 0 || text.data[i - 1] == '\n';
                if (first && text.data[i] == '#' && text.data[i + 1] != ' ') {
                        text.data[i] = ' ';
                        memmove(text.data + i, text.data + i + 1, text.len - i - 1);
                        text.len--;
                        options++;
                }
        }
        buf_append(&text, "", 1);
        assert_true(options > 15);
        config_defaults(&plain);
        assert_int_equal(read_text((const char *)text.data, &read, &e), 0);
        assert_memory_equal(&plain, &read, sizeof plain);
        buf_free(&text, false);
}

static void defaults_are_those_of_the_contract(void **state)
{
        struct config c;
        (void)state;
        config_defaults(&c);
        assert_string_equal(c.data_dir, "/var/lib/unlearnd");
        assert_string_equal(c.listen_host, "127.0.0.1");
        assert_int_equal(c.listen_port, 8417);
        assert_true(c.upload_max_bytes == (uint64_t)64 << 30);
        assert_true(c.infer_max_bytes == 16 << 20);
        assert_true(c.map_bytes == (uint64_t)1 << 40);
        assert_true(c.worker_memory_bytes == (uint64_t)4 << 30);
        assert_in_range(c.workers, 1, 8);
        assert_false(c.insecure_no_auth);
        assert_string_equal(c.tokens_file, "");
        assert_non_null(strstr(c.worker_path, "unlearn-worker"));
}

static void systemd_directories_take_the_place_of_defaults_only(void **state)
{
        struct config c;
        struct errinfo e;
        char tokens[PATH_SIZE];
        (void)state;
        assert_int_equal(path_format(tokens, NULL, "%s/tokens", dir), 0);
        (void)setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two", 1);
        (void)setenv("CREDENTIALS_DIRECTORY", dir, 1);
        config_defaults(&c);
        assert_string_equal(c.data_dir, "/var/lib/one");
        assert_string_equal(c.tokens_file, ""); /* no such credential */
        assert_int_equal(write_file_durably(tokens, "x", 1, NULL), 0);
        config_defaults(&c);
        assert_string_equal(c.tokens_file, tokens);
        assert_int_equal(read_text("[server]\ndata_dir = /data\ntokens_file = /t\n", &c, &e), 0);
        assert_string_equal(c.data_dir, "/data");
        assert_string_equal(c.tokens_file, "/t");
        (void)unsetenv("STATE_DIRECTORY");
        (void)unsetenv("CREDENTIALS_DIRECTORY");
        (void)unlink(tokens);
}

static void a_file_is_read_over_the_defaults(void **state)
{
        struct config c;
        struct errinfo e;
        (void)state;
        assert_int_equal(read_text("# words\n; words\n[server]\nlisten_port = 9000 ; mine\n"
                                   "insecure_no_auth=YES\nlog_level: debug\r\n\n[training]\n"
                                   "worker_memory_bytes = 512m\nworkers = 3\n",
                                   &c, &e),
                         0);
        assert_int_equal(c.listen_port, 9000);
        assert_true(c.insecure_no_auth);
        assert_string_equal(c.log_level, "debug");
        assert_true(c.worker_memory_bytes == (uint64_t)512 << 20);
        assert_int_equal(c.workers, 3);
        assert_string_equal(c.listen_host, "127.0.0.1");
        assert_int_equal(read_text("[server]\nlisten_port =\n", &c, &e), 0);
        assert_int_equal(c.listen_port, 8417); /* an empty value is the default */
}

static void a_mistake_names_file_line_and_the_nearest_option(void **state)
{
        struct config c;
        struct errinfo e;
        (void)state;
        assert_refused("[server]\n\nlisten_prt = 1\n", "unlearnd.conf:3: ");
        assert_refused("[server]\nlisten_prt = 1\n", "did you mean 'listen_port' in [server]");
        assert_refused("[server]\nxyzzy = 1\n", "--print-config");
        assert_refused("[server]\nworkers = 2\n", "belongs to section [training]");
        assert_refused("listen_port = 1\n", "before the first [section]");
        assert_refused("[server]\nlisten_port = 1\nlisten_port = 1\n", "given twice");
        assert_refused("[server]\nlisten_port = 1\n  2\n", "given twice"); /* inih's continuation */
        assert_refused("[server]\nnonsense\n", "unlearnd.conf:2: ");
        assert_refused("[server\n", "unlearnd.conf:1: ");
        /* the first mistake is the one that is told */
        assert_refused("[server]\nlisten_port = no\nxyzzy = 1\n", "unlearnd.conf:2: listen_port");
        assert_int_equal(read_text("[server]\nlisten_port = no\n", &c, &e), UL_INVALID);
        assert_string_equal(e.field, "server.listen_port");
        config_defaults(&c);
        assert_int_equal(config_read("/nonexistent/x.conf", &c, &e), UL_NOT_FOUND);
        assert_non_null(strstr(e.detail, "/nonexistent/x.conf"));
}

static void values_out_of_range_are_refused(void **state)
{
        static const char *const bad[] = {
                "[server]\nlisten_port = 65536\n",
                "[server]\nlisten_port = -1\n",
                "[server]\nlisten_port = +1\n",
                "[server]\nlisten_port = 80 80\n",
                "[server]\nlisten_port = 1K\n", /* not a size */
                "[server]\nlisten_port = 4294967297\n",
                "[server]\nhttp_threads = 0\n",
                "[server]\nupload_max_bytes = 16777216T\n", /* 2^64 */
                "[server]\nupload_max_bytes = 99999999999999999999\n",
                "[server]\nupload_max_bytes = 1KB\n",
                "[server]\nupload_max_bytes = K\n",
                "[server]\nupload_max_bytes = 0\n",
                "[server]\ninsecure_no_auth = maybe\n",
                "[server]\nlog_level = warning\n",
                "[server]\nlog_level = error|warn\n",
                "[server]\nlog_level = warn|\n",
                "[store]\nmap_bytes = 1M\n",
        };
        (void)state;
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
                assert_refused(bad[i], "must be");
        char text[128];
        (void)snprintf(text, sizeof text, "[server]\nlisten_host = %064d\n", 0);
        assert_refused(text, "must be shorter than 64 bytes");
}

static void lines_that_the_parser_would_cut_are_refused(void **state)
{
        char text[8192];
        struct config c;
        struct errinfo e;
        (void)state;
        (void)snprintf(text, sizeof text, "[server]\ndata_dir = /%04096d\n", 0);
        assert_refused(text, "unlearnd.conf:2: the line is longer");
        put("[server]\ndata_dir = /a\0b\n", 25);
        config_defaults(&c);
        assert_int_equal(config_read(file, &c, &e), UL_INVALID);
        assert_non_null(strstr(e.detail, "not a text file"));
}

static int flag(struct config *c, const char *name, const char *value, const char *next, bool *used)
{
        struct errinfo e = {0};
        return config_flag(c, name, value, next, used, &e);
}

static void every_option_is_a_flag(void **state)
{
        struct config c;
        bool used = false;
        (void)state;
        config_defaults(&c);
        assert_int_equal(flag(&c, "data-dir", NULL, "/d", &used), 0);
        assert_true(used);
        assert_string_equal(c.data_dir, "/d");
        assert_int_equal(flag(&c, "data-dir", "/e", "/f", &used), 0);
        assert_false(used);
        assert_string_equal(c.data_dir, "/e");
        assert_int_equal(flag(&c, "insecure-no-auth", NULL, "no", &used), 0);
        assert_false(used);
        assert_true(c.insecure_no_auth);
        assert_int_equal(flag(&c, "insecure-no-auth", "no", NULL, &used), 0);
        assert_false(c.insecure_no_auth);
        assert_int_equal(flag(&c, "worker-memory-bytes", NULL, "1G", &used), 0);
        assert_true(c.worker_memory_bytes == 1 << 30);
        assert_int_equal(flag(&c, "data-dir", NULL, NULL, &used), UL_INVALID);
        assert_int_equal(flag(&c, "data_dir", NULL, "/x", &used), UL_INVALID);
}

static void a_flag_that_does_not_exist_is_answered_with_the_nearest(void **state)
{
        struct config c;
        struct errinfo e = {0};
        bool used = false;
        (void)state;
        config_defaults(&c);
        assert_int_equal(config_flag(&c, "data-dri", NULL, "/x", &used, &e), UL_INVALID);
        assert_non_null(strstr(e.detail, "did you mean --data-dir?"));
        assert_int_equal(config_flag(&c, "", NULL, "/x", &used, &e), UL_INVALID);
}

static void listen_takes_addresses_of_both_families(void **state)
{
        static const struct {
                const char *text, *host;
                uint32_t port;
        } good[] = {
                {"127.0.0.1:0", "127.0.0.1", 0},
                {"[::1]:99", "::1", 99},
                {"localhost:80", "localhost", 80},
                {"0.0.0.0", "0.0.0.0", 8417},
                {"::1", "::1", 8417},
                {"[::1]", "::1", 8417},
        };
        static const char *const bad[] = {":80",     "127.0.0.1:", "127.0.0.1:x",     "[::1",
                                          "[::1]80", "[]:80",      "127.0.0.1:65536", ""};
        struct config c;
        bool used = false;
        (void)state;
        for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
                config_defaults(&c);
                assert_int_equal(flag(&c, "listen", NULL, good[i].text, &used), 0);
                assert_true(used);
                assert_string_equal(c.listen_host, good[i].host);
                assert_int_equal(c.listen_port, good[i].port);
        }
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
                config_defaults(&c);
                assert_int_equal(flag(&c, "listen", NULL, bad[i], &used), UL_INVALID);
        }
}

static int check(const char *host, const char *tokens, bool insecure, struct errinfo *e)
{
        struct config c;
        config_defaults(&c);
        (void)snprintf(c.worker_path, sizeof c.worker_path, "/bin/true");
        (void)snprintf(c.listen_host, sizeof c.listen_host, "%s", host);
        (void)snprintf(c.tokens_file, sizeof c.tokens_file, "%s", tokens);
        c.insecure_no_auth = insecure;
        return config_check(&c, e);
}

static void entries_are_kept_for_two_years_at_least(void **state)
{
        static const uint32_t months[] = {0, 1, 23, 24, 1200};
        (void)state;
        for (size_t i = 0; i < sizeof months / sizeof months[0]; i++) {
                struct config c;
                struct errinfo e = {0};
                bool good = months[i] == 0 || months[i] >= 24;
                config_defaults(&c);
                assert_int_equal(c.retention_months, 0);
                (void)snprintf(c.worker_path, sizeof c.worker_path, "/bin/true");
                c.retention_months = months[i];
                assert_int_equal(config_check(&c, &e), good ? 0 : UL_INVALID);
                assert_string_equal(e.field, good ? "" : "audit.retention_months");
        }
}

static void no_address_beyond_loopback_is_served_without_tokens(void **state)
{
        struct errinfo e = {0};
        (void)state;
        assert_int_equal(check("127.0.0.1", "", false, &e), 0);
        assert_int_equal(check("127.9.9.9", "", true, &e), 0);
        assert_int_equal(check("::1", "", true, &e), 0);
        assert_int_equal(check("localhost", "", false, &e), 0);
        assert_int_equal(check("0.0.0.0", "/tokens", false, &e), 0);
        assert_int_equal(check("0.0.0.0", "", false, &e), UL_INVALID);
        assert_non_null(strstr(e.detail, "unlearnctl token new"));
        assert_int_equal(check("::", "", false, &e), UL_INVALID);
        assert_int_equal(check("128.0.0.1", "", false, &e), UL_INVALID);
        assert_int_equal(check("::ffff:127.0.0.1", "", false, &e), UL_INVALID);
        /* the flag is no way around it, with tokens or without */
        assert_int_equal(check("0.0.0.0", "/tokens", true, &e), UL_INVALID);
        assert_int_equal(check("example.org", "/tokens", false, &e), UL_INVALID);
        assert_string_equal(e.field, "server.listen_host");
}

static void webhooks_are_sections_of_their_own(void **state)
{
        struct config c;
        struct errinfo e;
        (void)state;
        assert_int_equal(read_text("[webhook crm]\nurl = https://a.example/\n"
                                   "[webhook b-2]\nevents = model.trained, shard.*\n"
                                   "url = http://b.example/\n",
                                   &c, &e),
                         0);
        assert_int_equal(c.webhook_count, 2);
        assert_string_equal(c.webhooks[0].name, "crm");
        assert_string_equal(c.webhooks[1].url, "http://b.example/");
        assert_true(config_events_match(c.webhooks[0].events, "erasure.forgotten"));
        assert_false(config_events_match(c.webhooks[0].events, "erasures"));
        assert_false(config_events_match(c.webhooks[0].events, "model.trained"));
        assert_true(config_events_match(c.webhooks[1].events, "model.trained"));
        assert_false(config_events_match(c.webhooks[1].events, "model.trained.again"));
        assert_true(config_events_match(c.webhooks[1].events, "shard.retrained"));
        assert_true(config_events_match("*", "anything"));
        assert_refused("[webhook A]\nurl = https://a.example/\n", "[a-z0-9]");
        assert_refused("[webhook ]\nurl = https://a.example/\n", "[a-z0-9]");
        assert_refused("[webhook ../x]\nurl = https://a.example/\n", "[a-z0-9]");
        assert_refused("[webhook x]\nurl = https://a/\nurl = https://b/\n", "twice");
        assert_refused("[webhook x]\nsecret = whsec_x\n", "url and events");
        char many[2048] = "";
        for (int i = 0; i <= WEBHOOKS_MAX; i++) {
                size_t len = strlen(many);
                (void)snprintf(many + len, sizeof many - len, "[webhook w%d]\nurl = https://w/\n",
                               i);
        }
        assert_refused(many, "more than");
}

/* Some services put a long secret into the address. */
static void a_long_address_fits_on_its_line(void **state)
{
        char text[2 * URL_MAX] = "[webhook x]\nurl = https://x.example/";
        size_t at = strlen(text), room = URL_MAX - strlen("https://x.example/");
        struct config c;
        struct errinfo e;
        (void)state;
        memset(text + at, 'p', room);
        memcpy(text + at + room, "\n", 2);
        assert_int_equal(read_text(text, &c, &e), 0);
        assert_int_equal(strlen(c.webhooks[0].url), URL_MAX);
        memcpy(text + at + room, "p\n", 3);
        assert_refused(text, "1 to 2048 bytes");
}

static void witnesses_are_sections_of_their_own(void **state)
{
        struct config c;
        struct errinfo e;
        (void)state;
        assert_int_equal(read_text("[witness garden]\nurl = https://a.example/w\nkey = a+1+b==\n"
                                   "[audit]\nwitness_interval_ms = 70\n"
                                   "[witness b_2]\nkey = n+2+c\nurl = http://b.example/\n",
                                   &c, &e),
                         0);
        assert_int_equal(c.witness_count, 2);
        assert_int_equal(c.witness_interval_ms, 70);
        assert_string_equal(c.witnesses[0].name, "garden");
        assert_string_equal(c.witnesses[0].key, "a+1+b==");
        assert_string_equal(c.witnesses[1].url, "http://b.example/");
        assert_refused("[witness A]\nurl = https://a.example/\n", "[a-z0-9]");
        assert_refused("[witness ]\nurl = https://a.example/\n", "[a-z0-9]");
        assert_refused("[witness a/b]\nurl = https://a.example/\n", "[a-z0-9]");
        assert_refused("[witness x]\nkey = a\nkey = b\n", "twice");
        assert_refused("[witness x]\nurl =\n", "1 to");
        assert_refused("[witness x]\nevents = *\n", "url and key");
        assert_refused("[audit]\nwitness_interval_ms = 9\n", "witness_interval_ms");
        char many[2048] = "", long_key[2 * WITNESS_KEY_MAX];
        for (int i = 0; i <= WITNESSES_MAX; i++) {
                size_t len = strlen(many);
                (void)snprintf(many + len, sizeof many - len, "[witness w%d]\nkey = k\n", i);
        }
        assert_refused(many, "more than");
        int at = snprintf(long_key, sizeof long_key, "[witness x]\nkey = ");
        memset(long_key + at, 'k', WITNESS_KEY_MAX + 1);
        (void)snprintf(long_key + at + WITNESS_KEY_MAX + 1, 2, "\n");
        assert_refused(long_key, "1 to 512 bytes");
}

static void what_is_sent_must_make_sense(void **state)
{
        static const char *const bad[] = {"[webhook x]\nevents = erasure.*\n",
                                          "[webhook x]\nurl = ftp://x/\n",
                                          "[webhook x]\nurl = https://x/\nevents = Erasure\n",
                                          "[webhook x]\nurl = https://x/\nevents = a*\n",
                                          "[witness x]\nurl = https://x/\n",
                                          "[witness x]\nkey = a+b+c\n",
                                          "[witness x]\nkey = a+b+c\nurl = x.example\n",
                                          "[outgoing]\nallow_networks = 10.0.0.1/8\n",
                                          "[outgoing]\nallow_networks = everything\n"};
        struct config c;
        struct errinfo e;
        (void)state;
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
                assert_int_equal(read_text(bad[i], &c, &e), 0);
                if (config_check(&c, &e) != UL_INVALID || e.field[0] == '\0')
                        fail_msg("%s", bad[i]);
        }
}

static void help_and_man_page_name_every_documented_option(void **state)
{
        struct buf document = {0}, help = {0}, man = {0};
        (void)state;
        config_document(&document);
        config_help(&help);
        config_man(&man);
        buf_append(&document, "", 1);
        buf_append(&help, "", 1);
        buf_append(&man, "", 1);
        char *rest = (char *)document.data;
        for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
                char name[64], bold[80];
                if (line[0] != '#' || sscanf(line, "#%63[a-z_]", name) != 1)
                        continue;
                (void)snprintf(bold, sizeof bold, "\\fB%s\\fR", name);
                assert_non_null(strstr((const char *)man.data, bold));
                for (char *p = name; *p != '\0'; p++)
                        *p = *p == '_' ? '-' : *p;
                assert_non_null(strstr((const char *)help.data, name));
        }
        for (const char *p = (const char *)help.data; *p != '\0';) {
                size_t len = strcspn(p, "\n");
                assert_true(len <= 80); /* a terminal's width */
                p += len + (p[len] == '\n');
        }
        buf_free(&document, false);
        buf_free(&help, false);
        buf_free(&man, false);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_documented_file_is_written_from_the_table),
                cmocka_unit_test(every_documented_default_is_the_default_in_use),
                cmocka_unit_test(defaults_are_those_of_the_contract),
                cmocka_unit_test(systemd_directories_take_the_place_of_defaults_only),
                cmocka_unit_test(a_file_is_read_over_the_defaults),
                cmocka_unit_test(a_mistake_names_file_line_and_the_nearest_option),
                cmocka_unit_test(values_out_of_range_are_refused),
                cmocka_unit_test(lines_that_the_parser_would_cut_are_refused),
                cmocka_unit_test(every_option_is_a_flag),
                cmocka_unit_test(a_flag_that_does_not_exist_is_answered_with_the_nearest),
                cmocka_unit_test(listen_takes_addresses_of_both_families),
                cmocka_unit_test(entries_are_kept_for_two_years_at_least),
                cmocka_unit_test(no_address_beyond_loopback_is_served_without_tokens),
                cmocka_unit_test(webhooks_are_sections_of_their_own),
                cmocka_unit_test(a_long_address_fits_on_its_line),
                cmocka_unit_test(witnesses_are_sections_of_their_own),
                cmocka_unit_test(what_is_sent_must_make_sense),
                cmocka_unit_test(help_and_man_page_name_every_documented_option),
        };
        return cmocka_run_group_tests_name("config", tests, make_dir, remove_dir);
}
