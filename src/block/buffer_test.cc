// Buffers and accounts: size classes, references, waiting, fairness; and random operations of
// several accounts against a model that knows of slabs nothing but where buffers lie.
#include "block/buffer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <random>

#include "async/scope.h"

namespace dst::block {
namespace {

using async::Scope;
using async::Task;

/// What waiters were given, in the order in which they were.
struct Granted {
    std::uint64_t id = 0;
    Buffer buffer;
};
using Sink = std::deque<Granted>;

Task<void> take(Account& account, std::size_t bytes, std::uint64_t id, Sink& sink) {
    Buffer buffer = co_await account.allocate(bytes);
    sink.push_back({id, std::move(buffer)});
}

/// Takes whole slabs until there is none for it.
std::vector<Buffer> hog(Account& account) {
    std::vector<Buffer> taken;
    while (Buffer buffer = account.try_allocate(kSlabBytes)) taken.push_back(std::move(buffer));
    return taken;
}

class BufferTest : public testing::Test {
  protected:
    async::RunQueue queue_;
    async::RunQueue::Enter enter_{queue_};
    Sink sink_;

    std::vector<std::uint64_t> granted() {
        queue_.run();
        std::vector<std::uint64_t> ids;
        for (const Granted& one : sink_) ids.push_back(one.id);
        return ids;
    }
};
using Ids = std::vector<std::uint64_t>;

TEST_F(BufferTest, a_buffer_is_the_least_power_of_two_that_is_enough_and_lies_on_a_page) {
    BufferPool pool(16 * kSlabBytes);
    Account account(pool, 0);
    for (std::size_t bytes = 1; bytes <= kSlabBytes; bytes = bytes < 20 ? bytes + 1 : bytes * 2 - 7)
        for (const std::size_t asked : {bytes, std::min(bytes + 1, kSlabBytes)}) {
            const Buffer buffer = account.try_allocate(asked);
            ASSERT_TRUE(buffer) << asked;
            const std::size_t size = buffer.bytes().size();
            EXPECT_GE(size, asked);
            EXPECT_TRUE(size == kBufferMinBytes || size / 2 < asked) << asked << " got " << size;
            EXPECT_TRUE(std::has_single_bit(size));
            const auto address = reinterpret_cast<std::uintptr_t>(buffer.bytes().data());
            EXPECT_EQ(address % kBufferMinBytes, 0U);
            EXPECT_GE(buffer.bytes().data(), pool.arena().data());
            EXPECT_LE(buffer.bytes().data() + size, pool.arena().data() + pool.arena().size());
        }
    EXPECT_EQ(account.bytes_held(), 0U);
    EXPECT_EQ(pool.slabs_free(), 16U);
}

TEST_F(BufferTest, a_slab_holds_as_many_buffers_as_it_has_room_for_and_they_do_not_overlap) {
    BufferPool pool(2 * kSlabBytes);
    Account account(pool, 1);
    for (std::size_t size = kBufferMinBytes; size <= kSlabBytes; size *= 2) {
        std::vector<Buffer> all;
        std::set<std::byte*> places;
        for (std::size_t count = 0; count < kSlabBytes / size; ++count) {
            all.push_back(account.try_allocate(size));
            ASSERT_TRUE(all.back());
            EXPECT_TRUE(places.insert(all.back().bytes().data()).second);
        }
        EXPECT_EQ(account.bytes_held(), kSlabBytes);
        EXPECT_EQ(*places.rbegin() + size - *places.begin(), std::ptrdiff_t(kSlabBytes));
    }
}

TEST_F(BufferTest, a_buffer_lives_until_its_last_reference_goes) {
    BufferPool pool(2 * kSlabBytes);
    Account account(pool, 0);
    Buffer first = account.try_allocate(kSlabBytes);
    ASSERT_TRUE(first);
    first.bytes()[7] = std::byte{42};
    Buffer second = first;
    Buffer third = std::move(first);
    EXPECT_FALSE(first);  // NOLINT(bugprone-use-after-move): that is the question
    third = second;       // the same one again
    third = *&third;      // itself
    second = {};
    EXPECT_EQ(account.bytes_held(), kSlabBytes);
    EXPECT_EQ(third.bytes()[7], std::byte{42});
    third = {};
    EXPECT_EQ(account.bytes_held(), 0U);
    EXPECT_EQ(pool.slabs_free(), 2U);
}

TEST_F(BufferTest, assigning_another_buffer_gives_the_old_one_back) {
    BufferPool pool(4 * kSlabBytes);
    Account account(pool, 4);
    Buffer buffer = account.try_allocate(kSlabBytes);
    for (int i = 0; i < 10; ++i) {
        buffer = account.try_allocate(kSlabBytes);
        ASSERT_TRUE(buffer);
        EXPECT_EQ(account.bytes_held(), kSlabBytes);
    }
}

TEST_F(BufferTest, a_pool_has_two_slabs_at_least) {
    const BufferPool pool(1);
    EXPECT_EQ(pool.slabs_total(), 2U);
}

TEST_F(BufferTest, who_waits_is_served_in_the_order_of_coming_whatever_each_wants) {
    BufferPool pool(2 * kSlabBytes);
    Account account(pool, 2);
    Buffer first = account.try_allocate(kSlabBytes);
    Buffer second = account.try_allocate(kSlabBytes / 2);  // the other half is free
    Scope scope;
    scope.spawn(take(account, kSlabBytes, 1, sink_));
    scope.spawn(take(account, kSlabBytes / 2, 2, sink_));
    scope.spawn(take(account, kBufferMinBytes, 3, sink_));
    EXPECT_EQ(granted(), Ids()) << "the second one must not overtake";
    EXPECT_TRUE(account.has_waiters());
    EXPECT_TRUE(pool.has_waiters());
    EXPECT_FALSE(account.try_allocate(kSlabBytes / 2)) << "nor may anybody else";
    first = {};
    EXPECT_EQ(granted(), Ids({1, 2}));
    sink_.clear();
    EXPECT_EQ(granted(), Ids({3}));
    EXPECT_FALSE(pool.has_waiters());
    EXPECT_TRUE(scope.empty());
    sink_.clear();
}

TEST_F(BufferTest, who_hogs_leaves_as_much_as_he_takes) {
    BufferPool pool(16 * kSlabBytes);
    Account greedy(pool, 0);
    Account late(pool, 0);
    Account later(pool, 0);
    const auto most = hog(greedy);
    EXPECT_EQ(most.size(), 8U);
    const auto half = hog(late);
    EXPECT_EQ(half.size(), 4U);
    EXPECT_EQ(hog(later).size(), 2U);
    EXPECT_EQ(pool.slabs_free(), 4U);
}

TEST_F(BufferTest, guarantees_hold_whoever_hogs) {
    BufferPool pool(16 * kSlabBytes);
    Account greedy(pool, 1);
    Account promised(pool, 4);
    const auto most = hog(greedy);
    EXPECT_EQ(most.size(), 1 + 6U) << "its own, and half of the eleven that nobody was promised";
    Account third(pool, 100);
    const auto rest = hog(third);
    EXPECT_EQ(rest.size(), 4U) << "half of all can be promised, 3 more; and its share of the rest";
    const auto guaranteed = hog(promised);
    EXPECT_EQ(guaranteed.size(), 5U) << "its own 4, and the last";
    EXPECT_EQ(pool.slabs_free(), 0U);
}

TEST_F(BufferTest, a_guarantee_holds_again_after_it_was_used_and_given_back) {
    BufferPool pool(8 * kSlabBytes);
    Account promised(pool, 3);
    Account greedy(pool, 0);
    for (int round = 0; round < 3; ++round) {
        auto mine = hog(promised);
        const auto his = hog(greedy);
        mine.clear();
        const auto more = hog(greedy);
        EXPECT_EQ(hog(promised).size() >= 3, true);
    }
}

TEST_F(BufferTest, memory_that_comes_free_serves_another_account_that_waits) {
    BufferPool pool(4 * kSlabBytes);
    Account one(pool, 0);
    Account other(pool, 0);
    Account third(pool, 0);
    auto held = hog(one);      // 2
    auto others = hog(other);  // 1
    auto thirds = hog(third);  // 0 or 1
    Scope scope;
    scope.spawn(take(other, kSlabBytes, 7, sink_));
    EXPECT_EQ(granted(), Ids());
    held.clear();
    EXPECT_EQ(granted(), Ids({7}));
    sink_.clear();
}

struct CountingReclaimable final : Reclaimable {
    void reclaim() override {
        ++asked;
        if (gives) kept = {};
    }
    int asked = 0;
    bool gives = false;
    Buffer kept;
};

TEST_F(BufferTest, reclaim_is_asked_of_all_when_somebody_waits_and_of_nobody_before) {
    BufferPool pool(2 * kSlabBytes);
    Account account(pool, 2);
    CountingReclaimable first;
    pool.add(first);
    auto second = std::make_unique<CountingReclaimable>();
    pool.add(*second);
    Buffer buffer = account.try_allocate(kSlabBytes);
    second->kept = account.try_allocate(kSlabBytes);
    EXPECT_EQ(first.asked + second->asked, 0);
    second->gives = true;
    Scope scope;
    scope.spawn(take(account, kSlabBytes, 1, sink_));
    EXPECT_EQ(first.asked, 1);
    EXPECT_EQ(second->asked, 1);
    EXPECT_EQ(granted(), Ids({1})) << "what was given back at once goes to who waits";
    second.reset();  // leaves the pool by itself
    scope.spawn(take(account, kSlabBytes, 2, sink_));
    EXPECT_EQ(first.asked, 2);
    buffer = {};
    EXPECT_EQ(granted(), Ids({1, 2}));
    sink_.clear();
}

TEST_F(BufferTest, destroyed_waiters_leave_no_trace) {
    BufferPool pool(2 * kSlabBytes);
    Account account(pool, 2);
    auto held = hog(account);
    auto gone = std::make_unique<Scope>();
    gone->spawn(take(account, kSlabBytes, 1, sink_));
    Scope scope;
    scope.spawn(take(account, kSlabBytes, 2, sink_));
    auto granted_and_gone = std::make_unique<Scope>();
    granted_and_gone->spawn(take(account, kSlabBytes, 3, sink_));
    gone.reset();
    held.clear();              // both slabs are granted now, to 2 and to 3
    granted_and_gone.reset();  // before it could take it
    EXPECT_EQ(granted(), Ids({2}));
    EXPECT_FALSE(pool.has_waiters());
    EXPECT_FALSE(account.has_waiters());
    EXPECT_TRUE(account.try_allocate(kSlabBytes));
    sink_.clear();
    EXPECT_EQ(pool.slabs_free(), 2U);
}

TEST_F(BufferTest, who_waited_behind_a_destroyed_waiter_gets_what_is_there) {
    BufferPool pool(2 * kSlabBytes);
    Account account(pool, 2);
    const Buffer whole = account.try_allocate(kSlabBytes);
    const Buffer small = account.try_allocate(kBufferMinBytes);  // 255 more of these are free
    auto gone = std::make_unique<Scope>();
    gone->spawn(take(account, kSlabBytes, 1, sink_));
    Scope scope;
    scope.spawn(take(account, kBufferMinBytes, 2, sink_));
    EXPECT_EQ(granted(), Ids());
    gone.reset();
    EXPECT_EQ(granted(), Ids({2})) << "nothing is in its way any more";
    sink_.clear();
}

TEST_F(BufferTest, the_guarantee_of_an_account_that_is_gone_serves_those_who_wait) {
    BufferPool pool(4 * kSlabBytes);
    auto promised = std::make_unique<Account>(pool, 2);
    Account account(pool, 0);
    const Buffer first = account.try_allocate(kSlabBytes);
    EXPECT_TRUE(first) << "who has nothing gets one";
    Scope scope;
    scope.spawn(take(account, kSlabBytes, 1, sink_));
    EXPECT_EQ(granted(), Ids());
    promised.reset();
    EXPECT_EQ(granted(), Ids({1})) << "three are free, and it still waits";
    sink_.clear();
}

TEST_F(BufferTest, a_share_is_given_back_by_who_had_it_before) {
    BufferPool pool(6 * kSlabBytes);
    Account greedy(pool, 0);
    auto held = hog(greedy);
    ASSERT_EQ(held.size(), 3U);
    const auto share = pool.share(5, 5);
    ASSERT_TRUE(share) << "requests give back what they have";
    EXPECT_EQ(hog(greedy).size(), 0U);
    Account late(pool, 6);
    EXPECT_EQ(hog(late).size(), 0U) << "all that is free was promised";
    const auto all = hog(**share);
    EXPECT_EQ(all.size(), 3U);
    Scope scope;
    for (const std::uint64_t id : Ids{1, 2, 3}) scope.spawn(take(**share, kSlabBytes, id, sink_));
    EXPECT_EQ(granted(), Ids());
    held.pop_back();
    EXPECT_EQ(granted(), Ids({1}));
    held.pop_back();
    EXPECT_EQ(granted(), Ids({1, 2}));
    held.pop_back();
    EXPECT_EQ(granted(), Ids({1, 2, 3})) << "the last that nobody was promised";
    sink_.clear();
}

TEST_F(BufferTest, what_cant_be_promised_is_refused) {
    BufferPool pool(8 * kSlabBytes);
    Account connections(pool, 1, Account::Holds::connections);
    const auto stays = hog(connections);
    ASSERT_EQ(stays.size(), 1 + 4U);
    const auto refused = pool.share(4, 4);
    ASSERT_FALSE(refused) << "what connections hold does not come back";
    EXPECT_EQ(refused.error().code, ErrorCode::no_memory);
    EXPECT_EQ(refused.error().text,
              "'memory' is too little for one more: 1 MiB of buffers are missing; raise it, "
              "or stop what is not needed");
    {
        const auto share = pool.share(8, 3);
        ASSERT_TRUE(share);
        EXPECT_FALSE(pool.share(1, 1));
        EXPECT_EQ(hog(**share).size(), 3U);
    }
    EXPECT_TRUE(pool.share(1, 1)) << "its promise went with it";
}

TEST_F(BufferTest, what_somebody_only_wants_keeps_nobody_from_what_he_needs) {
    BufferPool pool(8 * kSlabBytes);
    const auto first = pool.share(4, 1);
    ASSERT_TRUE(first);
    auto held = hog(**first);
    ASSERT_EQ(held.size(), 6U) << "what is set aside for it, and a share of the rest";
    const auto second = pool.share(7, 7);
    ASSERT_TRUE(second);
    EXPECT_FALSE(pool.share(1, 1));
    held.resize(1);
    EXPECT_EQ(hog(**first).size(), 0U);
    EXPECT_EQ(hog(**second).size(), 7U);
}

/// What the pool must be like, told from where the buffers lie.
class Model {
  public:
    static constexpr std::size_t kSlabs = 24;
    static constexpr std::array<std::size_t, 4> kGuarantees{0, 2, 3, 6};

