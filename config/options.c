/* SPDX-License-Identifier: Apache-2.0
 * options.c: the option table: the only place where an option is named. It must not know what the
 * options do. */
#include "config/options.h"

#include "config/config.h"
#include <string.h>

#define KIB ((uint64_t)1024)
#define GIB (KIB * KIB * KIB)
#define TEXT(member) offsetof(struct config, member), sizeof(((struct config *)0)->member)

const struct option_spec config_options[] = {
        {"server", "data_dir", OPTION_TEXT, TEXT(data_dir), 1, 0, NULL, "/var/lib/unlearnd", "DIR",
         "Where everything is kept: control.mdb, keys/ and models/. Under systemd, "
         "$STATE_DIRECTORY takes the place of the default."},
        {"server", "listen_host", OPTION_TEXT, TEXT(listen_host), 1, 0, NULL, "127.0.0.1", "ADDR",
         "The IPv4 or IPv6 address to listen on. Anything but loopback needs tokens_file; there is "
         "no TLS, so put a proxy that speaks it in front."},
        {"server", "listen_port", OPTION_U32, TEXT(listen_port), 0, 65535, NULL, "8417", "PORT",
         "The TCP port. 0 takes any free one and prints it."},
        {"server", "http_threads", OPTION_U32, TEXT(http_threads), 1, 256, NULL, "2", "N",
         "Threads that speak HTTP. They never compute and never wait for the disk."},
        {"server", "predict_threads", OPTION_U32, TEXT(predict_threads), 1, 256, NULL, "1", "N",
         "Threads that compute predictions."},
        {"server", "connections_max", OPTION_U32, TEXT(connections_max), 1, 1000000, NULL, "10000",
         "N",
         "Connections at a time. A further client takes the place of the connection that has "
         "been idle longest; where all have a request in flight, it waits."},
        {"server", "idle_timeout_s", OPTION_U32, TEXT(idle_timeout_s), 1, 86400, NULL, "60",
         "SECONDS",
         "A connection that moves no byte for this long is closed, and one that has not "
         "sent a whole request header for as long."},
        {"server", "upload_max_bytes", OPTION_BYTES, TEXT(upload_max_bytes), 1, UINT64_MAX, NULL,
         "64G", "BYTES", "The largest upload of records, counted as sent (compressed)."},
        {"server", "infer_max_bytes", OPTION_BYTES, TEXT(infer_max_bytes), 1, 4 * GIB, NULL, "16M",
         "BYTES", "The largest body of a prediction request."},
        {"server", "tokens_file", OPTION_TEXT, TEXT(tokens_file), 0, 0, NULL, "", "FILE",
         "Bearer tokens, one a line, as `unlearnctl token new` prints them. Read again on SIGHUP. "
         "Under systemd, a credential named tokens takes the place of the default; it is a copy "
         "made at the start: restart after changing it. Without tokens the daemon listens on "
         "loopback only and answers everybody there."},
        {"server", "insecure_no_auth", OPTION_BOOL, TEXT(insecure_no_auth), 0, 0, NULL, "false",
         NULL,
         "Answers everybody who can connect, with every right, whatever tokens_file says. For "
         "trying things out; loopback only."},
        {"server", "log_level", OPTION_CHOICE, TEXT(log_level), 0, 0, "error|warn|info|debug",
         "info", "LEVEL", "How much is written to standard error."},
        {"store", "map_bytes", OPTION_BYTES, TEXT(map_bytes), 16 * KIB *KIB, 64 * KIB *GIB, NULL,
         "1T", "BYTES",
         "The most that control.mdb may grow to. The file is sparse and the memory is only "
         "address space, so a large number costs nothing."},
        {"store", "ledger_dir", OPTION_TEXT, TEXT(ledger_dir), 0, 0, NULL, "", "DIR",
         "Where the erasure ledger is kept: every accepted erasure is also written there, as "
         "pseudonyms, before it is answered. Put it on another disk or another machine's file "
         "system than data_dir. When an older backup has been restored, the erasures that came "
         "after it are replayed from the ledger before anybody is served. Empty: no ledger, and a "
         "restored backup brings erased people back. A data directory that has been used with a "
         "ledger does not start without it, unless this says none."},
        {"store", "backup_dir", OPTION_TEXT, TEXT(backup_dir), 0, 0, NULL, "", "DIR",
         "Where `unlearnctl backup` may have the daemon write backups, one directory each. Backups "
         "hold people's data until they are deleted. Empty: backups are refused."},
        {"audit", "origin", OPTION_TEXT, TEXT(origin), 0, 0, NULL, "", "NAME",
         "The name of the audit log in its signed checkpoints, such as example.org/unlearnd. "
         "Empty: unlearnd.local/HOSTNAME, made at the first start and kept. It must not change "
         "once the log has entries."},
        {"audit", "retention_months", OPTION_U32, TEXT(retention_months), 0, 1200, NULL, "0",
         "MONTHS",
         "How long an entry of the audit log is kept: 24 months or more (11 CCR 7101). Older ones "
         "are pruned: their text goes, their hash stays, and every proof and checkpoint holds as "
         "before. 0: for ever."},
        {"audit", "witness_interval_ms", OPTION_U32, TEXT(witness_interval_ms), 10, 86400000, NULL,
         "60000", "MS",
         "How often the newest checkpoint is offered to the witnesses (see [witness NAME]) that "
         "have not cosigned it. One that fails is left alone for longer, up to an hour."},
        {"opendsr", "opendsr_domain", OPTION_TEXT, TEXT(opendsr_domain), 0, 0, NULL, "", "NAME",
         "The domain under which controllers reach this processor, and which its certificate is "
         "issued for. Empty: OpenDSR is not spoken."},
        {"opendsr", "opendsr_base_url", OPTION_TEXT, TEXT(opendsr_base_url), 0, 0, NULL, "", "URL",
         "Where controllers find /discovery, as the proxy in front serves it. Empty: "
         "https://DOMAIN/opendsr/v2."},
        {"opendsr", "opendsr_key_file", OPTION_TEXT, TEXT(opendsr_key_file), 0, 0, NULL, "", "FILE",
         "The RSA private key that signs answers and callbacks (PEM, 2048 to 8192 bits). Under "
         "systemd, a credential named opendsr.key takes the place of the default."},
        {"opendsr", "opendsr_certificate_file", OPTION_TEXT, TEXT(opendsr_certificate_file), 0, 0,
         NULL, "", "FILE",
         "Its X.509 certificate (PEM), which controllers download. It may be followed by those of "
         "its issuers."},
        {"opendsr", "opendsr_identities", OPTION_TEXT, TEXT(opendsr_identities), 0, 0, NULL,
         "controller_customer_id,email", "TYPES",
         "The identity types whose values are subjects of the records that were loaded, separated "
         "by commas. Requests that name others are refused."},
        {"opendsr", "opendsr_regulation", OPTION_CHOICE, TEXT(opendsr_regulation), 0, 0,
         "gdpr|ccpa", "gdpr", "NAME", "The regulation of a request that names none."},
        {"opendsr", "opendsr_hold", OPTION_BOOL, TEXT(opendsr_hold), 0, 0, NULL, "false", NULL,
         "Holds every request (pending) until `unlearnctl erasure release` or its refusal. Without "
         "it a request is executed at once."},
        {"training", "workers", OPTION_U32, TEXT(workers), 0, 1024, NULL, "0", "N",
         "Shards trained at a time, each by a process of its own at idle priority. 0: as many as "
         "there are processors, at most 8."},
        {"training", "worker_memory_bytes", OPTION_BYTES, TEXT(worker_memory_bytes), 0, UINT64_MAX,
         NULL, "4G", "BYTES", "Address space of one worker (RLIMIT_AS). 0: no limit."},
        {"training", "worker_seconds", OPTION_U32, TEXT(worker_seconds), 0, 31536000, NULL, "3600",
         "SECONDS",
         "A worker that runs for longer is killed and its job tried again. 0: no "
         "limit."},
        {"training", "gather_window_ms", OPTION_U32, TEXT(gather_window_ms), 0, 86400000, NULL,
         "200", "MS",
         "How long a shard waits for further erasures before it is retrained once for all of "
         "them. Forgetting never waits for it."},
        {"training", "retry_first_ms", OPTION_U32, TEXT(retry_first_ms), 1, 300000, NULL, "1000",
         "MS", "The pause after a failed job; doubled for each failure, to 5 minutes."},
        {"training", "worker_path", OPTION_TEXT, TEXT(worker_path), 0, 0, NULL, "", "FILE",
         "The worker program. Empty: unlearn-worker beside unlearnd, else "
         "../libexec/unlearnd/unlearn-worker from there."},
        {"training", "blas_kernel", OPTION_TEXT, TEXT(blas_kernel), 0, 0, NULL, "", "NAME",
         "The OpenBLAS kernel that workers must run under (such as Haswell), for clusters of "
         "mixed machines: other kernels give other last bits. Empty: what OpenBLAS picks, "
         "pinned at the first training. OPENBLAS_CORETYPE in the environment goes before it: a "
         "worker told of two refuses the job."},
        {"outgoing", "allow_networks", OPTION_TEXT, TEXT(allow_networks), 0, 0, NULL, "",
         "NETWORKS",
         "Networks beside the public Internet that may be spoken to, such as 10.1.0.0/16, "
         "fd00::/8, separated by commas. The address that is connected to counts, not the name. "
         "Plain http is for these networks alone. Empty: loopback, link-local and private "
         "addresses are refused, and so is http."},
        {"outgoing", "ca_file", OPTION_TEXT, TEXT(ca_file), 0, 0, NULL, "", "FILE",
         "Certificates (PEM) of the authorities that are trusted. Empty: the system's."},
        {"outgoing", "delivery_timeout_ms", OPTION_U32, TEXT(delivery_timeout_ms), 100, 120000,
         NULL, "15000", "MS", "How long one attempt may take, from the name to the answer's end."},
        {"outgoing", "delivery_retry_ms", OPTION_U32, TEXT(delivery_retry_ms), 1, 3600000, NULL,
         "5000", "MS",
         "The pause after a first failure; four times as long after each further one, to 12 "
         "hours, and never shorter than the receiver's Retry-After."},
        {"outgoing", "delivery_give_up_s", OPTION_U32, TEXT(delivery_give_up_s), 1, 31536000, NULL,
         "259200", "SECONDS",
         "A delivery that would be older than this at its next attempt is given up, with an audit "
         "entry. 259200 is three days."},
        {"outgoing", "hold_outgoing", OPTION_BOOL, TEXT(hold_outgoing), 0, 0, NULL, "false", NULL,
         "Sends nothing: deliveries wait in their queue and no witness is asked. For a drill on a "
         "restored backup, which would speak in the name of the real daemon."},
};
const size_t config_option_count = sizeof config_options / sizeof config_options[0];
_Static_assert(sizeof config_options / sizeof config_options[0] <= OPTIONS_MAX, "raise it");

const char *config_section_help(const char *section)
{
        static const char *const about[][2] = {
                {"server", "The data directory, the address and the limits of HTTP."},
                {"store", "The database of bookkeeping (never of records)."},
                {"audit", "The append-only log that auditors check."},
                {"opendsr", "Requests of controllers that speak OpenDSR 2.0; see docs/opendsr.md."},
                {"training", "The worker processes that train and retrain."},
                {"outgoing", "What the daemon sends to others: webhooks, callbacks, checkpoints."},
        };
        for (size_t i = 0; i < sizeof about / sizeof about[0]; i++)
                if (strcmp(about[i][0], section) == 0)
                        return about[i][1];
        return "";
}
