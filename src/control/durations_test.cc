#include "control/durations.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <random>

namespace dst::control {
namespace {

using namespace std::chrono_literals;

TEST(Durations, are_read_with_every_unit) {
    EXPECT_EQ(parse_duration("250us").value(), 250us);
    EXPECT_EQ(parse_duration("100ms").value(), 100ms);
    EXPECT_EQ(parse_duration("5s").value(), 5s);
    EXPECT_EQ(parse_duration("2m").value(), 2min);
    EXPECT_EQ(parse_duration("3h").value(), 3h);
    EXPECT_EQ(parse_duration("1d").value(), 24h);
}

TEST(Durations, are_refused_with_what_to_write_instead) {
    EXPECT_EQ(parse_duration("5").error().text, "\"5\" has no unit; write 5s, 5ms or 5m");
    for (const char* bad : {"", "s", "-5s", "5 s", "5sec", "1.5s", "0s", "99999999999999999999s",
                            "4000d", "5S", " 5s", "5s ", "forever", "5\ns"}) {
        const auto duration = parse_duration(bad);
        ASSERT_FALSE(duration.has_value()) << bad;
        EXPECT_EQ(duration.error().text.find('\n'), std::string::npos) << bad;
    }
}

TEST(Durations, come_back_as_they_were_written) {
    for (const char* text : {"250us", "100ms", "5s", "2m", "3h", "1d", "90s", "1500ms"}) {
        EXPECT_EQ(to_string(parse_duration(text).value()), text);
    }
    EXPECT_EQ(to_string(parse_duration("60s").value()), "1m");
}

TEST(Sizes, are_read_in_powers_of_1024) {
    EXPECT_EQ(parse_size("0").value().value(), 0U);
    EXPECT_EQ(parse_size("512").value().value(), 512U);
    EXPECT_EQ(parse_size("4k").value().value(), 4096U);
    EXPECT_EQ(parse_size("64M").value().value(), 64ULL << 20);
    EXPECT_EQ(parse_size("64MiB").value().value(), 64ULL << 20);
    EXPECT_EQ(parse_size("3G").value().value(), 3ULL << 30);
    EXPECT_EQ(parse_size("7E").value().value(), 7ULL << 60);
    for (const char* bad : {"", "M", "-1M", "1.5G", "64MB", "64 M", "8E", "16384P", "1Q", "64B",
                            "99999999999999999999", "4kk", "0x10"}) {
        EXPECT_FALSE(parse_size(bad).has_value()) << bad;
    }
}

TEST(Sizes, come_back_whatever_they_are) {
    std::mt19937_64 random(7);
    for (int i = 0; i < 10'000; ++i) {
        const ByteCount size(random() >> (1 + random() % 63) << (random() % 12) >> 1);
        EXPECT_EQ(parse_size(to_string(size)).value(), size);
    }
}

TEST(Sizes, are_shown_to_people_with_three_digits) {
    EXPECT_EQ(human_size(ByteCount(0)), "0 B");
    EXPECT_EQ(human_size(ByteCount(1023)), "1023 B");
    EXPECT_EQ(human_size(ByteCount(1024)), "1.00 KiB");
    EXPECT_EQ(human_size(ByteCount(12 << 10)), "12.0 KiB");
    EXPECT_EQ(human_size(ByteCount(1023 << 10)), "1.00 MiB");
    EXPECT_EQ(human_size(ByteCount(300ULL << 30)), "300 GiB");
    EXPECT_EQ(human_size(ByteCount(~0ULL)), "16.0 EiB");
}

TEST(Durations, are_shown_to_people_in_two_units) {
    EXPECT_EQ(human_duration(0s), "0s");
    EXPECT_EQ(human_duration(-5s), "0s");
    EXPECT_EQ(human_duration(12s), "12s");
    EXPECT_EQ(human_duration(302s), "5m 2s");
    EXPECT_EQ(human_duration(300s), "5m");
    EXPECT_EQ(human_duration(76h + 5min), "3d 4h");
    EXPECT_EQ(human_duration(72h + 5min), "3d");
}

TEST(Quoting, keeps_a_message_on_one_line) {
    EXPECT_EQ(in_quotes("a\"b\\c\n\x01"), "\"a\\\"b\\\\c\\x0a\\x01\"");
    EXPECT_EQ(in_quotes(std::string(500, 'x')).size(), 125U);
}

}  // namespace
}  // namespace dst::control
