#include "io/uring/reactor.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <map>
#include <random>
#include <thread>

#include "async/scope.h"
#include "io/uring/test_reactor.h"

namespace dst::io::uring {
namespace {

using async::Task;
using std::chrono::microseconds;
using std::chrono::milliseconds;

Task<int> seven() { co_return 7; }

Task<void> note_after(Clock& clock, Duration duration, std::vector<int>& order, int number) {
    co_await sleep_for(clock, duration);
    order.push_back(number);
}

Task<int> nothing(Reactor& reactor) {
    co_return co_await reactor.submit([](io_uring_sqe& entry) { io_uring_prep_nop(&entry); });
}

TEST(Reactor, gives_back_what_a_task_returns) {
    TestReactor reactor;
    EXPECT_EQ(reactor->block_on(seven()), 7);
    EXPECT_EQ(reactor->block_on(seven()), 7);
}

TEST(Reactor, is_made_and_destroyed_by_another_thread_than_runs_it) {
    TestReactor reactor;
    std::thread([&] {
        reactor->block_on(pause(*reactor, milliseconds(1)));
        EXPECT_EQ(reactor->block_on(nothing(*reactor)), 0);
    }).join();
}

TEST(Reactor, runs_until_stopped_and_again) {
    TestReactor reactor;
    for (int round = 0; round < 3; ++round) {
        Deadline deadline([&] { reactor->stop(); });
        deadline.arm(*reactor, reactor->now() + milliseconds(1));
        reactor->run();
        EXPECT_FALSE(deadline.is_armed());
    }
}

TEST(Reactor, sleepers_wake_in_the_order_of_their_times) {
    TestReactor reactor;
    std::vector<int> order;
    async::Scope scope;
    {
        const async::RunQueue::Enter enter(reactor->world().queue);
        scope.spawn(note_after(*reactor, milliseconds(30), order, 3));
        scope.spawn(note_after(*reactor, milliseconds(10), order, 1));
        scope.spawn(note_after(*reactor, milliseconds(20), order, 2));
        scope.spawn(note_after(*reactor, -milliseconds(10), order, 0));
    }
    const TimePoint start = reactor->now();
    reactor->block_on(scope.join());
    EXPECT_EQ(order, (std::vector{0, 1, 2, 3}));
    EXPECT_GE(reactor->now() - start, milliseconds(29));
    EXPECT_LT(reactor->now() - start, milliseconds(500));
}

Task<bool> wait_shortly(Clock& clock, async::WaitQueue& queue) {
    co_return co_await wait_for(clock, queue, milliseconds(5));
}

TEST(Reactor, wait_ends_with_its_time) {
    TestReactor reactor;
    async::WaitQueue queue;
    EXPECT_FALSE(reactor->block_on(wait_shortly(*reactor, queue)));
    EXPECT_TRUE(queue.empty());
}

Task<void> submit_nothing(Reactor& reactor, int& answered) {
    if (co_await reactor.submit([](io_uring_sqe& entry) { io_uring_prep_nop(&entry); }) == 0)
        ++answered;
}

TEST(Reactor, more_requests_than_the_queues_hold_are_all_answered) {
    TestReactor reactor(ReactorOptions{.spin = {}, .entries = 4});
    constexpr int kCount = 10'000;  // 4 entries, 64 completions
    int answered = 0;
    async::Scope scope;
    Deadline start([&] {
        for (int count = 0; count < kCount; ++count)
            scope.spawn(submit_nothing(*reactor, answered));
    });
    start.arm(*reactor, reactor->now());
    reactor->block_on(pause(*reactor, milliseconds(1)));
    reactor->block_on(scope.join());
    EXPECT_EQ(answered, kCount);
}

TEST(Reactor, a_coroutine_that_only_yields_does_not_starve_the_kernels_answers) {
    TestReactor reactor;
    bool done = false;
    const auto finish = [](Reactor& on, bool& flag) -> Task<void> {
        co_await sleep_for(on, milliseconds(5));
        flag = true;
    };
    const auto spin = [](bool& flag) -> Task<void> {
        while (!flag) co_await async::yield();
    };
    async::Scope scope;
    {
        const async::RunQueue::Enter enter(reactor->world().queue);
        scope.spawn(finish(*reactor, done));
    }
    reactor->block_on(spin(done));
    reactor->block_on(scope.join());
}

TEST(Reactor, functions_posted_by_other_threads_run_once_each_on_its_thread) {
    TestReactor reactor;
    constexpr int kThreads = 4;
    constexpr int kPosts = 5000;
    int count = 0;
    const auto home = std::this_thread::get_id();
    std::vector<std::thread> threads;
    threads.reserve(kThreads);
    for (int number = 0; number < kThreads; ++number) {
        threads.emplace_back([&] {
            for (int post = 0; post < kPosts; ++post) {
                reactor->post([&] {
                    EXPECT_EQ(std::this_thread::get_id(), home);
                    if (++count == kThreads * kPosts) reactor->stop();
                });
                if (post % 100 == 0) std::this_thread::sleep_for(microseconds(50));
            }
        });
    }
    reactor->run();
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(count, kThreads * kPosts);
}

TEST(Reactor, function_posted_before_it_runs_is_not_lost) {
    TestReactor reactor;
    reactor->post([&] { reactor->post([&] { reactor->stop(); }); });
    reactor->run();
}

Task<std::thread::id> where(Reactor& reactor) {
    co_return co_await reactor.offload([] { return std::this_thread::get_id(); });
}

struct Crowd {
    std::atomic<int> now = 0;
    std::atomic<int> max = 0;
};

Task<void> block_elsewhere(Reactor& reactor, Crowd& crowd) {
    co_await reactor.offload([&crowd] {
        const int beside = ++crowd.now;
        if (beside > crowd.max) crowd.max = beside;
        std::this_thread::sleep_for(milliseconds(20));
        return --crowd.now;
    });
}

TEST(Reactor, blocking_calls_run_on_two_helper_threads) {
    TestReactor reactor;
    EXPECT_NE(reactor->block_on(where(*reactor)), std::this_thread::get_id());
    Crowd crowd;
    async::Scope scope;
    {
        const async::RunQueue::Enter enter(reactor->world().queue);
        for (int count = 0; count < 6; ++count) scope.spawn(block_elsewhere(*reactor, crowd));
    }
    reactor->block_on(scope.join());
    EXPECT_EQ(crowd.max, 2);
}

Task<void> wait_for_input(Reactor& reactor, int fd) {
    char byte = 0;
    co_await reactor.submit(
        [&](io_uring_sqe& entry) { io_uring_prep_read(&entry, fd, &byte, 1, 0); });
}

void destroy_in_flight() {
    TestReactor reactor;
    std::array<int, 2> ends{};
    CHECK(::pipe(ends.data()) == 0);
    const async::RunQueue::Enter enter(reactor->world().queue);
    async::Scope scope;
    scope.spawn(wait_for_input(*reactor, ends[0]));
    reactor->block_on(pause(*reactor, milliseconds(1)));
}

/// Reads from a pipe. What the kernel writes into, and where it is waited for, are one object.
struct Reader {
    std::array<int, 2> ends{};
    std::array<std::byte, 1> byte{};
    Operation* in_kernel = nullptr;
    int result = 0;
    async::Scope scope;

