#include "control/attach_record.h"

#include <gtest/gtest.h>

namespace dst::control {
namespace {

TEST(AttachRecord, is_read_as_it_was_written) {
    const std::vector<attach::Spec> attached = {
        {.name = "vol0", .via = attach::Kind::fuse, .read_only = true, .device = "/dev/loop7"},
        {.name = "vol1", .via = attach::Kind::ublk, .device = "/dev/ublkb0"},
        {.name = "vol2", .via = attach::Kind::fuse, .file_only = true, .device = "/run/d/vol2"}};
    const auto read = parse_attachments(attachments_to_json(attached), "f");
    ASSERT_TRUE(read.has_value()) << read.error().text;
    EXPECT_EQ(*read, attached);
    EXPECT_TRUE(parse_attachments(attachments_to_json({}), "f")->empty());
}

TEST(AttachRecord, that_is_damaged_is_refused_with_the_way_back) {
    for (const char* const text :
         {"", "{", "[]", "{}", R"({"version":2,"attachments":[]})", R"({"version":1})",
          R"({"version":1,"attachments":[{"name":"a"}]})",
          R"({"version":1,"attachments":[{"name":"../a","via":"fuse"}]})",
          R"({"version":1,"attachments":[{"name":"a","via":"usb"}]})"}) {
        const auto read = parse_attachments(text, "/s/attachments.json");
        ASSERT_FALSE(read.has_value()) << text;
        EXPECT_EQ(read.error().code, ErrorCode::corrupt);
        EXPECT_TRUE(read.error().text.starts_with("/s/attachments.json: ")) << read.error().text;
        EXPECT_NE(read.error().text.find("move it away"), std::string::npos);
    }
}

}  // namespace
}  // namespace dst::control