    struct Slab {
        std::size_t account = 0;
        std::size_t size = 0;                       // of its buffers
        std::map<std::size_t, std::uint64_t> used;  // place in the slab to id
    };

    std::size_t held(std::size_t account) const {
        return static_cast<std::size_t>(std::ranges::count_if(
            slabs, [&](const auto& at) { return at.second.account == account; }));
    }
    bool may_take_slab(std::size_t account) const {
        const std::size_t free = kSlabs - slabs.size();
        const std::size_t mine = held(account);
        if (mine < kGuarantees[account]) return free > 0;
        std::size_t promised = 0;
        for (std::size_t at = 0; at < kGuarantees.size(); ++at)
            promised += kGuarantees[at] - std::min(kGuarantees[at], held(at));
        return mine - kGuarantees[account] < free - promised;
    }
    bool can_have(std::size_t account, std::size_t size) const {
        for (const auto& [at, slab] : slabs)
            if (slab.account == account && slab.size == size &&
                slab.used.size() < kSlabBytes / size)
                return true;
        return may_take_slab(account);
    }
    /// Notes a buffer; checks that it may be where it is.
    void add(std::size_t account, std::size_t offset, std::size_t size, std::uint64_t id) {
        ASSERT_LE(offset + size, kSlabs * kSlabBytes);
        ASSERT_EQ(offset % size, 0U);
        auto [slab, is_new] = slabs.try_emplace(offset / kSlabBytes, Slab{account, size, {}});
        ASSERT_EQ(slab->second.account, account) << "a slab of another account";
        ASSERT_EQ(slab->second.size, size) << "a slab of another size";
        ASSERT_TRUE(slab->second.used.emplace(offset % kSlabBytes, id).second) << "given out twice";
    }
    void remove(std::size_t offset) {
        Slab& slab = slabs.at(offset / kSlabBytes);
        slab.used.erase(offset % kSlabBytes);
        if (slab.used.empty()) slabs.erase(offset / kSlabBytes);
    }
    std::map<std::size_t, Slab> slabs;
};

class RandomAccounts {
  public:
    explicit RandomAccounts(std::uint64_t seed) : random_(seed), pool_(Model::kSlabs * kSlabBytes) {
        for (const std::size_t guarantee : Model::kGuarantees)
            accounts_.push_back(std::make_unique<Account>(pool_, guarantee));
        waiting_.resize(accounts_.size());
    }
    ~RandomAccounts() {
        for (auto& waiters : waiting_) waiters.clear();
    }