    Reader() { CHECK(::pipe(ends.data()) == 0); }
    ~Reader() {
        for (const int end : ends) ::close(end);
    }
    Task<void> read(Reactor& reactor) {
        auto operation = reactor.submit([this](io_uring_sqe& entry) {
            io_uring_prep_read(&entry, ends[0], byte.data(), 1, 0);
        });
        in_kernel = &operation;
        result = co_await operation;
    }
};

TEST(Reactor, request_that_the_kernel_keeps_is_abandoned_and_goes_after_the_ring) {
    std::weak_ptr<Reader> reader;
    {
        TestReactor reactor;
        const auto reads = std::make_shared<Reader>();
        reader = reads;
        {
            const async::RunQueue::Enter enter(reactor->world().queue);
            reads->scope.spawn(reads->read(*reactor));
        }
        reactor->block_on(pause(*reactor, milliseconds(1)));
        reactor->abandon(*reads->in_kernel);
        reactor->keep(reads);
    }
    EXPECT_TRUE(reader.expired());
}

TEST(Reactor, answer_to_an_abandoned_request_still_finds_who_waits) {
    TestReactor reactor;
    const auto reads = std::make_shared<Reader>();
    {
        const async::RunQueue::Enter enter(reactor->world().queue);
        reads->scope.spawn(reads->read(*reactor));
    }
    reactor->abandon(*reads->in_kernel);
    reactor->keep(reads);
    CHECK(::write(reads->ends[1], "x", 1) == 1);
    reactor->block_on(reads->scope.join());
    EXPECT_EQ(reads->result, 1);
}

TEST(ReactorDeathTest, request_that_is_destroyed_in_flight_is_a_bug_that_is_found) {
    EXPECT_DEATH(destroy_in_flight(), "is_in_flight_");
}

std::int64_t switches() {
    rusage usage{};
    ::getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nvcsw;
}

Duration processor_time() {
    timespec time{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

TEST(Reactor, idle_one_sleeps_and_is_woken_by_nothing) {
    for (const microseconds spin : {microseconds(0), microseconds(100)}) {
        TestReactor reactor(ReactorOptions{.spin = spin, .entries = 64});
        reactor->block_on(pause(*reactor, milliseconds(1)));
        const std::int64_t switches_before = switches();
        const Duration time_before = processor_time();
        reactor->block_on(pause(*reactor, milliseconds(300)));
        // A machine that is short of memory or time adds a few; what ticks would add many.
        EXPECT_LE(switches() - switches_before, 10);
        EXPECT_LT(processor_time() - time_before, milliseconds(3));
    }
}

TEST(Reactor, signal_that_is_handled_only_interrupts_its_sleep) {
    TestReactor reactor;
    static volatile std::sig_atomic_t handled = 0;
    struct sigaction action{};
    struct sigaction before{};
    action.sa_handler = [](int) { handled = handled + 1; };
    ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);
    const auto home = ::pthread_self();
    std::thread other([&] {
        for (int count = 0; count < 5; ++count) {
            std::this_thread::sleep_for(milliseconds(5));
            ::pthread_kill(home, SIGUSR1);
        }
    });
    const TimePoint start = reactor->now();
    reactor->block_on(pause(*reactor, milliseconds(50)));
    EXPECT_GE(reactor->now() - start, milliseconds(50));
    other.join();
    EXPECT_GE(handled, 1);
    ::sigaction(SIGUSR1, &before, nullptr);
}

TEST(Reactor, polling_ends_when_it_does_not_pay) {
    TestReactor reactor(ReactorOptions{.spin = milliseconds(2), .entries = 64});
    std::array<int, 2> pipe_ends{};
    ASSERT_EQ(::pipe(pipe_ends.data()), 0);
    const UniqueFd in(pipe_ends[0]);
    const UniqueFd out(pipe_ends[1]);
    const auto read_one = [](Reactor& on, int fd) -> Task<int> {
        char byte = 0;
        co_return co_await on.submit(
            [&](io_uring_sqe& entry) { io_uring_prep_read(&entry, fd, &byte, 1, 0); });
    };
    constexpr int kRounds = 20;
    std::thread other([&] {
        for (int round = 0; round < kRounds; ++round) {
            std::this_thread::sleep_for(milliseconds(15));
            CHECK(::write(out.get(), "x", 1) == 1);
        }
    });
    const Duration before = processor_time();
    for (int round = 0; round < kRounds; ++round)
        EXPECT_EQ(reactor->block_on(read_one(*reactor, in.get())), 1);
    other.join();
    // 2 ms of each of the first rounds, halved each time; not 40 ms in all.
    EXPECT_LT(processor_time() - before, milliseconds(12));
}

class CountingTimer final : public Timer {
  public:
    explicit CountingTimer(std::vector<const Timer*>& fired) : fired_(fired) {}
    ~CountingTimer() override { disarm(); }

  private:
    void on_timer() override { fired_.push_back(this); }
    std::vector<const Timer*>& fired_;
};

/// A clock that is told what time it is.
class ToldClock final : public Clock {
  public:
    TimePoint now() const override { return now_; }
    WallTime wall_now() const override { return {}; }
    void advance(Duration duration) {
        now_ += duration;
        heap_.fire(now_);
    }
    TimePoint next() const { return heap_.next(); }

  private:
    void add(Timer& timer) override { heap_.add(timer); }
    void remove(Timer& timer) override { heap_.remove(timer); }
    TimerHeap heap_;
    TimePoint now_;
};

TEST(TimerHeap, agrees_with_a_sorted_list_over_random_operations) {
    const auto seed = std::random_device{}();
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    ToldClock clock;
    std::vector<const Timer*> fired;
    std::vector<std::unique_ptr<CountingTimer>> timers(200);
    for (auto& timer : timers) timer = std::make_unique<CountingTimer>(fired);
    // What is armed: time and order of arming, which is the order of firing.
    std::map<std::pair<TimePoint, int>, const Timer*> model;
    std::map<const Timer*, std::pair<TimePoint, int>> places;
    const auto forget = [&](const Timer* timer) {
        if (const auto place = places.find(timer); place != places.end()) {
            model.erase(place->second);
            places.erase(place);
        }
    };
    for (int step = 0; step < 100'000; ++step) {
        CountingTimer& timer = *timers[random() % timers.size()];
        const std::uint64_t choice = random() % 10;
        if (choice < 6) {
            forget(&timer);
            const TimePoint when = clock.now() + Duration(random() % 50) - Duration(10);
            timer.arm(clock, when);
            places[&timer] = {std::max(when, clock.now()), step};
            model[places[&timer]] = &timer;
        } else if (choice < 8) {
            forget(&timer);
            timer.disarm();
        } else {
            fired.clear();
            clock.advance(Duration(random() % 10));
            std::vector<const Timer*> due;
            while (!model.empty() && model.begin()->first.first <= clock.now()) {
                due.push_back(model.begin()->second);
                forget(due.back());
            }
            ASSERT_EQ(fired, due) << "step " << step;
        }
        ASSERT_EQ(clock.next(), model.empty() ? TimePoint::max() : model.begin()->first.first);
    }
}

TEST(TimerHeap, timer_that_arms_itself_again_for_the_past_lets_others_fire) {
    ToldClock clock;
    int again = 0;
    int other = 0;
    struct Greedy final : Timer {
        Greedy(Clock& on, int& runs) : clock_(on), runs_(runs) {}
        ~Greedy() override { disarm(); }
        void on_timer() override {
            ++runs_;
            arm(clock_, TimePoint());
        }
        Clock& clock_;
        int& runs_;
    } timer(clock, again);
    Deadline patient([&] { ++other; });
    timer.arm(clock, TimePoint());
    patient.arm(clock, TimePoint() + Duration(10));
    for (int turn = 0; turn < 20; ++turn) clock.advance(Duration(1));
    EXPECT_EQ(again, 20);
    EXPECT_EQ(other, 1);
}

}  // namespace
}  // namespace dst::io::uring
