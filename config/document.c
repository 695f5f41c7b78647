/* SPDX-License-Identifier: Apache-2.0
 * document.c: what is written from the option table: the documented unlearnd.conf, the options of
 * --help and those of the man page. It must not know a single option by name, so that none can be
 * forgotten. */
#include "config/config.h"
#include "config/options.h"
#include "lib/util/bytes.h"
#include <string.h>

enum {
        WIDTH = 78,       /* columns of text */
        HELP_INDENT = 31, /* where --help's sentences start */
};

/* Words of `text`, each line opened by `prefix`, broken before WIDTH. `column`: where the cursor
 * stands on the first line, 0: at its start (the prefix is written). */
static void wrap(struct buf *out, const char *prefix, size_t column, const char *text)
{
        size_t margin = strlen(prefix);
        bool fresh = true;
        if (column == 0) {
                buf_append_str(out, prefix);
                column = margin;
        }
        while (*text != '\0') {
                size_t len = strcspn(text, " ");
                if (!fresh && column + 1 + len > WIDTH) {
                        buf_append_str(out, "\n");
                        buf_append_str(out, prefix);
                        column = margin;
                        fresh = true;
                }
                if (!fresh)
                        buf_append_str(out, " ");
                buf_append(out, text, len);
                column += len + !fresh;
                fresh = false;
                text += len;
                text += strspn(text, " ");
        }
        buf_append_str(out, "\n");
}

static bool opens_section(size_t i)
{
        return i == 0 || strcmp(config_options[i].section, config_options[i - 1].section) != 0;
}

/* A section that has a name of its own: what it is for, and an example. */
static void document_section(struct buf *out, const struct section_spec *s)
{
        buf_append_str(out, "\n");
        wrap(out, "# ", 0, s->help);
        for (size_t i = 0; i < SECTION_EXAMPLE; i++)
                buf_printf(out, "# %s\n", s->example[i]);
}

void config_document(struct buf *out)
{
        wrap(out, "# ", 0,
             "unlearnd.conf: every option of unlearnd, with its default. Uncomment an option to "
             "change it; an empty value means the default. Every option is also a flag (data_dir "
             "is --data-dir), and flags go before this file. SIGHUP reads tokens_file again; any "
             "other change needs a restart.");
        for (size_t i = 0; i < config_option_count; i++) {
                const struct option_spec *o = &config_options[i];
                if (opens_section(i)) {
                        buf_printf(out, "\n[%s]\n", o->section);
                        wrap(out, "# ", 0, config_section_help(o->section));
                }
                buf_append_str(out, "\n");
                wrap(out, "# ", 0, o->help);
                if (o->choices != NULL)
                        buf_printf(out, "# One of %s.\n", o->choices);
                buf_printf(out, "#%s =%s%s\n", o->name, o->value[0] != '\0' ? " " : "", o->value);
        }
        for (size_t i = 0; i < config_section_count; i++)
                document_section(out, &config_sections[i]);
}

/* "--data-dir DIR" */
static size_t put_flag(struct buf *out, const struct option_spec *o, const char *dash)
{
        size_t width = 2 + strlen(o->name);
        buf_printf(out, "%s%s", dash, dash);
        for (const char *p = o->name; *p != '\0'; p++) {
                if (*p == '_')
                        buf_append_str(out, dash);
                else
                        buf_append(out, p, 1);
        }
        return width;
}

void config_help(struct buf *out)
{
        char prefix[HELP_INDENT + 1];
        memset(prefix, ' ', HELP_INDENT);
        prefix[HELP_INDENT] = '\0';
        for (size_t i = 0; i < config_option_count; i++) {
                const struct option_spec *o = &config_options[i];
                if (opens_section(i))
                        buf_printf(out, "\n[%s] %s\n", o->section, config_section_help(o->section));
                buf_append_str(out, "  ");
                size_t column = 2 + put_flag(out, o, "-");
                if (o->metavar != NULL) {
                        buf_printf(out, " %s", o->metavar);
                        column += 1 + strlen(o->metavar);
                }
                if (column + 1 >= HELP_INDENT) {
                        buf_append_str(out, "\n");
                        column = 0;
                } else {
                        buf_append(out, prefix, HELP_INDENT - column);
                        column = HELP_INDENT;
                }
                wrap(out, prefix, column, o->help);
                if (o->value[0] != '\0' && o->type != OPTION_BOOL)
                        buf_printf(out, "%s%s%s%sdefault %s\n", prefix,
                                   o->choices != NULL ? "one of " : "",
                                   o->choices != NULL ? o->choices : "",
                                   o->choices != NULL ? "; " : "", o->value);
        }
}

/* roff gives meaning to a backslash, and to a dot or a quote at a line's start. */
static void put_roff(struct buf *out, const char *text)
{
        if (*text == '.' || *text == '\'')
                buf_append_str(out, "\\&");
        for (; *text != '\0'; text++) {
                if (*text == '\\')
                        buf_append_str(out, "\\e");
                else if (*text == '-')
                        buf_append_str(out, "\\-");
                else
                        buf_append(out, text, 1);
        }
        buf_append_str(out, "\n");
}

static void man_section(struct buf *out, const struct section_spec *s)
{
        buf_printf(out, ".SS [%s NAME]\n", s->kind);
        put_roff(out, s->help);
        buf_append_str(out, ".PP\n.nf\n");
        for (size_t i = 0; i < SECTION_EXAMPLE; i++)
                put_roff(out, s->example[i]);
        buf_append_str(out, ".fi\n");
}

void config_man(struct buf *out)
{
        buf_append_str(out, ".SH OPTIONS\n");
        for (size_t i = 0; i < config_option_count; i++) {
                const struct option_spec *o = &config_options[i];
                if (opens_section(i)) {
                        buf_printf(out, ".SS [%s]\n", o->section);
                        put_roff(out, config_section_help(o->section));
                }
                buf_printf(out, ".TP\n\\fB%s\\fR (\\fB", o->name);
                (void)put_flag(out, o, "\\-");
                buf_append_str(out, "\\fR");
                if (o->metavar != NULL)
                        buf_printf(out, " \\fI%s\\fR", o->metavar);
                buf_append_str(out, ")\n");
                put_roff(out, o->help);
                if (o->choices != NULL) {
                        buf_append_str(out, "One of ");
                        put_roff(out, o->choices);
                }
                if (o->value[0] != '\0') {
                        buf_append_str(out, "Default: ");
                        put_roff(out, o->value);
                }
        }
        for (size_t i = 0; i < config_section_count; i++)
                man_section(out, &config_sections[i]);
}
