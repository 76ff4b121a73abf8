#include "io/address.h"

#include <gtest/gtest.h>

namespace dst::io {
namespace {

std::string problem_of(std::string_view text, std::uint16_t default_port = 10809) {
    const auto endpoint = parse_endpoint(text, default_port);
    return endpoint.has_value() ? "understood" : endpoint.error().text;
}

TEST(Endpoint, reads_hosts_addresses_and_paths) {
    EXPECT_EQ(parse_endpoint("alpha:1234", 0), (Endpoint{"alpha", 1234, ""}));
    EXPECT_EQ(parse_endpoint("alpha.example-2.org", 10809),
              (Endpoint{"alpha.example-2.org", 10809, ""}));
    EXPECT_EQ(parse_endpoint("127.0.0.1:0", 10809), (Endpoint{"127.0.0.1", 0, ""}));
    EXPECT_EQ(parse_endpoint("[::1]:65535", 0), (Endpoint{"::1", 65535, ""}));
    EXPECT_EQ(parse_endpoint("[fe80::1%eth0]", 10809), (Endpoint{"fe80::1%eth0", 10809, ""}));
    EXPECT_EQ(parse_endpoint("unix:/run/a b:c", 10809), (Endpoint{"", 0, "/run/a b:c"}));
}

TEST(Endpoint, is_written_as_it_is_read) {
    for (const std::string_view text :
         {"alpha:1", "127.0.0.1:0", "[::1]:65535", "[fe80::1%eth0]:5", "unix:/run/x"}) {
        EXPECT_EQ(to_string(*parse_endpoint(text, 0)), text);
    }
}

TEST(Endpoint, refusal_says_what_is_wrong_and_what_to_write) {
    EXPECT_EQ(problem_of("alpha", 0),
              "address 'alpha' is not understood: the port is missing; write HOST:PORT, "
              "[IPV6]:PORT or unix:/PATH");
    const auto refused_for = [](std::string_view text, std::string_view why) {
        return problem_of(text).find(why) != std::string::npos;
    };
    EXPECT_TRUE(refused_for("", "it is empty"));
    EXPECT_TRUE(refused_for("::1", "an IPv6 address needs brackets"));
    EXPECT_TRUE(refused_for("a:b:1", "an IPv6 address needs brackets"));
    EXPECT_TRUE(refused_for("[::1", "']' is missing"));
    EXPECT_TRUE(refused_for("[127.0.0.1]:1", "'127.0.0.1' is no IPv6 address"));
    EXPECT_TRUE(refused_for("[]:1", "'' is no IPv6 address"));
    EXPECT_TRUE(refused_for("[::1]1", "'1' follows the ']'"));
    EXPECT_TRUE(refused_for("alpha:", "'' is no port"));
    EXPECT_TRUE(refused_for("alpha:65536", "'65536' is no port"));
    EXPECT_TRUE(refused_for("alpha:+1", "'+1' is no port"));
    EXPECT_TRUE(refused_for("alpha:1x", "'1x' is no port"));
    EXPECT_TRUE(refused_for(":1", "the host is missing"));
    EXPECT_TRUE(refused_for("al pha:1", "'al pha' is no host name"));
    EXPECT_TRUE(refused_for("unix:", "the path is missing"));
    EXPECT_TRUE(refused_for(std::string(300, 'a'), "is no host name"));
    EXPECT_TRUE(refused_for(std::string_view("a\0b:1", 5), "zero byte"));
}

TEST(Address, ipv4_is_mapped_into_ipv6) {
    const auto v4 = parse_address("10.1.2.3");
    ASSERT_TRUE(v4.has_value());
    EXPECT_EQ(v4, parse_address("::ffff:10.1.2.3"));
    EXPECT_EQ(to_string(*v4), "10.1.2.3");
    EXPECT_EQ(to_string(*parse_address("fd00:0:0::1")), "fd00::1");
}

TEST(Address, shows_its_port_if_it_has_one) {
    auto address = *parse_address("10.1.2.3");
    address.port = 7;
    EXPECT_EQ(to_string(address), "10.1.2.3:7");
    address = *parse_address("::1");
    address.port = 7;
    EXPECT_EQ(to_string(address), "[::1]:7");
    EXPECT_EQ(to_string(Address{{}, 0, true}), "unix");
}

TEST(Address, refuses_what_is_no_address) {
    for (const std::string_view text :
         {"", "alpha", "1.2.3", "1.2.3.4.5", "1.2.3.256", "::1::", "10.0.0.0/8", "[::1]"}) {
        EXPECT_FALSE(parse_address(text).has_value()) << text;
    }
    EXPECT_FALSE(parse_address(std::string(100, '1')).has_value());
    EXPECT_FALSE(parse_address(std::string_view("1.2.3.4\0", 8)).has_value());
}

bool lies_in(std::string_view address, std::string_view network) {
    return parse_subnet(network)->contains(*parse_address(address));
}

TEST(Subnet, contains_what_shares_its_prefix) {
    EXPECT_TRUE(lies_in("10.255.255.255", "10.0.0.0/8"));
    EXPECT_FALSE(lies_in("11.0.0.0", "10.0.0.0/8"));
    EXPECT_TRUE(lies_in("192.168.1.127", "192.168.1.0/25"));
    EXPECT_FALSE(lies_in("192.168.1.128", "192.168.1.0/25"));
    EXPECT_TRUE(lies_in("10.0.0.1", "10.0.0.1"));
    EXPECT_FALSE(lies_in("10.0.0.2", "10.0.0.1"));
    EXPECT_TRUE(lies_in("1.2.3.4", "0.0.0.0/0"));
    EXPECT_FALSE(lies_in("::1", "0.0.0.0/0"));
    EXPECT_TRUE(lies_in("1.2.3.4", "::/0"));
    EXPECT_TRUE(lies_in("fd12::1", "fd00::/8"));
    EXPECT_FALSE(lies_in("fe00::1", "fd00::/8"));
    EXPECT_TRUE(lies_in("10.9.9.9", "10.1.2.3/8")) << "bits behind the prefix do not count";
}

TEST(Subnet, a_socket_in_the_file_system_counts_as_loopback) {
    const Address local{{}, 0, true};
    EXPECT_TRUE(parse_subnet("127.0.0.0/8")->contains(local));
    EXPECT_TRUE(parse_subnet("::1")->contains(local));
    EXPECT_TRUE(parse_subnet("0.0.0.0/0")->contains(local));
    EXPECT_FALSE(parse_subnet("10.0.0.0/8")->contains(local));
}

TEST(Subnet, refusal_says_what_is_wrong_and_what_to_write) {
    EXPECT_EQ(parse_subnet("10.0.0.0/33").error().text,
              "network '10.0.0.0/33' is not understood: '33' is no prefix length (0 to 32); write "
              "it as 10.0.0.0/8, fd00::/8, or one address");
    EXPECT_FALSE(parse_subnet("fd00::/129").has_value());
    EXPECT_FALSE(parse_subnet("10.0.0.0/").has_value());
    EXPECT_FALSE(parse_subnet("10.0.0.0/-1").has_value());
    EXPECT_FALSE(parse_subnet("any").has_value());
    EXPECT_FALSE(parse_subnet("").has_value());
}

}  // namespace
}  // namespace dst::io
