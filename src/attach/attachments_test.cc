// Attachments with ways that the test steers: which way is taken, who is refused, and that force
// waits for nobody.
#include "attach/attachments.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "async/run_queue.h"

namespace dst::attach {
namespace {

using async::Task;

class FakeDevice final : public block::Device {
  public:
    [[nodiscard]] block::Geometry geometry() const override { return {.size = size}; }
    Task<Result<>> execute(block::Request&) override { co_return Result<>{}; }
    [[nodiscard]] std::uint64_t instance() const override { return 1; }

    SectorCount size{8};
};

/// What the ways do, and what was done to them.
struct Script {
    std::string obstacle;
    ErrorCode refuses = ErrorCode::io_error;
    bool is_refused = false;
    bool detach_waits = false;
    async::WaitQueue forced;
    std::vector<std::string> log;
};

class FakeAttachment final : public Attachment {
  public:
    explicit FakeAttachment(Script& script, std::string path)
        : script_(script), path_(std::move(path)) {}
    ~FakeAttachment() override { script_.log.push_back("died"); }
    [[nodiscard]] const std::string& path() const override { return path_; }
    Task<Outcome<>> resize() override {
        script_.log.push_back("resize");
        co_return Outcome<>{};
    }
    Task<Outcome<>> detach() override {
        script_.log.push_back("detach");
        if (script_.detach_waits) co_await script_.forced.wait();
        if (script_.is_refused) co_return refuse(ErrorCode::busy, "it is mounted");
        co_return Outcome<>{};
    }
    Task<void> tear_off() override {
        script_.log.push_back("tear off");
        script_.forced.wake_all();
        co_return;
    }
    Task<void> part(io::TimePoint) override {
        script_.log.push_back("part");
        co_return;
    }
    Task<void> gone() override {
        script_.log.push_back("gone");
        co_return;
    }

  private:
    Script& script_;
    const std::string path_;
};

class FakeWay final : public Way {
  public:
    FakeWay(Kind kind, Script& script) : kind_(kind), script_(script) {}
    [[nodiscard]] Kind kind() const override { return kind_; }
    Task<std::string> obstacle() override { co_return script_.obstacle; }
    Task<Outcome<std::unique_ptr<Attachment>>> attach(
        const Spec& spec, Shown, std::unique_ptr<Attachment>& failed) override {
        EXPECT_EQ(spec.via, kind_);
        if (script_.is_refused) failed = std::make_unique<FakeAttachment>(script_, "/dev/none");
        if (script_.is_refused) co_return refuse(script_.refuses, "the kernel says no");
        co_return std::make_unique<FakeAttachment>(script_,
                                                   "/dev/" + std::string(to_string(kind_)) + "0");
    }

  private:
    const Kind kind_;
    Script& script_;
};

class AttachmentsTest : public testing::Test {
  protected:
    AttachmentsTest() {
        std::vector<std::unique_ptr<Way>> ways;
        ways.push_back(std::make_unique<FakeWay>(Kind::fuse, fuse));
        ways.push_back(std::make_unique<FakeWay>(Kind::ublk, ublk));
        all.offer(std::move(ways));
    }
    ~AttachmentsTest() override {
        run(all.shut_down(io::TimePoint()));
        run(all.gone());
    }
    template <typename T>
    std::optional<T> begin(Task<T> task) {
        std::optional<T> value;
        scope.spawn(keep(std::move(task), value));
        queue.run();
        return value;
    }
    void run(Task<void> task) {
        scope.spawn(std::move(task));
        queue.run();
        EXPECT_TRUE(scope.empty());
    }
    template <typename T>
    static Task<void> keep(Task<T> task, std::optional<T>& value) {
        value.emplace(co_await std::move(task));
    }
    Outcome<Listed> attach(Spec spec) { return *begin(all.attach(std::move(spec), device)); }