    void step() {
        const std::size_t who = below(accounts_.size());
        switch (below(10)) {
            case 0:
            case 1:
            case 2:
                try_allocate(who);
                break;
            case 3:
            case 4:
                if (waiting_[who].size() < 8) wait(who);
                break;
            case 5:
                share();
                break;
            case 6:
                if (below(8) == 0) give_up_last(who);
                break;
            case 7:
                if (below(400) == 0) give_all(who);
                break;
            default:
                give_one();
                break;
        }
        queue_.run();
        take_granted();
        check();
    }
    void drain() {
        for (std::size_t who = 0; who < accounts_.size(); ++who)
            while (!waiting_[who].empty()) give_up_last(who);
        while (!all_.empty()) give_one();
        check();
        EXPECT_EQ(pool_.slabs_free(), Model::kSlabs);
    }
    std::uint64_t grants() const { return grants_; }

  private:
    struct Held {
        std::size_t account = 0;
        std::size_t offset = 0;
        std::uint64_t id = 0;
        std::vector<Buffer> references;
    };
    struct Waiting {
        std::uint64_t id = 0;
        std::size_t size = 0;
        std::unique_ptr<Scope> scope = std::make_unique<Scope>();
    };

    std::size_t below(std::size_t end) { return random_() % end; }
    std::size_t some_size() {
        // Small ones fill a slab only in numbers; large ones are what is scarce.
        const std::size_t most = kBufferMinBytes << (below(2) == 0 ? 8 : below(kSizeClasses));
        return most / 2 + 1 + below(most / 2);
    }
    static std::size_t rounded(std::size_t bytes) {
        return std::max(kBufferMinBytes, std::bit_ceil(bytes));
    }
    void keep(std::size_t account, std::size_t asked, std::uint64_t id, Buffer buffer) {
        const std::size_t size = buffer.bytes().size();
        ASSERT_EQ(size, rounded(asked));
        const auto offset = static_cast<std::size_t>(buffer.bytes().data() - pool_.arena().data());
        model_.add(account, offset, size, id);
        mark(buffer, id);
        Held held{account, offset, id, {}};
        held.references.push_back(std::move(buffer));
        all_.push_back(std::move(held));
    }
    static void mark(const Buffer& buffer, std::uint64_t id) {
        std::memcpy(buffer.bytes().data(), &id, sizeof id);
        std::memcpy(buffer.bytes().last(sizeof id).data(), &id, sizeof id);
    }
    static void check_mark(const Buffer& buffer, std::uint64_t id) {
        EXPECT_EQ(std::memcmp(buffer.bytes().data(), &id, sizeof id), 0);
        EXPECT_EQ(std::memcmp(buffer.bytes().last(sizeof id).data(), &id, sizeof id), 0);
    }
    void try_allocate(std::size_t who) {
        const std::size_t asked = some_size();
        const bool can = waiting_[who].empty() && model_.can_have(who, rounded(asked));
        Buffer buffer = accounts_[who]->try_allocate(asked);
        ASSERT_EQ(static_cast<bool>(buffer), can) << "account " << who << ", " << asked;
        if (buffer) keep(who, asked, ++last_id_, std::move(buffer));
    }
    void wait(std::size_t who) {
        const std::size_t asked = some_size();
        waiting_[who].push_back({++last_id_, asked});
        waiting_[who].back().scope->spawn(take(*accounts_[who], asked, last_id_, sinks_[who]));
    }
    /// What was granted must be in order, and to the first who waited.
    void take_granted() {
        for (auto& [who, sink] : sinks_)
            for (; !sink.empty(); sink.pop_front()) {
                ASSERT_FALSE(waiting_[who].empty());
                Waiting& first = waiting_[who].front();
                ASSERT_EQ(sink.front().id, first.id) << "not first come, first served";
                keep(who, first.size, first.id, std::move(sink.front().buffer));
                waiting_[who].pop_front();
                ++grants_;
            }
    }
    void share() {
        if (all_.empty()) return;
        Held& held = all_[below(all_.size())];
        held.references.push_back(held.references.front());
    }
    void give_one() {
        if (all_.empty()) return;
        const std::size_t at = below(all_.size());
        Held& held = all_[at];
        check_mark(held.references.back(), held.id);
        if (held.references.size() == 1) {
            model_.remove(held.offset);
            std::swap(held, all_.back());
            all_.pop_back();
            return;
        }
        held.references.pop_back();
    }
    void give_all(std::size_t who) {
        for (const Held& held : all_)
            if (held.account == who) model_.remove(held.offset);
        std::erase_if(all_, [&](const Held& held) { return held.account == who; });
    }
    void give_up_last(std::size_t who) {
        if (!waiting_[who].empty()) waiting_[who].pop_back();
    }
    void check() {
        std::size_t held = 0;
        std::size_t waiters = 0;
        for (std::size_t who = 0; who < accounts_.size(); ++who) {
            ASSERT_EQ(accounts_[who]->bytes_held(), model_.held(who) * kSlabBytes);
            ASSERT_EQ(accounts_[who]->has_waiters(), !waiting_[who].empty());
            held += accounts_[who]->bytes_held();
            waiters += waiting_[who].size();
            if (!waiting_[who].empty())
                ASSERT_FALSE(model_.can_have(who, rounded(waiting_[who].front().size)))
                    << "account " << who << " waits for what it could have";
        }
        ASSERT_LE(held, pool_.arena().size());
        ASSERT_EQ(pool_.slabs_free(), Model::kSlabs - held / kSlabBytes);
        ASSERT_EQ(pool_.has_waiters(), waiters > 0);
    }

    std::mt19937_64 random_;
    async::RunQueue queue_;
    async::RunQueue::Enter enter_{queue_};
    BufferPool pool_;
    std::vector<std::unique_ptr<Account>> accounts_;
    Model model_;
    std::vector<Held> all_;
    std::map<std::size_t, Sink> sinks_;
    std::vector<std::deque<Waiting>> waiting_;
    std::uint64_t last_id_ = 0;
    std::uint64_t grants_ = 0;
};

TEST(BufferModel, random_operations_of_several_accounts_agree_with_the_model) {
    const std::uint64_t seed = std::random_device{}();
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    RandomAccounts accounts(seed);
    for (int step = 0; step < 100'000; ++step) {
        accounts.step();
        if (testing::Test::HasFatalFailure()) FAIL() << "in step " << step;
    }
    accounts.drain();
    EXPECT_GT(accounts.grants(), 1000U) << "too few waited for this to mean something";
}

}  // namespace
}  // namespace dst::block
