/* SPDX-License-Identifier: Apache-2.0
 * progress.h: one line of progress with rate and time to go, on stderr and only where that is a
 * terminal. It knows nothing of what is going on. */
#ifndef UNLEARND_CLI_PROGRESS_H
#define UNLEARND_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
        const char *what;
        bool shown;     /* stderr is a terminal */
        bool drawn;     /* there is a line to be cleared */
        uint64_t total; /* bytes; 0: not known, or no bytes */
        uint64_t begun_us, drawn_us;
};

void progress_begin(struct progress *p, const char *what, uint64_t total_bytes);
void progress_bytes(struct progress *p, uint64_t done);
/* fraction 0..1; eta_s < 0: not known. */
void progress_fraction(struct progress *p, double fraction, double eta_s);
/* Takes the line away. */
void progress_end(struct progress *p);

#endif
