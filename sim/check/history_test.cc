#include "sim/check/history.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "sim/check/stamp.h"
#include "sim/event_queue.h"

namespace dst::sim::check {
namespace {

using block::Op;
using block::Request;

constexpr std::uint16_t kVolume = 5;

/// One client of one volume; each call is a moment later than the one before.
class Client {
  public:
    explicit Client(bool is_fenced = true) : history_("vol", kVolume, is_fenced) {}

    std::uint64_t asks(Op op, std::uint64_t first = 0, std::uint64_t count = 1, bool fua = false) {
        const Request request{
            .op = op, .fua = fua, .range = {SectorIndex(first), SectorCount(count)}};
        return history_.begin("app", request, later());
    }
    std::uint64_t writes(std::uint64_t first, std::uint64_t count = 1, bool fua = false) {
        return done(asks(Op::write, first, count, fua));
    }
    std::uint64_t done(std::uint64_t number) {
        history_.done(number, later());
        return number;
    }
    /// Reads one sector and finds what `write` left; 0: zeroes.
    void reads(std::uint64_t sector, std::uint64_t write, std::uint64_t as_of = ~0ULL) {
        std::vector<std::byte> data(kSectorBytes);
        const Place place{.volume = kVolume,
                          .sector = SectorIndex(as_of == ~0ULL ? sector : as_of)};
        if (write != 0) fill(data, place, write);
        reads_bytes(sector, data);
    }
    void reads_bytes(std::uint64_t sector, const std::vector<std::byte>& data) {
        const auto number = asks(Op::read, sector);
        history_.saw(number, data);
        done(number);
    }
    void flushes() { done(asks(Op::flush)); }
    void crashes() { history_.crash("the power is cut", true, later()); }
    io::TimePoint later() { return now_ += std::chrono::milliseconds(1); }
    [[nodiscard]] History& history() { return history_; }
    /// Which check broke, of the first finding.
    [[nodiscard]] std::string broken() const {
        const auto findings = history_.judge(10);
        return findings.empty() ? "" : findings.front().check;
    }

