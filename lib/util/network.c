/* SPDX-License-Identifier: Apache-2.0
 * network.c: see network.h. The table is IANA's two special-purpose registries, and what clouds
 * add to them. For IPv6 it names what is public, 2000::/3, and the exceptions in it. */
#include "lib/util/network.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

enum { V4_PREFIX_BYTES = 12, V4_PREFIX_BITS = 96, TEXT_MAX = 64 };

static const uint8_t v4_prefix[V4_PREFIX_BYTES] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
static const uint8_t nat64_prefix[V4_PREFIX_BYTES] = {0, 0x64, 0xff, 0x9b}; /* RFC 6052 */

static void set_v4(uint8_t out[ADDRESS_BYTES], const void *v4)
{
        memcpy(out, v4_prefix, V4_PREFIX_BYTES);
        memcpy(out + V4_PREFIX_BYTES, v4, 4);
}

bool address_of(const struct sockaddr *a, uint8_t out[ADDRESS_BYTES])
{
        if (a->sa_family == AF_INET) {
                const struct sockaddr_in *in = (const void *)a;
                set_v4(out, &in->sin_addr);
                return true;
        }
        if (a->sa_family == AF_INET6) {
                const struct sockaddr_in6 *in6 = (const void *)a;
                memcpy(out, &in6->sin6_addr, ADDRESS_BYTES);
                return true;
        }
        return false;
}

bool network_contains(const struct network *n, const uint8_t address[ADDRESS_BYTES])
{
        uint32_t whole = n->bits / 8, rest = n->bits % 8;
        if (memcmp(n->address, address, whole) != 0)
                return false;
        if (rest == 0)
                return true;
        return (n->address[whole] ^ address[whole]) >> (8 - rest) == 0;
}

static bool parse_bits(const char *text, uint32_t max, uint32_t *out)
{
        char *end = NULL;
        if (text[0] < '0' || text[0] > '9')
                return false;
        unsigned long v = strtoul(text, &end, 10);
        *out = (uint32_t)v;
        return *end == '\0' && v <= max;
}

static bool nothing_behind(const struct network *n)
{
        for (uint32_t i = n->bits; i < 8 * ADDRESS_BYTES; i++)
                if ((n->address[i / 8] >> (7 - i % 8) & 1) != 0)
                        return false;
        return true;
}

bool network_parse(const char *text, size_t len, struct network *out)
{
        char copy[TEXT_MAX];
        uint8_t v4[4];
        *out = (struct network){.bits = 8 * ADDRESS_BYTES};
        if (len == 0 || len >= sizeof copy)
                return false;
        memcpy(copy, text, len);
        copy[len] = '\0';
        char *slash = strchr(copy, '/');
        if (slash != NULL)
                *slash++ = '\0';
        if (inet_pton(AF_INET, copy, v4) == 1) {
                set_v4(out->address, v4);
                if (slash != NULL && !parse_bits(slash, 32, &out->bits))
                        return false;
                if (slash != NULL)
                        out->bits += V4_PREFIX_BITS;
        } else if (inet_pton(AF_INET6, copy, out->address) != 1 ||
                   (slash != NULL && !parse_bits(slash, 128, &out->bits))) {
                return false;
        }
        return nothing_behind(out);
}

bool networks_parse(const char *text, struct network out[NETWORKS_MAX], uint32_t *count)
{
        static const char between[] = ", \t";
        *count = 0;
        for (text += strspn(text, between); *text != '\0'; text += strspn(text, between)) {
                size_t len = strcspn(text, between);
                if (*count == NETWORKS_MAX || !network_parse(text, len, &out[*count]))
                        return false;
                ++*count;
                text += len;
        }
        return true;
}

struct v4_block {
        uint8_t address[4];
        uint32_t bits;
};
static const struct v4_block not_public_v4[] = {
        {{0, 0, 0, 0}, 8},        /* this network, and this host */
        {{10, 0, 0, 0}, 8},       /* private */
        {{100, 64, 0, 0}, 10},    /* shared: carrier NAT; Alibaba's metadata */
        {{127, 0, 0, 0}, 8},      /* loopback */
        {{168, 63, 129, 16}, 32}, /* Azure's wire server */
        {{169, 254, 0, 0}, 16},   /* link-local; the metadata of most clouds */
        {{172, 16, 0, 0}, 12},    /* private */
        {{192, 0, 0, 0}, 24},     /* IETF protocols; Oracle's metadata */
        {{192, 0, 2, 0}, 24},     /* documentation */
        {{192, 88, 99, 0}, 24},   /* 6to4 relays, deprecated */
        {{192, 168, 0, 0}, 16},   /* private */
        {{198, 18, 0, 0}, 15},    /* benchmarks */
        {{198, 51, 100, 0}, 24},  /* documentation */
        {{203, 0, 113, 0}, 24},   /* documentation */
        {{224, 0, 0, 0}, 4},      /* multicast */
        {{240, 0, 0, 0}, 4},      /* reserved, and broadcast */
};
static const struct network not_public_v6[] = {
        {{0x20, 0x01}, 23},             /* IETF protocols: Teredo, ORCHID, benchmarks */
        {{0x20, 0x01, 0x0d, 0xb8}, 32}, /* documentation */
        {{0x20, 0x02}, 16},             /* 6to4: carries an IPv4 address */
        {{0x3f, 0xff}, 20},             /* documentation */
};

static bool v4_public(const uint8_t v4[4])
{
        uint8_t address[ADDRESS_BYTES];
        set_v4(address, v4);
        for (size_t i = 0; i < sizeof not_public_v4 / sizeof not_public_v4[0]; i++) {
                struct network n = {.bits = V4_PREFIX_BITS + not_public_v4[i].bits};
                set_v4(n.address, not_public_v4[i].address);
                if (network_contains(&n, address))
                        return false;
        }
        return true;
}

bool address_public(const uint8_t address[ADDRESS_BYTES])
{
        static const struct network global_unicast = {{0x20}, 3};
        if (memcmp(address, v4_prefix, V4_PREFIX_BYTES) == 0 ||
            memcmp(address, nat64_prefix, V4_PREFIX_BYTES) == 0)
                return v4_public(address + V4_PREFIX_BYTES);
        if (!network_contains(&global_unicast, address))
                return false;
        for (size_t i = 0; i < sizeof not_public_v6 / sizeof not_public_v6[0]; i++)
                if (network_contains(&not_public_v6[i], address))
                        return false;
        return true;
}
