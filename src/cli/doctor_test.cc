#include "cli/doctor.h"

#include <gtest/gtest.h>

namespace dst::cli {
namespace {

control::Config config(const std::string& toml) {
    auto parsed = control::parse_config(toml, "test.toml");
    EXPECT_TRUE(parsed.has_value()) << parsed.error().text;
    return parsed.value_or(control::Config());
}

TEST(Doctor, kernels_are_judged_by_their_release) {
    for (const auto& [release, verdict] :
         std::vector<std::pair<const char*, Verdict>>{{"6.1.0-18-amd64", Verdict::good},
                                                      {"6.12", Verdict::good},
                                                      {"10.0.1", Verdict::good},
                                                      {"6.0.9", Verdict::doubtful},
                                                      {"5.11.0", Verdict::doubtful},
                                                      {"5.10.209-1", Verdict::bad},
                                                      {"4.19", Verdict::bad},
                                                      {"", Verdict::bad},
                                                      {"nonsense", Verdict::bad}})
        EXPECT_EQ(judge_kernel(release).verdict, verdict) << release;
}

TEST(Doctor, limits_are_compared_with_what_is_needed) {
    EXPECT_EQ(judge_open_files(std::nullopt, 1000).verdict, Verdict::good);
    EXPECT_EQ(judge_open_files(4000, 1000).verdict, Verdict::good);
    EXPECT_EQ(judge_open_files(3999, 1000).verdict, Verdict::doubtful);
    EXPECT_EQ(judge_open_files(999, 1000).verdict, Verdict::bad);
    EXPECT_NE(judge_open_files(999, 1000).advice.find("LimitNOFILE"), std::string::npos);
    EXPECT_EQ(judge_locked_memory(std::nullopt, ByteCount(1)).verdict, Verdict::good);
    EXPECT_EQ(judge_locked_memory(ByteCount(8), ByteCount(8)).verdict, Verdict::good);
    EXPECT_EQ(judge_locked_memory(ByteCount(7), ByteCount(8)).verdict, Verdict::doubtful);
}

TEST(Doctor, ways_to_attach_are_named) {
    EXPECT_EQ(judge_attachments({.fuse = true}).found, "by fuse");
    EXPECT_EQ(judge_attachments({.fuse = true}).verdict, Verdict::good);
    EXPECT_EQ(judge_attachments({.ublk = true, .nbd = true, .fuse = true}).found,
              "by ublk, nbd, fuse");
    EXPECT_NE(judge_attachments({}).advice.find("modprobe"), std::string::npos);
    EXPECT_EQ(judge_attachments({}).verdict, Verdict::doubtful);
    EXPECT_EQ(judge_attachments({.nbd = true}).found, "by nbd; no FUSE, so no tree either");
}

TEST(Doctor, an_export_for_others_needs_an_address_that_they_reach) {
    const std::string others =
        "[[export]]\nname = \"e\"\ndevice = \"memory:1M\"\n"
        "access = [{ from = \"10.0.0.0/8\", mode = \"rw\" }]\n";
    const std::string nobody_else = "[[export]]\nname = \"e\"\ndevice = \"memory:1M\"\n";
    const std::string everywhere = "listen = [\"0.0.0.0:10809\"]\n";
    const auto verdict = [](const std::string& toml) {
        const Findings findings = judge_listening(config(toml));
        return findings.empty() ? Verdict::good : findings.front().verdict;
    };
    EXPECT_EQ(verdict(others), Verdict::bad);
    EXPECT_EQ(verdict(everywhere + others), Verdict::good);
    EXPECT_EQ(verdict(everywhere + nobody_else), Verdict::doubtful);
    EXPECT_EQ(verdict(nobody_else), Verdict::good);
    EXPECT_EQ(verdict("listen = []\n" + nobody_else), Verdict::bad);
    EXPECT_TRUE(judge_listening(config("")).empty());
}

TEST(Doctor, a_daemon_of_another_version_and_lost_nodes_are_found) {
    control::Status status;
    status.version = "1";
    status.storages.emplace_back();
    status.storages[0].name = "vol0";
    status.storages[0].state = control::StorageState::holding;
    status.storages[0].nodes.emplace_back();
    status.storages[0].nodes[0].type = "R: a/d";
    status.storages[0].nodes[0].reason = "connection refused";
    const Findings findings = judge_status(status, "2");
    ASSERT_EQ(findings.size(), 3U);
    EXPECT_EQ(findings[0].verdict, Verdict::doubtful);
    EXPECT_EQ(findings[1].verdict, Verdict::bad);
    EXPECT_EQ(findings[2].verdict, Verdict::bad);
    EXPECT_NE(findings[2].found.find("connection refused"), std::string::npos);
    EXPECT_TRUE(is_any_bad(findings));
    EXPECT_EQ(judge_status(status, "1")[0].verdict, Verdict::good);
}

TEST(Doctor, text_fits_eighty_columns_and_obeys_no_peer) {
    const Findings findings = {{"node", Verdict::bad,
                                std::string(30, 'x') + " \x1b[31m " + std::string(40, 'y'),
                                "do this and that, and then something else that is rather long"}};
    const std::string text = to_text(findings, {.width = 80});
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
    std::size_t begin = 0;
    while (begin < text.size()) {
        const auto end = text.find('\n', begin);
        EXPECT_LE(end - begin, 80U);
        begin = end + 1;
    }
    EXPECT_NE(to_json(findings).find(R"("verdict":"bad")"), std::string::npos);
}

}  // namespace
}  // namespace dst::cli
