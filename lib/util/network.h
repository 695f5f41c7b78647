/* SPDX-License-Identifier: Apache-2.0
 * network.h: addresses and networks of IPv4 and IPv6, and which addresses are of the public
 * Internet. Pure: it looks no name up and opens no socket. An address is 16 bytes as IPv6 has them;
 * IPv4 stands in ::ffff:0:0/96, so that one address has one form (RFC 4291, 2.5.5.2). */
#ifndef UNLEARND_UTIL_NETWORK_H
#define UNLEARND_UTIL_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sockaddr;

enum { ADDRESS_BYTES = 16, NETWORKS_MAX = 32 };
struct network {
        uint8_t address[ADDRESS_BYTES];
        uint32_t bits; /* of the 128 that must be equal */
};

/* False: neither IPv4 nor IPv6. */
bool address_of(const struct sockaddr *a, uint8_t out[ADDRESS_BYTES]);
/* "10.0.0.0/8", "fd00::/8", or a single address. False: malformed, or bits are set behind its end
 * (10.1.0.0/8 is likely a slip). */
bool network_parse(const char *text, size_t len, struct network *out);
/* Networks separated by commas or spaces; at most NETWORKS_MAX. False: one is malformed. */
bool networks_parse(const char *text, struct network out[NETWORKS_MAX], uint32_t *count);
bool network_contains(const struct network *n, const uint8_t address[ADDRESS_BYTES]);
/* False for whatever is not globally reachable unicast (IANA's special-purpose registries, RFC
 * 6890): this host, loopback, private, shared, link-local, unique local, documentation, benchmarks,
 * multicast, broadcast, reserved; for IPv6 forms that carry such an IPv4 address; and for the
 * addresses at which clouds serve their metadata. */
bool address_public(const uint8_t address[ADDRESS_BYTES]);

#endif
