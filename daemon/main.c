/* SPDX-License-Identifier: Apache-2.0
 * main.c: unlearnd: options, start, signals, drain, stop. It knows how the parts are started and in
 * which order they end, and nothing of what they do.
 *
 * Signals have handlers that only count and post a semaphore. Blocking them for a sigwait() would
 * not do: OpenBLAS starts threads before main() runs, which would still take a SIGTERM, with the
 * default action. */
#include "api/server.h"
#include "config/config.h"
#include "daemon/notify.h"
#include "daemon/service_start.h"
#include "lib/kernels/kernels.h"
#include "lib/util/bytes.h"
#include "lib/util/clock.h"
#include "lib/util/crypto.h"
#include "lib/util/log.h"
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };
enum { FILES_BESIDE_CONNECTIONS = 512 }; /* the store, row files, workers' pipes */

/* LeakSanitizer stops the process with ptrace, which an undumpable one refuses, and looks for leaks
 * in an exit handler. */
#if defined(__SANITIZE_ADDRESS__)
#define TRACED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TRACED 1
#endif
#endif
#ifndef TRACED
#define TRACED 0
#endif

/* --- the command line --- */

enum action { ACTION_RUN, ACTION_HELP, ACTION_VERSION, ACTION_PRINT, ACTION_CHECK, ACTION_MAN };
struct command_line {
        const char *config_path; /* NULL: no file is read */
        enum action action;
};

static const struct {
        const char *flag, *help;
        enum action action;
} actions[] = {
        {"--print-config", "print unlearnd.conf with every option documented", ACTION_PRINT},
        {"--print-man", "print the options as a section of a man page", ACTION_MAN},
        {"--check-config", "read FILE and the flags, say what is wrong, and end", ACTION_CHECK},
        {"--help", "this text", ACTION_HELP},
        {"--version", "the version", ACTION_VERSION},
};

static bool parse_action(const char *arg, enum action *out)
{
        for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++) {
                if (strcmp(arg, actions[i].flag) == 0) {
                        *out = actions[i].action;
                        return true;
                }
        }
        return false;
}

/* --name, --name=value or --name value */
static int parse_flag(char **argv, int *at, struct config *c, struct errinfo *e)
{
        char name[64];
        const char *flag = argv[*at] + 2;
        const char *equals = strchr(flag, '=');
        size_t len = equals != NULL ? (size_t)(equals - flag) : strlen(flag);
        bool used = false;
        if (len >= sizeof name)
                return ul_fail(e, UL_INVALID, "unknown flag --%.64s; see `unlearnd --help`", flag);
        memcpy(name, flag, len);
        name[len] = '\0';
        int err = config_flag(c, name, equals != NULL ? equals + 1 : NULL, argv[*at + 1], &used, e);
        *at += used;
        return err;
}

static int parse(char **argv, struct config *c, struct command_line *out, struct errinfo *e)
{
        *out = (struct command_line){0};
        for (int i = 1; argv[i] != NULL; i++) {
                const char *arg = argv[i];
                int err = 0;
                if (parse_action(arg, &out->action) || strcmp(arg, "--foreground") == 0)
                        continue; /* it never runs anywhere else */
                if (strcmp(arg, "-c") == 0) {
                        if (argv[i + 1] == NULL)
                                return ul_fail(e, UL_INVALID, "-c wants a file");
                        out->config_path = argv[++i];
                } else if (strncmp(arg, "--", 2) == 0 && arg[2] != '\0') {
                        err = parse_flag(argv, &i, c, e);
                } else {
                        err = ul_fail(e, UL_INVALID,
                                      "'%.64s' is not understood; see `unlearnd "
                                      "--help`",
                                      arg);
                }
                if (err != 0)
                        return err;
        }
        return 0;
}

static void print_help(struct buf *out)
{
        buf_append_str(
                out, "usage: unlearnd [-c FILE] [--data-dir DIR] [--listen ADDR:PORT] "
                     "[--insecure-no-auth]\n"
                     "                [--foreground] [FLAG...]\n"
                     "Serves models that forget people. Runs in the foreground; SIGTERM ends it,\n"
                     "SIGHUP reads the tokens again. Flags go before FILE, FILE before the "
                     "defaults.\n\n"
                     "  -c FILE                      read options from FILE\n"
                     "  --listen ADDR:PORT           --listen-host and --listen-port in one; "
                     "port 0: any free one\n"
                     "  --foreground                 accepted; it is always so\n");
        for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++)
                buf_printf(out, "  %-28s %s\n", actions[i].flag, actions[i].help);
        config_help(out);
}

