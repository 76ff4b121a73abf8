#include <gtest/gtest.h>

#include "control/config.h"

namespace dst::control {
namespace {

TEST(Devices, are_told_apart_by_their_prefix) {
    EXPECT_EQ(parse_device("/dev/sdb").value(), DeviceSpec(PathDevice{"/dev/sdb"}));
    EXPECT_EQ(parse_device("image.raw").value(), DeviceSpec(PathDevice{"image.raw"}));
    EXPECT_EQ(parse_device("./a:b").value(), DeviceSpec(PathDevice{"./a:b"}));
    EXPECT_EQ(parse_device("memory:64M").value(), DeviceSpec(MemoryDevice{ByteCount(64 << 20)}));
    EXPECT_EQ(parse_device("storage:vol0").value(), DeviceSpec(StorageDevice{"vol0"}));
    for (const char* bad : {"", " ", "memory:", "memory:0", "memory:100", "memory:-1", "memory:9E",
                            "storage:", "storage:a/b", "memroy:64M", "a\nb", "\x7f"}) {
        EXPECT_FALSE(parse_device(bad).has_value()) << bad;
    }
    EXPECT_FALSE(parse_device(std::string(5000, 'x')).has_value());
    EXPECT_FALSE(parse_device(std::string_view("a\0b", 3)).has_value());
}

TEST(Devices, come_back_as_they_were_written) {
    for (const char* text : {"/dev/sdb", "memory:64M", "memory:1536", "storage:vol0"}) {
        EXPECT_EQ(to_string(parse_device(text).value()), text);
    }
}

TEST(Nodes, are_local_or_remote) {
    EXPECT_EQ(to_string(parse_node("L: /dev/sdc").value()), "L: /dev/sdc");
    EXPECT_EQ(to_string(parse_node("L:/dev/sdc").value()), "L: /dev/sdc");
    EXPECT_EQ(to_string(parse_node("  L:  memory:1G ").value()), "L: memory:1G");
    EXPECT_EQ(to_string(parse_node("R: host:1/e").value()), "R: host:1/e");
    EXPECT_EQ(to_string(parse_node("R: host/e").value()), "R: host:10809/e");
    EXPECT_EQ(to_string(parse_node("R: [::1]:10810/e").value()), "R: [::1]:10810/e");
    EXPECT_EQ(to_string(parse_node("R: [::1]/e").value()), "R: [::1]:10809/e");
    EXPECT_EQ(to_string(parse_node("R: host:1/").value()), "R: host:1/");
    EXPECT_EQ(to_string(parse_node("R: host:1/a/b c").value()), "R: host:1/a/b c");
    for (const char* bad :
         {"", "L", "L:", "R:", "R: host", "R: host:1", "R: host:0/e", "R: /e", "R: host:99999/e",
          "R: host:x/e", "R: [::1/e", "R: unix:/s/e", "/dev/sda", "l: /dev/sda", "R: h/a\nb"}) {
        const auto node = parse_node(bad);
        ASSERT_FALSE(node.has_value()) << bad;
        EXPECT_EQ(node.error().text.find('\n'), std::string::npos);
    }
}

TEST(Names, are_short_and_plain) {
    EXPECT_TRUE(check_name("a").has_value());
    EXPECT_TRUE(check_name("vol-0.A_z").has_value());
    EXPECT_TRUE(check_name(std::string(64, 'x')).has_value());
    for (const char* bad : {"", ".", ".a", "a b", "a/b", "ä", "a\n", "a\"", "*"}) {
        EXPECT_FALSE(check_name(bad).has_value()) << bad;
    }
    EXPECT_FALSE(check_name(std::string(65, 'x')).has_value());
}

TEST(Access, is_an_address_and_a_mode) {
    EXPECT_EQ(parse_access("10.0.0.0/8=ro").value().mode, AccessMode::read_only);
    EXPECT_EQ(parse_access("::1=rw").value().mode, AccessMode::read_write);
    for (const char* bad : {"", "10.0.0.0/8", "10.0.0.0/8=", "=rw", "10.0.0.0/8=RW", "ten=rw"}) {
        EXPECT_FALSE(parse_access(bad).has_value()) << bad;
    }
    ASSERT_EQ(default_access().size(), 2U);
    EXPECT_TRUE(default_access()[0].subnet.contains(io::parse_address("127.9.9.9").value()));
    EXPECT_FALSE(default_access()[0].subnet.contains(io::parse_address("10.0.0.1").value()));
}

}  // namespace
}  // namespace dst::control
