#include "storage/losses.h"

#include <gtest/gtest.h>

namespace dst::storage {
namespace {

std::vector<std::string> names_of(const std::vector<Loss>& losses) {
    std::vector<std::string> names;
    for (const Loss& loss : losses) {
        std::string name = std::string(to_string(loss.kind)) + " " + loss.name + ":";
        for (const node::Cookie cookie : loss.nodes) name += " " + std::to_string(cookie);
        names.push_back(name);
    }
    return names;
}

TEST(Losses, nodes_links_and_hosts_each_with_what_goes_with_them) {
    const std::vector<Located> nodes = {{1, "L: /dev/sdb", ""},
                                        {2, "R: b:10809/disk0", "b"},
                                        {3, "R: b:10809/disk1", "b"},
                                        {4, "R: c:10809/disk0", "c"}};
    EXPECT_EQ(names_of(what_can_be_lost(nodes)),
              (std::vector<std::string>{"node L: /dev/sdb: 1", "node R: b:10809/disk0: 2",
                                        "node R: b:10809/disk1: 3", "node R: c:10809/disk0: 4",
                                        "link b: 2 3", "link c: 4", "link : 2 3 4", "host b: 2 3",
                                        "host c: 4", "host : 1"}));
}

TEST(Losses, of_one_far_host_all_links_are_that_link) {
    EXPECT_EQ(
        names_of(what_can_be_lost({{1, "R: b:10809/d", "b"}})),
        (std::vector<std::string>{"node R: b:10809/d: 1", "link b: 1", "host b: 1", "host :"}));
}

TEST(Losses, a_socket_in_the_file_system_is_on_this_host) {
    const MemberSpec near{
        .place = RemotePlace{.endpoint = {.host = "", .port = 0, .unix_path = "/run/nbd.sock"},
                             .export_name = "d"},
        .size_max = {},
        .type = "R: unix:/run/nbd.sock/d"};
    EXPECT_EQ(host_of(near), "");
}

}  // namespace
}  // namespace dst::storage
