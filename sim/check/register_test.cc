#include "sim/check/register.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "sim/random.h"

namespace dst::sim::check {
namespace {

using Kind = Change::Kind;

/// Some requests of one sector, in few words.
struct Life {
    std::vector<Change> changes;
    std::vector<Sight> sights;
    std::vector<Crash> crashes;
    std::uint64_t last_read = 100;

    Life& write(std::uint64_t number, Order begin, Order end, Order durable = kNever,
                Kind kind = Kind::data) {
        changes.push_back({.kind = kind,
                           .is_acknowledged = true,
                           .number = number,
                           .begin = begin,
                           .end = end,
                           .durable = durable});
        return *this;
    }
    Life& zero(std::uint64_t number, Order begin, Order end, Order durable = kNever) {
        return write(number, begin, end, durable, Kind::zero);
    }
    Life& trim(std::uint64_t number, Order begin, Order end) {
        return write(number, begin, end, kNever, Kind::undefined);
    }
    Life& unanswered(std::uint64_t number, Order begin, Order settles = kNever) {
        changes.push_back({.number = number, .begin = begin, .end = settles});
        return *this;
    }
    Life& read(std::uint64_t found, Order begin, Order end) {
        sights.push_back({.kind = found == 0 ? Sight::Kind::zero : Sight::Kind::data,
                          .number = found,
                          .read = ++last_read,
                          .begin = begin,
                          .end = end});
        return *this;
    }
    Life& read_garbage(Order begin, Order end) {
        read(0, begin, end);
        sights.back().kind = Sight::Kind::alien;
        return *this;
    }
    Life& crash(Order order, bool is_final = true) {
        crashes.push_back({order, is_final});
        return *this;
    }
    [[nodiscard]] std::string broken() {
        std::ranges::sort(changes, {}, &Change::begin);
        std::ranges::sort(sights, {}, &Sight::begin);
        const auto verdict = judge({changes, sights, crashes});
        return verdict ? std::string(verdict->check) : "";
    }
};

TEST(RegisterTest, a_read_finds_what_was_acknowledged_last) {
    EXPECT_EQ(Life().read(0, 1, 2).broken(), "");
    EXPECT_EQ(Life().write(1, 1, 2).read(1, 3, 4).broken(), "");
    EXPECT_EQ(Life().write(1, 1, 2).read(0, 3, 4).broken(), "linearizable");
    EXPECT_EQ(Life().write(1, 1, 2).write(2, 3, 4).read(1, 5, 6).broken(), "linearizable");
}

TEST(RegisterTest, a_read_beside_a_write_finds_either_but_time_goes_one_way) {
    EXPECT_EQ(Life().write(1, 1, 9).read(0, 2, 3).read(1, 4, 5).broken(), "");
    EXPECT_EQ(Life().write(1, 1, 9).read(1, 2, 3).read(0, 4, 5).broken(), "linearizable");
    // Of two that overlap each may come first.
    EXPECT_EQ(Life().write(1, 1, 9).read(1, 2, 5).read(0, 4, 6).broken(), "");
}

TEST(RegisterTest, two_writes_side_by_side_have_one_order_for_everybody) {
    EXPECT_EQ(Life().write(1, 1, 9).write(2, 2, 8).read(1, 3, 4).read(2, 5, 6).broken(), "");
    EXPECT_EQ(Life().write(1, 1, 9).write(2, 2, 8).read(1, 10, 11).broken(), "");
    EXPECT_EQ(Life().write(1, 1, 9).write(2, 2, 8).read(1, 10, 11).read(2, 12, 13).broken(),
              "linearizable");
    EXPECT_EQ(
        Life().write(1, 1, 9).write(2, 2, 8).read(1, 3, 4).read(2, 5, 6).read(1, 10, 11).broken(),
        "linearizable");
}

TEST(RegisterTest, a_write_is_not_found_before_it_was_asked_for) {
    EXPECT_EQ(Life().write(1, 3, 4).read(1, 1, 2).broken(), "linearizable");
}

TEST(RegisterTest, a_write_that_nobody_answered_may_happen_at_any_time_once_or_never) {
    EXPECT_EQ(Life().unanswered(1, 1).read(0, 3, 4).read(1, 5, 6).broken(), "");
    EXPECT_EQ(Life().unanswered(1, 1).write(2, 2, 3).read(2, 4, 5).read(1, 6, 7).broken(), "");
    EXPECT_EQ(Life().unanswered(1, 1).write(2, 2, 3).read(1, 4, 5).read(2, 6, 7).broken(),
              "linearizable");
}

TEST(RegisterTest, what_was_not_durable_may_be_lost_in_a_crash) {
    EXPECT_EQ(Life().write(1, 1, 2).crash(3).read(0, 4, 5).broken(), "");
    EXPECT_EQ(Life().write(1, 1, 2).crash(3).read(1, 4, 5).broken(), "");
    EXPECT_EQ(Life().write(1, 1, 2, 2).crash(3).read(0, 4, 5).broken(), "durable");
    // Durable too late.
    EXPECT_EQ(Life().write(1, 1, 2, 8).crash(3).read(0, 4, 5).broken(), "");
    // The one that was made durable was not the last.
    EXPECT_EQ(
        Life().write(1, 1, 2).write(2, 3, 4, 5).write(3, 6, 7).crash(8).read(2, 9, 10).broken(),
        "");
    EXPECT_EQ(
        Life().write(1, 1, 2).write(2, 3, 4, 5).write(3, 6, 7).crash(8).read(1, 9, 10).broken(),
        "durable");
}

TEST(RegisterTest, a_crash_leaves_one_value) {
    Life life;
    life.write(1, 1, 2).write(2, 3, 4).crash(5);
    EXPECT_EQ(Life(life).read(1, 6, 7).read(1, 8, 9).broken(), "");
    EXPECT_EQ(Life(life).read(2, 6, 7).read(1, 8, 9).broken(), "linearizable");
    EXPECT_EQ(Life(life).read(2, 6, 7).read(0, 8, 9).broken(), "linearizable");
    // Overwritten since, nothing of before comes back.
    EXPECT_EQ(Life(life).write(3, 6, 7).read(1, 8, 9).broken(), "linearizable");
}

TEST(RegisterTest, what_a_crash_took_does_not_come_back_after_the_next_one) {
    Life life;
    life.write(1, 1, 2).write(2, 3, 4).crash(5).read(1, 6, 7).crash(8);
    EXPECT_EQ(Life(life).read(1, 9, 10).broken(), "");
    EXPECT_EQ(Life(life).read(2, 9, 10).broken(), "linearizable");
}

TEST(RegisterTest, what_a_crash_has_left_that_was_not_final_the_next_one_may_take) {
    Life life;
    life.write(1, 1, 2).write(2, 3, 4).crash(5, false).read(2, 6, 7);
    EXPECT_EQ(Life(life).read(1, 8, 9).broken(), "linearizable");
    EXPECT_EQ(Life(life).crash(8).read(1, 9, 10).broken(), "");
    EXPECT_EQ(Life(life).crash(8).read(1, 9, 10).crash(11).read(2, 12, 13).broken(),
              "linearizable");
}

TEST(RegisterTest, a_write_under_way_in_a_crash_may_take_effect_behind_it) {
    Life life;
    life.write(1, 1, 2).unanswered(2, 3).crash(5);
    EXPECT_EQ(Life(life).read(1, 6, 7).read(2, 8, 9).broken(), "");
    EXPECT_EQ(Life(life).read(2, 6, 7).read(1, 8, 9).broken(), "linearizable");
    Life settled;
    settled.write(1, 1, 2).unanswered(2, 3, 7).crash(5).read(1, 6, 7);
    EXPECT_EQ(Life(settled).write(3, 8, 9).read(2, 10, 11).broken(), "linearizable");
}

TEST(RegisterTest, zeroes_are_followed_where_one_change_alone_explains_them) {
    EXPECT_EQ(Life().write(1, 1, 2).zero(2, 3, 4).read(0, 5, 6).broken(), "");
    EXPECT_EQ(Life().write(1, 1, 2).zero(2, 3, 4).read(1, 5, 6).broken(), "linearizable");
    EXPECT_EQ(Life().zero(1, 1, 2).write(2, 3, 4).read(0, 5, 6).broken(), "linearizable");
    EXPECT_EQ(Life().write(1, 1, 2).zero(2, 3, 9).read(0, 4, 5).read(1, 6, 7).broken(),
              "linearizable");
    EXPECT_EQ(Life().write(1, 1, 2, 2).zero(2, 3, 4, 4).crash(5).read(1, 6, 7).broken(), "durable");
}

TEST(RegisterTest, nothing_is_known_of_what_a_trim_left_until_it_is_written_over) {
    Life life;
    life.write(1, 1, 2).trim(2, 3, 4);
    EXPECT_EQ(Life(life).read(0, 5, 6).read(1, 7, 8).read_garbage(9, 10).broken(), "");
    EXPECT_EQ(Life(life).write(3, 5, 6).read_garbage(7, 8).broken(), "alien");
    EXPECT_EQ(Life(life).write(3, 5, 6).read(1, 7, 8).broken(), "linearizable");
    // The write that would tell may be lost.
    EXPECT_EQ(Life(life).write(3, 5, 6).crash(7).read_garbage(8, 9).broken(), "");
    EXPECT_EQ(Life().read_garbage(1, 2).broken(), "alien");
}

// Against a register that was really there ------------------------------------------------------

/// Requests of several clients at a register that crashes: each takes effect at some moment between
/// its begin and its end. What comes out can be explained by definition.
class RealRegister {
  public:
    explicit RealRegister(std::uint64_t seed) : random_(seed) {}