  private:
    History history_;
    io::TimePoint now_ = EventQueue::kBegin;
};

TEST(HistoryTest, what_is_read_is_what_was_written) {
    Client client;
    const auto first = client.writes(10, 4);
    const auto second = client.writes(12, 1);
    client.reads(9, 0);
    client.reads(10, first);
    client.reads(12, second);
    client.reads(13, first);
    EXPECT_EQ(client.broken(), "");
    client.reads(12, first);
    EXPECT_EQ(client.broken(), "linearizable");
}

TEST(HistoryTest, damaged_data_is_named) {
    Client misplaced;
    const auto write = misplaced.writes(10, 4);
    misplaced.reads(11, write, 12);
    EXPECT_EQ(misplaced.broken(), "misplaced");
    Client torn;
    std::vector<std::byte> data(kSectorBytes);
    fill(data, {.volume = kVolume, .sector = SectorIndex(3)}, torn.writes(3));
    data[300] ^= std::byte{1};
    torn.reads_bytes(3, data);
    EXPECT_EQ(torn.broken(), "torn");
    Client alien;
    alien.writes(3);
    alien.reads_bytes(3, std::vector<std::byte>(kSectorBytes, std::byte{0xdb}));
    EXPECT_EQ(alien.broken(), "alien");
}

TEST(HistoryTest, the_stamp_of_a_write_that_went_elsewhere_is_alien) {
    Client client;
    const auto write = client.writes(10, 1);
    client.reads(20, write);  // right place in the stamp, but no such write
    EXPECT_EQ(client.broken(), "alien");
}

TEST(HistoryTest, what_was_flushed_survives_a_crash_and_what_was_not_may) {
    Client client;
    const auto first = client.writes(1);
    client.flushes();
    const auto second = client.writes(1);
    client.crashes();
    {
        Client kept = client;
        kept.reads(1, second);
        EXPECT_EQ(kept.broken(), "");
    }
    client.reads(1, first);
    EXPECT_EQ(client.broken(), "");
    Client lost;
    lost.writes(1);
    lost.flushes();
    lost.crashes();
    lost.reads(1, 0);
    EXPECT_EQ(lost.broken(), "durable");
}

TEST(HistoryTest, fua_and_an_orderly_stop_make_durable_too) {
    Client fua;
    fua.writes(1, 1, true);
    fua.crashes();
    fua.reads(1, 0);
    EXPECT_EQ(fua.broken(), "durable");
    Client stopped;
    stopped.writes(1);
    stopped.history().settle("stopped", stopped.later());
    stopped.crashes();
    stopped.reads(1, 0);
    EXPECT_EQ(stopped.broken(), "durable");
}

TEST(HistoryTest, a_flush_covers_only_what_was_answered_before_it_and_not_lost_before_it) {
    Client early;
    const auto flush = early.asks(Op::flush);
    early.writes(1);
    early.done(flush);
    early.crashes();
    early.reads(1, 0);
    EXPECT_EQ(early.broken(), "");
    Client late;
    late.writes(1);
    late.crashes();
    late.flushes();
    late.crashes();
    late.reads(1, 0);
    EXPECT_EQ(late.broken(), "");
}

TEST(HistoryTest, an_answer_that_arrives_behind_the_crash_promises_nothing) {
    Client client;
    const auto write = client.asks(Op::write, 1);
    client.crashes();
    client.done(write);
    client.reads(1, 0);
    EXPECT_EQ(client.broken(), "");
}

TEST(HistoryTest, behind_a_fence_nothing_of_before_a_crash_takes_effect_late) {
    const auto ghost = [](bool is_fenced) {
        Client client(is_fenced);
        const auto write = client.asks(Op::write, 1);
        client.crashes();
        client.history().lost(write, client.later());
        client.reads(1, 0);
        client.writes(1);
        client.reads(1, write);
        return client.broken();
    };
    EXPECT_EQ(ghost(true), "linearizable");
    EXPECT_EQ(ghost(false), "");
}

TEST(HistoryTest, a_disk_that_forgets_ends_no_request) {
    Client client;
    const auto write = client.asks(Op::write, 1);
    client.history().crash("the disk forgets", false, client.later());
    client.reads(1, 0);
    client.history().lost(write, client.later());
    client.writes(1);
    client.reads(1, write);
    EXPECT_EQ(client.broken(), "");
}

TEST(HistoryTest, a_change_that_failed_leaves_anything_until_it_is_written_over) {
    Client client;
    const auto first = client.writes(1);
    const auto failed = client.asks(Op::write, 1);
    client.history().failed(failed, ErrorCode::io_error, client.later());
    client.reads(1, failed);
    client.reads(1, first);
    EXPECT_EQ(client.broken(), "");
    client.writes(1);
    client.reads(1, first);
    EXPECT_EQ(client.broken(), "linearizable");
}

TEST(HistoryTest, a_loss_of_everything_leaves_anything) {
    Client client;
    client.writes(1, 1, true);
    client.history().lose_everything("its memory is gone", client.later());
    client.reads(1, 0);
    EXPECT_EQ(client.broken(), "");
    const auto write = client.writes(1);
    client.reads(1, write);
    client.reads(1, 0);
    EXPECT_EQ(client.broken(), "linearizable");
}

TEST(HistoryTest, a_block_status_that_promises_zeroes_is_a_read_of_them) {
    Client client;
    client.writes(5);
    const auto status = client.asks(Op::block_status, 4, 4);
    client.history().saw_zeroes(status, {SectorIndex(4), SectorCount(1)});
    client.done(status);
    EXPECT_EQ(client.broken(), "");
    const auto wrong = client.asks(Op::block_status, 4, 4);
    client.history().saw_zeroes(wrong, {SectorIndex(4), SectorCount(2)});
    client.done(wrong);
    EXPECT_EQ(client.broken(), "linearizable");
}

TEST(HistoryTest, a_finding_tells_the_story_of_its_sector) {
    Client client;
    client.writes(1);
    client.flushes();
    client.writes(2);
    client.crashes();
    client.reads(1, 0);
    const auto findings = client.history().judge(1);
    ASSERT_EQ(findings.size(), 1u);
    EXPECT_EQ(findings[0].text,
              "vol, sector 1: read #4 found zeroes after a crash, although write #1 came later and "
              "was durable");
    EXPECT_EQ(findings[0].story,
              "  ->     0.001000 ..     0.002000  app        write #1 of 1+1: done\n"
              "         0.003000 ..     0.004000  app        flush #2: done\n"
              "         0.007000                  the power is cut\n"
              "  ->     0.008000 ..     0.009000  app        read #4 of 1+1: found zeroes\n");
}

TEST(HistoryTest, a_takeover_is_a_crash_for_all_but_the_requests_of_the_new_one) {
    Client client;
    const auto flushed = client.writes(1);
    client.flushes();
    const auto volatile_one = client.writes(1);
    const auto of_the_old_one = client.asks(Op::write, 2);
    const std::vector<std::string_view> nobody;
    const std::vector<std::string_view> all{"app"};
    {
        // What was not flushed may be lost, and what was under way takes effect or does not.
        Client taken = client;
        taken.history().take_over("another one", nobody, taken.later());
        taken.reads(1, flushed);
        taken.reads(2, 0);
        EXPECT_EQ(taken.broken(), "");
        taken.reads(1, volatile_one);
        EXPECT_EQ(taken.broken(), "linearizable");
    }
    {
        // An answer that comes from the old one afterwards says nothing.
        Client taken = client;
        taken.history().take_over("another one", nobody, taken.later());
        taken.done(of_the_old_one);
        taken.reads(2, 0);
        EXPECT_EQ(taken.broken(), "");
    }
    {
        // The same request, if it waited for the new one, has been done by him.
        Client taken = client;
        const auto since = taken.history().take_over("another one", all, taken.later());
        EXPECT_GT(taken.history().operation(of_the_old_one).begin, since);
        taken.done(of_the_old_one);
        taken.reads(2, 0);
        EXPECT_EQ(taken.broken(), "linearizable");
    }
}

}  // namespace
}  // namespace dst::sim::check
