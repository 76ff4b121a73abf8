#include "io/uring/socket_address.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <array>
#include <random>

namespace dst::io::uring {
namespace {

/// What the C library makes of an address, mapped as the seam does.
std::optional<Address> system_address(const std::string& text) {
    Address address;
    if (inet_pton(AF_INET6, text.c_str(), address.bytes.data()) == 1) return address;
    address.bytes[10] = address.bytes[11] = 0xff;
    if (inet_pton(AF_INET, text.c_str(), address.bytes.data() + 12) == 1) return address;
    return std::nullopt;
}

std::string random_text(std::mt19937_64& random) {
    constexpr std::array<const char*, 14> kPieces{"0", "::", ":", ":",   ".",   "1.2.3.4", "ffff",
                                                  "1", "0:", "a", "255", "256", "00",      "12345"};
    std::string text;
    for (std::uint64_t left = random() % 16; left > 0; --left)
        text += kPieces.at(random() % kPieces.size());
    return text;
}

std::string random_address(std::mt19937_64& random) {
    std::array<unsigned char, 16> bytes{};
    for (std::size_t at = 0; at < bytes.size(); ++at)
        if (random() % 3 == 0) bytes.at(at) = static_cast<unsigned char>(random());
    std::array<char, INET6_ADDRSTRLEN> text{};
    inet_ntop(AF_INET6, bytes.data(), text.data(), text.size());
    return text.data();
}

TEST(SocketAddress, addresses_are_read_and_written_as_the_system_does) {
    const auto seed = std::random_device{}();
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    for (int count = 0; count < 100'000; ++count) {
        const std::string text = count % 2 == 0 ? random_text(random) : random_address(random);
        const auto address = parse_address(text);
        ASSERT_EQ(address, system_address(text)) << text;
        if (!address.has_value()) continue;
        ASSERT_EQ(parse_address(to_string(*address)), address) << text;
        // The system writes addresses of the forms ::1.2.3.4, too, as if they were mapped.
        if (count % 2 != 0 && text.find('.') == std::string::npos) {
            ASSERT_EQ(to_string(*address), text);
        }
    }
}

TEST(SocketAddress, endpoint_survives_the_way_through_the_kernels_form) {
    for (const Endpoint& endpoint :
         {Endpoint{"10.1.2.3", 65535, {}}, Endpoint{"fd00::1", 1, {}}, Endpoint{"::1", 0, {}}}) {
        const auto addresses = look_up(endpoint.host, endpoint.port, true);
        ASSERT_TRUE(addresses.has_value());
        EXPECT_EQ(endpoint_of(addresses->front()), endpoint);
        EXPECT_EQ(address_of(addresses->front()).port, endpoint.port);
    }
    const auto path = socket_address_of_path("/run/dst.sock");
    ASSERT_TRUE(path.has_value());
    EXPECT_EQ(endpoint_of(*path), (Endpoint{{}, 0, "/run/dst.sock"}));
    EXPECT_TRUE(address_of(*path).is_unix);
    EXPECT_FALSE(socket_address_of_path(std::string(108, 'x')).has_value());
}

}  // namespace
}  // namespace dst::io::uring