    Life run() {
        for (int step = 0; step < 60; ++step) this->step();
        leave_unanswered();
        return std::move(life_);
    }

  private:
    struct Pending {
        enum class What : std::uint8_t { read, write, zero, flush } what;
        std::uint64_t number;
        Order begin;
        std::uint64_t found = 0;
        bool is_done = false;
        bool fua = false;
    };

    void step() {
        ++now_;
        if (random_.one_in(20)) return crash();
        if (pending_.size() < 3 && random_.one_in(2)) {
            const auto drawn = random_.below(8);
            const auto what = drawn < 3   ? Pending::What::write
                              : drawn < 4 ? Pending::What::zero
                              : drawn < 7 ? Pending::What::read
                                          : Pending::What::flush;
            pending_.push_back(
                {.what = what, .number = ++last_number_, .begin = now_, .fua = random_.one_in(6)});
            return;
        }
        if (pending_.empty()) return;
        const std::size_t at = random_.below(pending_.size());
        if (!pending_[at].is_done) return take_effect(pending_[at]);
        answer(pending_[at]);
        pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(at));
    }
    void take_effect(Pending& request) {
        request.is_done = true;
        switch (request.what) {
            case Pending::What::read:
                request.found = value_;
                break;
            case Pending::What::flush:
                durable_ = {value_};
                break;
            default:
                value_ = request.what == Pending::What::zero ? 0 : request.number;
                durable_.push_back(value_);
                if (request.fua) durable_ = {value_};
        }
    }
    void answer(const Pending& request) {
        switch (request.what) {
            case Pending::What::read:
                life_.read(request.found, request.begin, now_);
                break;
            case Pending::What::flush:
                // What was lost in a crash before it is not brought back.
                for (Change& change : life_.changes)
                    if (change.is_acknowledged && change.end < request.begin &&
                        (life_.crashes.empty() || change.end > life_.crashes.back().order))
                        change.durable = std::min(change.durable, now_);
                break;
            default:
                life_.write(request.number, request.begin, now_, request.fua ? now_ : kNever,
                            request.what == Pending::What::zero ? Kind::zero : Kind::data);
        }
    }
    void crash() {
        for (Pending& request : pending_)
            if (!request.is_done && random_.one_in(2)) take_effect(request);
        leave_unanswered();
        // Any version since the last durable one.
        value_ = durable_[random_.below(durable_.size())];
        durable_ = {value_};
        life_.crash(now_);
    }
    void leave_unanswered() {
        for (const Pending& request : pending_) {
            if (request.what != Pending::What::write && request.what != Pending::What::zero)
                continue;
            life_.unanswered(request.number, request.begin);
            if (request.what == Pending::What::zero) life_.changes.back().kind = Kind::zero;
        }
        pending_.clear();
    }

