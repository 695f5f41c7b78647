/* SPDX-License-Identifier: Apache-2.0
 * json_scan.c: a recursive descent over the bytes of a JSON text that builds nothing. It exists
 * because cJSON accepts more than JSON and says little about where a text is wrong. The recursion
 * is bounded by JSON_DEPTH_MAX. Error texts tell the offset and the rule, never the content. */
#include "lib/util/json_scan.h"

#include "lib/util/json.h"
#include "lib/util/number.h"
#include <math.h>
#include <stdint.h>
#include <string.h>

enum { NUMBER_BYTES_MAX = 63 }; /* what cJSON 1.7 reads of one number */

struct scan {
        const char *text;
        size_t len;
        size_t at;
        const char *problem; /* NULL as long as all is well */
        int depth;
        /* for json_scan_key_offset */
        size_t keys;       /* seen until now */
        size_t wanted_key; /* SIZE_MAX: none */
        size_t wanted_offset;
};

static bool fail(struct scan *s, const char *problem)
{
        if (s->problem == NULL)
                s->problem = problem;
        return false;
}

static int peek(const struct scan *s)
{
        return s->at < s->len ? (unsigned char)s->text[s->at] : -1;
}

static void skip_space(struct scan *s)
{
        int c = peek(s);
        while (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
                s->at++;
                c = peek(s);
        }
}

static bool accept(struct scan *s, char c)
{
        if (peek(s) != c)
                return false;
        s->at++;
        return true;
}

/* The table of Unicode 3.9: no overlong forms, no surrogates, nothing beyond U+10FFFF. */
size_t json_utf8_bytes(const uint8_t *p, size_t left)
{
        uint8_t lead = p[0];
        if (lead < 0x80)
                return 1;
        if (lead < 0xC2 || lead > 0xF4)
                return 0;
        size_t need = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
        uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
        uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
        if (need > left || p[1] < low || p[1] > high)
                return 0;
        for (size_t i = 2; i < need; i++) {
                if ((p[i] & 0xC0) != 0x80)
                        return 0;
        }
        return need;
}

static bool scan_utf8(struct scan *s)
{
        size_t n = json_utf8_bytes((const uint8_t *)s->text + s->at, s->len - s->at);
        s->at += n;
        return n > 0 ? true : fail(s, "invalid UTF-8");
}

/* The four digits of a \u escape at s->at; -1 if they are not there. */
static int hex4(const struct scan *s)
{
        int v = 0;
        if (s->len - s->at < 4)
                return -1;
        for (size_t i = 0; i < 4; i++) {
                char c = s->text[s->at + i];
                int digit;
                if (c >= '0' && c <= '9')
                        digit = c - '0';
                else if (c >= 'a' && c <= 'f')
                        digit = c - 'a' + 10;
                else if (c >= 'A' && c <= 'F')
                        digit = c - 'A' + 10;
                else
                        return -1;
                v = v * 16 + digit;
        }
        return v;
}

static bool scan_unicode_escape(struct scan *s)
{
        int unit = hex4(s);
        if (unit < 0)
                return fail(s, "\\u needs four hexadecimal digits");
        if (unit == 0)
                return fail(s, "NUL is not allowed in a string");
        if (unit >= 0xDC00 && unit <= 0xDFFF)
                return fail(s, "a low surrogate without its high one");
        s->at += 4;
        if (unit < 0xD800 || unit > 0xDBFF)
                return true;
        if (!accept(s, '\\') || !accept(s, 'u'))
                return fail(s, "a high surrogate without its low one");
        int low = hex4(s);
        if (low < 0xDC00 || low > 0xDFFF)
                return fail(s, "a high surrogate without its low one");
        s->at += 4;
        return true;
}

static bool scan_escape(struct scan *s)
{
        int c = peek(s);
        if (c <= 0 || strchr("\"\\/bfnrtu", c) == NULL)
                return fail(s, "an unknown escape in a string");
        s->at++;
        return c == 'u' ? scan_unicode_escape(s) : true;
}

static bool scan_string(struct scan *s)
{
        if (!accept(s, '"'))
                return fail(s, "a string is expected");
        for (;;) {
                int c = peek(s);
                if (c < 0)
                        return fail(s, "a string does not end");
                if (c < 0x20)
                        return fail(s, "a control character in a string must be escaped");
                if (accept(s, '"'))
                        return true;
                if (accept(s, '\\')) {
                        if (!scan_escape(s))
                                return false;
                } else if (!scan_utf8(s)) {
                        return false;
                }
        }
}

static bool scan_number(struct scan *s)
{
        const char *start = s->text + s->at;
        double v;
        size_t n = parse_f64(start, s->len - s->at, &v);
        if (n == 0)
                return fail(s, "a value is expected");
        if (n > NUMBER_BYTES_MAX)
                return fail(s, "a number is longer than 63 bytes");
        if (!isfinite(v))
                return fail(s, "a number is out of range");
        s->at += n;
        int c = peek(s);
        if ((c >= '0' && c <= '9') || c == '.' || c == 'e' || c == 'E' || c == '+' || c == '-')
                return fail(s, "a number is not well formed");
        return true;
}

static bool scan_word(struct scan *s, const char *word)
{
        size_t n = strlen(word);
        if (s->len - s->at < n || memcmp(s->text + s->at, word, n) != 0)
                return fail(s, "a value is expected");
        s->at += n;
        return true;
}

static bool scan_value(struct scan *s);

static bool scan_member(struct scan *s)
{
        if (s->keys++ == s->wanted_key)
                s->wanted_offset = s->at;
        if (peek(s) != '"')
                return fail(s, "the key of a member is expected");
        if (!scan_string(s))
                return false;
        skip_space(s);
        if (!accept(s, ':'))
                return fail(s, "a colon is expected");
        return scan_value(s);
}

/* What stands between the brackets of an array or an object, and the closing one. */
static bool scan_items(struct scan *s, char close, bool (*item)(struct scan *))
{
        if (++s->depth > JSON_DEPTH_MAX)
                return fail(s, "nested too deeply");
        s->at++;
        skip_space(s);
        while (!accept(s, close)) {
                if (!item(s))
                        return false;
                skip_space(s);
                if (accept(s, ',')) {
                        skip_space(s);
                        if (peek(s) == close)
                                return fail(s, "nothing follows a comma");
                } else if (peek(s) != close) {
                        return fail(s, "a comma or the end of the list is expected");
                }
        }
        s->depth--;
        return true;
}

static bool scan_value(struct scan *s)
{
        skip_space(s);
        switch (peek(s)) {
        case '{':
                return scan_items(s, '}', scan_member);
        case '[':
                return scan_items(s, ']', scan_value);
        case '"':
                return scan_string(s);
        case 't':
                return scan_word(s, "true");
        case 'f':
                return scan_word(s, "false");
        case 'n':
                return scan_word(s, "null");
        case -1:
                return fail(s, "the text ends before its value does");
        default:
                return scan_number(s);
        }
}

int json_scan(const char *text, size_t len, struct errinfo *e)
{
        struct scan s = {.text = text, .len = len, .wanted_key = SIZE_MAX};
        if (scan_value(&s)) {
                skip_space(&s);
                if (s.at != len)
                        fail(&s, "something follows the value");
        }
        if (s.problem != NULL)
                return ul_fail(e, UL_SYNTAX, "not valid JSON at byte %zu: %s", s.at, s.problem);
        return UL_OK;
}

size_t json_scan_key_offset(const char *text, size_t len, size_t ordinal)
{
        struct scan s = {.text = text, .len = len, .wanted_key = ordinal};
        scan_value(&s);
        return s.wanted_offset;
}
