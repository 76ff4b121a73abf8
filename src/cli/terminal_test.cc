#include "cli/terminal.h"

#include <gtest/gtest.h>

namespace dst::cli {
namespace {

constexpr std::uint64_t kMebi = 1 << 20;

TEST(Terminal, a_progress_says_how_far_how_fast_and_how_long_yet) {
    EXPECT_EQ(progress_line("vol0", 256 * kMebi, 1024 * kMebi, 64 * kMebi, 79),
              "vol0 [#####.................] 25.0 %, 256 MiB of 1.00 GiB, 64.0 MiB/s, 12s left");
}

TEST(Terminal, a_progress_fits_the_line_whatever_its_width) {
    for (std::size_t columns = 1; columns < 200; ++columns) {
        const std::string line = progress_line("vol0", 5, 7, 1, columns);
        EXPECT_LE(line.size(), columns);
        EXPECT_EQ(line.find('\n'), std::string::npos);
    }
}

TEST(Terminal, a_progress_without_an_end_says_what_alone) {
    EXPECT_EQ(progress_line("vol0: waits", 0, 0, 0, 79), "vol0: waits");
    EXPECT_NE(progress_line("vol0", 9, 7, 0, 79).find("100.0 %"), std::string::npos);
}

}  // namespace
}  // namespace dst::cli
