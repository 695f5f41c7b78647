/* SPDX-License-Identifier: Apache-2.0
 * test_network.c: which addresses may be spoken to. Every form in which a private address can be
 * written counts as that address. */
#include "lib/util/network.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void parse(const char *text, uint8_t out[ADDRESS_BYTES])
{
        struct network n;
        if (!network_parse(text, strlen(text), &n))
                fail_msg("%s", text);
        memcpy(out, n.address, ADDRESS_BYTES);
}

static const char *const closed[] = {"0.0.0.0",
                                     "0.1.2.3",
                                     "10.0.0.1",
                                     "10.255.255.255",
                                     "100.64.0.1",
                                     "100.100.100.200",
                                     "127.0.0.1",
                                     "127.255.255.254",
                                     "168.63.129.16",
                                     "169.254.0.1",
                                     "169.254.169.254",
                                     "172.16.0.1",
                                     "172.31.255.255",
                                     "192.0.0.192",
                                     "192.0.2.1",
                                     "192.88.99.1",
                                     "192.168.0.1",
                                     "198.18.0.1",
                                     "198.19.255.255",
                                     "198.51.100.7",
                                     "203.0.113.9",
                                     "224.0.0.1",
                                     "239.255.255.255",
                                     "240.0.0.1",
                                     "255.255.255.255",
                                     "::",
                                     "::1",
                                     "::2",
                                     "::127.0.0.1",
                                     "::ffff:127.0.0.1",
                                     "::ffff:10.1.2.3",
                                     "::ffff:169.254.169.254",
                                     "64:ff9b::10.0.0.1",
                                     "64:ff9b::127.0.0.1",
                                     "64:ff9b:1::8.8.8.8",
                                     "100::1",
                                     "2001::1",
                                     "2001:db8::1",
                                     "2002:7f00:1::1",
                                     "2002:808:808::1",
                                     "3fff::1",
                                     "fc00::1",
                                     "fd00:ec2::254",
                                     "fdff::1",
                                     "fe80::1",
                                     "febf::1",
                                     "fec0::1",
                                     "ff02::1",
                                     "5f00::1"};
static const char *const open_to_all[] = {
        "1.1.1.1",         "8.8.8.8",          "9.255.255.255",   "11.0.0.0",
        "100.63.255.255",  "100.128.0.0",      "126.255.255.255", "128.0.0.0",
        "168.63.129.15",   "168.63.129.17",    "169.253.255.255", "169.255.0.0",
        "172.15.255.255",  "172.32.0.0",       "192.0.1.0",       "192.167.255.255",
        "192.169.0.0",     "198.17.255.255",   "198.20.0.0",      "223.255.255.255",
        "::ffff:8.8.8.8",  "64:ff9b::8.8.8.8", "2001:200::1",     "2001:4860:4860::8888",
        "2606:4700::1111", "2a00::1"};

static void what_is_not_of_the_public_internet_is_closed(void **state)
{
        (void)state;
        uint8_t a[ADDRESS_BYTES];
        for (size_t i = 0; i < sizeof closed / sizeof closed[0]; i++) {
                parse(closed[i], a);
                if (address_public(a))
                        fail_msg("%s is taken for public", closed[i]);
        }
}

static void what_is_public_is_open_up_to_its_neighbours(void **state)
{
        (void)state;
        uint8_t a[ADDRESS_BYTES];
        for (size_t i = 0; i < sizeof open_to_all / sizeof open_to_all[0]; i++) {
                parse(open_to_all[i], a);
                if (!address_public(a))
                        fail_msg("%s is refused", open_to_all[i]);
        }
}

static void a_socket_address_has_one_form(void **state)
{
        (void)state;
        struct sockaddr_in in = {.sin_family = AF_INET};
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
        struct sockaddr other = {.sa_family = AF_UNIX};
        uint8_t a[ADDRESS_BYTES], b[ADDRESS_BYTES];
        assert_int_equal(inet_pton(AF_INET, "192.168.1.2", &in.sin_addr), 1);
        assert_int_equal(inet_pton(AF_INET6, "::ffff:192.168.1.2", &in6.sin6_addr), 1);
        assert_true(address_of((const struct sockaddr *)&in, a));
        assert_true(address_of((const struct sockaddr *)&in6, b));
        assert_memory_equal(a, b, ADDRESS_BYTES);
        assert_false(address_of(&other, a));
}

static void a_network_holds_its_addresses_and_no_others(void **state)
{
        (void)state;
        static const struct {
                const char *network, *address;
                bool inside;
        } cases[] = {
                {"127.0.0.0/8", "127.9.9.9", true},    {"127.0.0.0/8", "::ffff:127.0.0.1", true},
                {"127.0.0.0/8", "128.0.0.0", false},   {"127.0.0.0/8", "::1", false},
                {"10.32.0.0/11", "10.63.0.1", true},   {"10.32.0.0/11", "10.64.0.1", false},
                {"0.0.0.0/0", "8.8.8.8", true},        {"0.0.0.0/0", "2a00::1", false},
                {"::/0", "127.0.0.1", true},           {"192.168.0.7", "192.168.0.7", true},
                {"192.168.0.7", "192.168.0.6", false}, {"fd00::/8", "fdff::1", true},
                {"fd00::/8", "fc00::1", false},        {"::1", "::1", true}};
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
                struct network n;
                uint8_t a[ADDRESS_BYTES];
                assert_true(network_parse(cases[i].network, strlen(cases[i].network), &n));
                parse(cases[i].address, a);
                if (network_contains(&n, a) != cases[i].inside)
                        fail_msg("%s and %s", cases[i].network, cases[i].address);
        }
}

static void what_is_no_network_is_refused(void **state)
{
        (void)state;
        static const char too_long[] =
                "0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0";
        static const char *const bad[] = {"",
                                          "x",
                                          "10.0.0.0/",
                                          "10.0.0.0/33",
                                          "10.0.0.0/-1",
                                          "10.0.0.0/8x",
                                          "10.0.0.0/8/8",
                                          "10.1.0.0/8",
                                          "::/129",
                                          "::1/64",
                                          "010.0.0.1",
                                          "10.0.0",
                                          "localhost",
                                          "1.2.3.4 ",
                                          too_long};
        struct network n, many[NETWORKS_MAX];
        uint32_t count;
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
                if (network_parse(bad[i], strlen(bad[i]), &n))
                        fail_msg("%s", bad[i]);
        assert_true(networks_parse("", many, &count));
        assert_int_equal(count, 0);
        assert_true(networks_parse(" 127.0.0.0/8,::1 , 10.0.0.0/8\t", many, &count));
        assert_int_equal(count, 3);
        assert_int_equal(many[2].bits, 104);
        assert_false(networks_parse("127.0.0.0/8, nonsense", many, &count));
        char long_list[NETWORKS_MAX * 4 + 8] = "";
        for (int i = 0; i <= NETWORKS_MAX; i++)
                memcpy(long_list + (size_t)i * 4, "::1 ", 4);
        assert_false(networks_parse(long_list, many, &count));
        long_list[(size_t)NETWORKS_MAX * 4] = '\0';
        assert_true(networks_parse(long_list, many, &count));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_is_not_of_the_public_internet_is_closed),
                cmocka_unit_test(what_is_public_is_open_up_to_its_neighbours),
                cmocka_unit_test(a_socket_address_has_one_form),
                cmocka_unit_test(a_network_holds_its_addresses_and_no_others),
                cmocka_unit_test(what_is_no_network_is_refused),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
