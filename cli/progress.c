/* SPDX-License-Identifier: Apache-2.0
 * progress.c: see progress.h. The line is drawn ten times a second at most. */
#include "cli/progress.h"

#include "lib/util/clock.h"
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { REDRAW_US = 100000, BAR_MAX = 40, BAR_MIN = 10, TEXT_WIDTH = 48 };

void progress_begin(struct progress *p, const char *what, uint64_t total_bytes)
{
        *p = (struct progress){.what = what, .total = total_bytes, .begun_us = mono_us()};
        p->shown = isatty(STDERR_FILENO) == 1;
}

static bool due(struct progress *p)
{
        uint64_t now = mono_us();
        if (!p->shown || (p->drawn && now - p->drawn_us < REDRAW_US))
                return false;
        p->drawn_us = now;
        p->drawn = true;
        return true;
}

static int bar_width(void)
{
        struct winsize size = {0};
        int columns = 80;
        if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
                columns = size.ws_col;
        int width = columns - TEXT_WIDTH;
        return width > BAR_MAX ? BAR_MAX : width < BAR_MIN ? BAR_MIN : width;
}

static void draw_bar(const char *what, double fraction)
{
        char bar[BAR_MAX + 1];
        int width = bar_width();
        fraction = fraction < 0 ? 0 : fraction > 1 ? 1 : fraction;
        int full = (int)(fraction * width);
        for (int i = 0; i < width; i++)
                bar[i] = i < full ? '#' : '.';
        bar[width] = '\0';
        (void)fprintf(stderr, "\r\033[K%-10.10s [%s] %3d%%", what, bar, (int)(fraction * 100));
}

static void draw_eta(double eta_s)
{
        if (eta_s < 0 || eta_s > 1e6)
                return;
        unsigned s = (unsigned)(eta_s + 0.5);
        if (s >= 3600)
                (void)fprintf(stderr, "  ETA %u:%02u:%02u", s / 3600, s / 60 % 60, s % 60);
        else
                (void)fprintf(stderr, "  ETA %u:%02u", s / 60, s % 60);
}

static void draw_rate(double bytes_a_second)
{
        static const char *const units[] = {"B/s", "kB/s", "MB/s", "GB/s"};
        int unit = 0;
        while (bytes_a_second >= 1000 && unit < 3) {
                bytes_a_second /= 1000;
                unit++;
        }
        (void)fprintf(stderr, "  %.1f %s", bytes_a_second, units[unit]);
}

void progress_bytes(struct progress *p, uint64_t done)
{
        if (!due(p))
                return;
        double seconds = (double)(p->drawn_us - p->begun_us) / 1e6;
        double rate = seconds > 0 ? (double)done / seconds : 0;
        if (p->total > 0)
                draw_bar(p->what, (double)done / (double)p->total);
        else
                (void)fprintf(stderr, "\r\033[K%-10.10s %.1f MB", p->what, (double)done / 1e6);
        draw_rate(rate);
        if (p->total > done && rate > 0)
                draw_eta((double)(p->total - done) / rate);
        (void)fflush(stderr);
}

void progress_fraction(struct progress *p, double fraction, double eta_s)
{
        if (!due(p))
                return;
        draw_bar(p->what, fraction);
        draw_eta(eta_s);
        (void)fflush(stderr);
}

void progress_end(struct progress *p)
{
        if (p->drawn) {
                (void)fputs("\r\033[K", stderr);
                (void)fflush(stderr);
        }
        p->shown = false;
        p->drawn = false;
}