    Random random_;
    Life life_;
    Order now_ = 0;
    std::uint64_t last_number_ = 0;
    std::uint64_t value_ = 0;
    std::vector<std::uint64_t> durable_{0};  // versions that a crash may leave
    std::vector<Pending> pending_;
};

TEST(RegisterTest, what_a_register_really_did_is_never_complained_about) {
    for (std::uint64_t seed = 1; seed <= 20'000; ++seed) {
        Life life = RealRegister(seed).run();
        ASSERT_EQ(life.broken(), "") << "seed " << seed;
    }
}

// Against all orders that there are -------------------------------------------------------------

struct Request {
    bool is_write = false;
    std::uint64_t number = 0;  // written, or found
    Order begin = 0;
    Order end = 0;
};

/// Is there an order in which no request stands before one that ended before it began, and each
/// read finds the write before it?
bool has_order(const std::vector<Request>& left, std::uint64_t value) {
    if (left.empty()) return true;
    Order first_end = kNever;
    for (const Request& request : left) first_end = std::min(first_end, request.end);
    for (std::size_t at = 0; at < left.size(); ++at) {
        if (left[at].begin > first_end || (!left[at].is_write && left[at].number != value))
            continue;
        std::vector<Request> rest = left;
        rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(at));
        if (has_order(rest, left[at].is_write ? left[at].number : value)) return true;
    }
    return false;
}