static int print(enum action action)
{
        struct buf out = {0};
        if (action == ACTION_VERSION)
                buf_append_str(&out, "unlearnd " UNLEARND_VERSION "\n");
        else if (action == ACTION_HELP)
                print_help(&out);
        else if (action == ACTION_MAN)
                config_man(&out);
        else
                config_document(&out);
        bool ok = !out.failed && fwrite(out.data, 1, out.len, stdout) == out.len &&
                  fflush(stdout) == 0;
        buf_free(&out, false);
        return ok ? EXIT_DONE : EXIT_FAILED;
}

static int fail(int status, const struct errinfo *e)
{
        (void)fprintf(stderr, "unlearnd: %s\n", e->detail);
        return status;
}

/* --- the process --- */

static _Atomic int stops;
static _Atomic bool reload_asked;
static sem_t wake;

static void on_signal(int number)
{
        int saved = errno;
        if (number == SIGHUP)
                atomic_store(&reload_asked, true);
        else if (atomic_fetch_add(&stops, 1) > 0)
                _exit(EXIT_FAILED); /* asked twice: at once; the next start recovers */
        (void)sem_post(&wake);
        errno = saved;
}

static bool stop_asked(void)
{
        return atomic_load(&stops) > 0;
}

static int catch_signals(struct errinfo *e)
{
        struct sigaction caught = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
        struct sigaction ignored = {.sa_handler = SIG_IGN};
        if (sem_init(&wake, 0, 0) != 0 || sigaction(SIGTERM, &caught, NULL) != 0 ||
            sigaction(SIGINT, &caught, NULL) != 0 || sigaction(SIGHUP, &caught, NULL) != 0 ||
            sigaction(SIGPIPE, &ignored, NULL) != 0)
                return ul_fail_errno(e, "cannot handle signals");
        return 0;
}

/* A store opened as descriptor 2 would get the log written into it. */
static int open_standard_files(struct errinfo *e)
{
        for (int fd = 0; fd <= STDERR_FILENO; fd++)
                if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
                        return ul_fail_errno(e, "cannot open /dev/null");
        return 0;
}

/* Memory holds personal data and keys: no core, no ptrace. */
static int forbid_cores(struct errinfo *e)
{
        const struct rlimit none = {0, 0};
        if (setrlimit(RLIMIT_CORE, &none) != 0)
                return ul_fail_errno(e, "cannot forbid core dumps (RLIMIT_CORE)");
        if (!TRACED && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
                return ul_fail_errno(e, "cannot forbid core dumps (PR_SET_DUMPABLE)");
        return 0;
}

static void raise_file_limit(uint32_t connections)
{
        struct rlimit r;
        rlim_t wanted = (rlim_t)connections + FILES_BESIDE_CONNECTIONS;
        if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur >= wanted)
                return;
        r.rlim_cur = r.rlim_max < wanted ? r.rlim_max : wanted;
        if (setrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur < wanted)
                log_event(
                        LOG_LEVEL_WARN, "few_files",
                        "files=%llu wanted=%llu advice=raise_LimitNOFILE_or_lower_connections_max",
                        (unsigned long long)r.rlim_cur, (unsigned long long)wanted);
}

/* glibc would raise this bound to the largest block it ever freed, and keep the memory of a burst
 * of clients in arenas that do not shrink. */
static void give_memory_back(void)
{
        enum { LARGE_BYTES = 64 * 1024 };
        (void)mallopt(M_MMAP_THRESHOLD, LARGE_BYTES);
}

static int prepare_process(struct errinfo *e)
{
        give_memory_back();
        int err = open_standard_files(e);
        if (err == 0)
                err = catch_signals(e);
        if (err == 0)
                err = forbid_cores(e);
        if (err != 0)
                return err;
        (void)umask(077);
        if (crypto_init() != 0)
                return ul_fail(e, UL_INTERNAL, "libsodium does not start");
        return kernels_init(e);
}

/* --- serving --- */

static void reload(struct server *server, const char *status)
{
        struct errinfo e = {0};
        notify_reloading();
        if (server_reload(server, &e) != 0)
                log_event(LOG_LEVEL_ERROR, "reload_failed", "detail=\"%s\" tokens=unchanged",
                          e.detail);
        else
                log_event(LOG_LEVEL_INFO, "reloaded", "tokens=read");
        notify_ready(status);
}

static void wait_until(uint64_t until_us) /* of the monotonic clock; 0: a signal alone ends it */
{
        struct timespec until = {.tv_sec = (time_t)(until_us / 1000000),
                                 .tv_nsec = (long)(until_us % 1000000) * 1000};
        if (until_us == 0)
                (void)sem_wait(&wake); /* EINTR: the caller looks anyway */
        else
                (void)sem_clockwait(&wake, CLOCK_MONOTONIC, &until);
}

/* Until the first SIGTERM. The watchdog is fed at half its time, and only while the loop and the
 * writer moved within that half. */
