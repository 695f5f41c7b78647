/* SPDX-License-Identifier: Apache-2.0
 * shown.h: the store as it may be shown. Between a commit and the moment at which others may see it
 * lies work (unlearnd serves what the commit says first), and whoever reads meanwhile must neither
 * see the commit nor wait. LMDB begins a read at the newest commit alone, so reads are begun at
 * that moment, before the next commit, kept, and handed out one after another.
 *
 * A read that is out at a shown_advance keeps what it sees, and is brought up at the next one after
 * it came back. So there are two for each reader: while all of them still hold an old one, there is
 * a new one for each. No page is kept by this from being used again that LMDB would not keep. */
#ifndef UNLEARND_STORE_SHOWN_H
#define UNLEARND_STORE_SHOWN_H

#include "lib/store/store.h"

struct shown;

/* readers: transactions out at a time. Nothing is shown before the first shown_advance. */
int shown_open(struct store *s, uint32_t readers, struct shown **out, struct errinfo *e);
/* All are back; before store_close. */
void shown_close(struct shown **v);
/* What is committed now is shown from here on. On the thread that commits. */
void shown_advance(struct shown *v);
/* A read transaction of what is shown, from any thread; txn_abort gives it back. UL_BUSY: too many
 * are out; or the error that the last shown_advance met. */
int shown_read(struct shown *v, struct txn **out, struct errinfo *e);

#endif