TEST(RegisterTest, it_agrees_with_a_search_through_all_orders) {
    Random random(7);
    std::array<int, 2> seen{};
    for (int round = 0; round < 30'000; ++round) {
        const std::uint64_t count = random.between(2, 7);
        std::vector<Order> times;
        for (Order at = 1; at <= 2 * count; ++at) times.push_back(at);
        std::vector<Request> requests(count);
        std::uint64_t writes = 0;
        const auto draw = [&] {
            const auto at =
                static_cast<std::ptrdiff_t>(random.below(std::min<std::uint64_t>(times.size(), 4)));
            const Order drawn = times[static_cast<std::size_t>(at)];
            times.erase(times.begin() + at);
            return drawn;
        };
        for (Request& request : requests) {
            request.is_write = random.one_in(2);
            if (request.is_write) request.number = ++writes;
            const Order a = draw();
            const Order b = draw();
            request.begin = std::min(a, b);
            request.end = std::max(a, b);
        }
        Life life;
        for (Request& request : requests) {
            if (!request.is_write) request.number = random.below(writes + 1);
            if (request.is_write)
                life.write(request.number, request.begin, request.end);
            else
                life.read(request.number, request.begin, request.end);
        }
        const bool is_right = has_order(requests, 0);
        ++seen[is_right ? 1 : 0];
        ASSERT_EQ(life.broken() == "", is_right) << "round " << round;
    }
    EXPECT_GT(seen[0], 3000);
    EXPECT_GT(seen[1], 3000);
}

}  // namespace
}  // namespace dst::sim::check