    async::RunQueue queue;
    const async::RunQueue::Enter entered{queue};
    block::BufferPool pool{16 << 20};
    FakeDevice device;
    Script fuse;
    Script ublk;
    block::Account connections{pool, 1, block::Account::Holds::connections};
    Attachments all{pool, connections};
    async::Scope scope;
};

TEST_F(AttachmentsTest, the_best_way_that_works_is_taken_and_the_others_are_told) {
    const auto best = attach({.name = "a"});
    ASSERT_TRUE(best.has_value()) << best.error().text;
    EXPECT_EQ(best->spec.device, "/dev/ublk0");
    ublk.obstacle = "there is no /dev/ublk-control";
    const auto other = attach({.name = "b"});
    ASSERT_TRUE(other.has_value()) << other.error().text;
    EXPECT_EQ(other->spec.via, Kind::fuse);
    EXPECT_EQ(other->passed_over, (std::vector<std::string>{"ublk: there is no /dev/ublk-control",
                                                            "nbd: this daemon can't do that"}));
    EXPECT_EQ(all.list().size(), 2U);
}

TEST_F(AttachmentsTest, a_way_that_was_wished_for_is_taken_or_none) {
    EXPECT_EQ(attach({.name = "a", .via = Kind::fuse})->spec.device, "/dev/fuse0");
    ublk.obstacle = "there is no /dev/ublk-control";
    const auto refused = attach({.name = "b", .via = Kind::ublk});
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, ErrorCode::unsupported);
    EXPECT_FALSE(all.contains("b"));
    EXPECT_EQ(attach({.name = "c", .file_only = true})->spec.via, Kind::fuse);
}

TEST_F(AttachmentsTest, what_fails_is_no_reason_to_take_a_lesser_way) {
    ublk.is_refused = true;
    const auto failed = attach({.name = "a"});
    ASSERT_FALSE(failed.has_value());
    EXPECT_EQ(failed.error().text, "'a' can't be attached by ublk: the kernel says no");
    ublk.refuses = ErrorCode::unsupported;
    EXPECT_EQ(attach({.name = "a"})->spec.via, Kind::fuse);
}

TEST_F(AttachmentsTest, a_detach_that_is_refused_changes_nothing) {
    ASSERT_TRUE(attach({.name = "a"}).has_value());
    ublk.is_refused = true;
    const auto refused = begin(all.detach("a", false));
    ASSERT_TRUE(refused && !*refused);
    EXPECT_EQ(refused->error().text, "'a' is not detached: it is mounted");
    EXPECT_TRUE(all.contains("a"));
    ublk.is_refused = false;
    EXPECT_TRUE(begin(all.detach("a", false))->has_value());
    EXPECT_FALSE(all.contains("a"));
    EXPECT_EQ(ublk.log, (std::vector<std::string>{"detach", "detach", "gone", "died"}));
}

TEST_F(AttachmentsTest, force_does_not_wait_behind_a_detach_that_hangs) {
    ASSERT_TRUE(attach({.name = "a"}).has_value());
    ublk.detach_waits = ublk.is_refused = true;
    std::optional<Outcome<>> hangs;
    scope.spawn(keep(all.detach("a", false), hangs));
    queue.run();
    EXPECT_FALSE(hangs);
    EXPECT_TRUE(begin(all.detach("a", true))->has_value());
    EXPECT_FALSE(all.contains("a"));
    EXPECT_TRUE(hangs && hangs->has_value());
    EXPECT_EQ(ublk.log, (std::vector<std::string>{"detach", "tear off", "gone", "died"}));
    EXPECT_FALSE(begin(all.detach("a", true))->has_value());
}

TEST_F(AttachmentsTest, a_device_that_has_grown_is_told_to_the_kernel) {
    ASSERT_TRUE(attach({.name = "a"}).has_value());
    all.look();
    queue.run();
    EXPECT_TRUE(ublk.log.empty());
    device.size = SectorCount(16);
    all.look();
    all.look();
    queue.run();
    EXPECT_EQ(ublk.log, std::vector<std::string>{"resize"});
    EXPECT_EQ(all.list().at(0).size, SectorCount(16));
}

}  // namespace
}  // namespace dst::attach