static void serve(struct service *service, struct server *server, const char *status)
{
        uint64_t half_us = notify_watchdog_us() / 2;
        uint64_t next_us = half_us > 0 ? mono_us() + half_us : 0;
        while (!stop_asked()) {
                wait_until(next_us);
                if (atomic_exchange(&reload_asked, false))
                        reload(server, status);
                if (half_us == 0 || mono_us() < next_us)
                        continue;
                next_us = mono_us() + half_us;
                if (service_alive(service, (uint32_t)(half_us / 1000)))
                        notify_watchdog();
                else
                        log_event(LOG_LEVEL_ERROR, "stuck", "no_move_ms=%llu",
                                  (unsigned long long)(half_us / 1000));
        }
}

/* A socket of systemd's decides the address, and the rules for addresses hold for it too. */
static int take_socket(struct config *c, struct notify_socket *socket, struct errinfo *e)
{
        int err = notify_listen_socket(socket, e);
        if (err == 0 && socket->fd >= 0) {
                (void)snprintf(c->listen_host, sizeof c->listen_host, "%s", socket->host);
                c->listen_port = socket->port;
        }
        return err;
}

static int start_server(const struct config *c, int fd, struct service *service,
                        struct server **out, uint16_t *port, struct errinfo *e)
{
        const struct server_options o = {
                .host = c->listen_host,
                .port = (uint16_t)c->listen_port,
                .listen_fd = fd,
                .threads = c->http_threads,
                .connections_max = c->connections_max,
                .idle_timeout_s = c->idle_timeout_s,
                .upload_max_bytes = c->upload_max_bytes,
                .infer_max_bytes = c->infer_max_bytes,
                .tokens_file = c->insecure_no_auth ? "" : c->tokens_file,
                .no_auth = c->insecure_no_auth,
        };
        return server_start(service, &o, out, port, e);
}

static int run(const struct config *c, int fd, struct errinfo *e)
{
        struct service *service = NULL;
        struct server *server = NULL;
        uint16_t port = 0;
        char status[128];
        int err = service_start(c, stop_asked, &service, e);
        bool serves = err == 0 && !stop_asked();
        if (serves)
                err = start_server(c, fd, service, &server, &port, e);
        if (serves && err == 0) {
                bool v6 = strchr(c->listen_host, ':') != NULL;
                (void)snprintf(status, sizeof status, "listening on %s%s%s:%u", v6 ? "[" : "",
                               c->listen_host, v6 ? "]" : "", port);
                (void)fprintf(stderr, "%s\n", status);
                notify_ready(status);
                serve(service, server, status);
                notify_stopping();
                log_event(LOG_LEVEL_INFO, "stopping", "advice=a_second_signal_ends_at_once");
                server_drain(server);
                server_stop(&server);
        }
        if (err == 0 && service_failed(service))
                err = ul_fail(e, UL_IO,
                              "the control database failed; see store_failed in the log. "
                              "The next start recovers");
        service_stop(&service);
        return err;
}

/* The options, then the daemon's life; its exit status. */
static int act(char **argv)
{
        struct config c;
        struct command_line command;
        struct notify_socket socket = {.fd = -1};
        struct errinfo e = {0};
        config_defaults(&c);
        if (parse(argv, &c, &command, &e) != 0)
                return fail(EXIT_USAGE, &e);
        if (command.action != ACTION_RUN && command.action != ACTION_CHECK)
                return print(command.action);
        config_defaults(&c);
        if (command.config_path != NULL && config_read(command.config_path, &c, &e) != 0)
                return fail(EXIT_FAILED, &e);
        if (parse(argv, &c, &command, &e) != 0) /* flags go before the file */
                return fail(EXIT_USAGE, &e);
        if (command.action == ACTION_CHECK) {
                if (config_check(&c, &e) != 0)
                        return fail(EXIT_FAILED, &e);
                return puts("the configuration is in order") < 0 ? EXIT_FAILED : EXIT_DONE;
        }
        if (take_socket(&c, &socket, &e) != 0 || config_check(&c, &e) != 0 ||
            prepare_process(&e) != 0)
                return fail(EXIT_FAILED, &e);
        log_set_level(log_level_parse(c.log_level, NULL));
        raise_file_limit(c.connections_max);
        return run(&c, socket.fd, &e) != 0 ? fail(EXIT_FAILED, &e) : EXIT_DONE;
}

/* No library's exit handler is of use here, and OpenBLAS's joins threads that wait for ever where
 * memory was too short when they began. */
int main(int argc, char **argv)
{
        int status = argc < 1 ? EXIT_USAGE : act(argv);
        if (fflush(NULL) != 0 && status == EXIT_DONE)
                status = EXIT_FAILED;
        if (!TRACED)
                _exit(status);
        return status;
}
