#include "io/uring/files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/loop.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "async/scope.h"
#include "io/uring/disk_file.h"
#include "io/uring/test_reactor.h"

namespace dst::io::uring {
namespace {

namespace fs = std::filesystem;
using async::Task;
using std::chrono::milliseconds;

constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::size_t kBlock = 4096;

/// Memory that direct I/O takes.
class Buffer {
  public:
    explicit Buffer(std::size_t size, std::byte fill = std::byte{0})
        : bytes_(static_cast<std::byte*>(std::aligned_alloc(kBlock, size)), size) {
        std::ranges::fill(bytes_, fill);
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { std::free(bytes_.data()); }
    std::span<std::byte> span() const { return bytes_; }
    bool is_all(std::byte value) const {
        return std::ranges::all_of(bytes_, [&](std::byte b) { return b == value; });
    }

  private:
    std::span<std::byte> bytes_;
};

class FilesTest : public ::testing::Test {
  protected:
    FilesTest() {
        std::string name = (fs::temp_directory_path() / "dst_files_XXXXXX").string();
        folder_ = ::mkdtemp(name.data());
    }
    ~FilesTest() override { fs::remove_all(folder_); }

    std::string make_file(const std::string& name, std::uint64_t size) const {
        const std::string path = folder_ + "/" + name;
        const UniqueFd fd(::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        CHECK(fd.is_open() && ::ftruncate(fd.get(), static_cast<off_t>(size)) == 0);
        return path;
    }
    Outcome<std::unique_ptr<File>> try_open(const std::string& path, FileOptions options = {}) {
        return reactor_->block_on(files_.open(path, options));
    }
    std::unique_ptr<File> open(const std::string& path, FileOptions options = {}) {
        auto file = try_open(path, options);
        EXPECT_TRUE(file.has_value()) << file.error().text;
        return *std::move(file);
    }
    template <typename T>
    T run(Task<T> task) {
        return reactor_->block_on(std::move(task));
    }

    std::string folder_;
    /// On a file system in memory, and of this process alone.
    const std::string memory_file_ = "/dev/shm/dst_files_" + std::to_string(::getpid());
    TestReactor reactor_;
    FileSystem& files_ = reactor_->world().files;
};

TEST_F(FilesTest, what_was_written_is_read_back_in_both_modes) {
    for (const CacheMode cache : {CacheMode::direct, CacheMode::buffered}) {
        const auto file = open(make_file("disk", kMiB), {.cache = cache});
        EXPECT_EQ(file->info().size, ByteCount(kMiB));
        EXPECT_FALSE(file->info().is_block_device);
        for (const bool durable : {false, true}) {
            const Buffer out(64 * kBlock, std::byte{0x5a});
            ASSERT_TRUE(run(file->write(ByteOffset(kBlock), out.span(), durable)).has_value());
            const Buffer in(64 * kBlock);
            ASSERT_TRUE(run(file->read(ByteOffset(kBlock), in.span())).has_value());
            EXPECT_TRUE(in.is_all(std::byte{0x5a}));
        }
        EXPECT_TRUE(run(file->sync()).has_value());
    }
}

TEST_F(FilesTest, file_without_direct_io_is_opened_buffered_and_says_so) {
    const auto file = open(make_file("disk", kMiB), {.cache = CacheMode::buffered});
    EXPECT_FALSE(file->info().is_direct);
    EXPECT_EQ(file->info().block_bytes, 512U);
    const auto direct = open(make_file("direct", kMiB));
    EXPECT_GE(direct->info().block_bytes, 512U);
    // /proc has regular files that take no O_DIRECT.
    const auto without = open("/proc/self/maps", {.read_only = true});
    EXPECT_FALSE(without->info().is_direct);
}

TEST_F(FilesTest, misaligned_requests_are_invalid) {
    const auto file = open(make_file("disk", kMiB));
    const Buffer buffer(4 * kBlock);
    const auto code = [&](std::uint64_t at, std::span<std::byte> bytes) {
        const auto result = run(file->read(ByteOffset(at), bytes));
        const auto written = run(file->write(ByteOffset(at), bytes, false));
        EXPECT_EQ(result.has_value(), written.has_value());
        return result.has_value() ? ErrorCode{0xff} : result.error().code;
    };
    EXPECT_EQ(code(1, buffer.span().first(kBlock)), ErrorCode::invalid);
    EXPECT_EQ(code(0, buffer.span().first(kBlock - 1)), ErrorCode::invalid);
    EXPECT_EQ(code(0, buffer.span().subspan(1, kBlock)), ErrorCode::invalid);
    EXPECT_EQ(code(kBlock, buffer.span().subspan(kBlock, kBlock)), ErrorCode{0xff});
    EXPECT_EQ(run(file->zero(ByteOffset(1), ByteCount(kBlock), true)).error().code,
              ErrorCode::invalid);
}

TEST_F(FilesTest, requests_behind_the_end_fail_and_do_not_grow_the_file) {
    const std::string path = make_file("disk", kMiB);
    const auto file = open(path);
    const Buffer buffer(2 * kBlock);
    EXPECT_EQ(run(file->read(ByteOffset(kMiB - kBlock), buffer.span())).error().code,
              ErrorCode::io_error);
    EXPECT_EQ(run(file->read(ByteOffset(kMiB), buffer.span())).error().code, ErrorCode::io_error);
    EXPECT_EQ(run(file->write(ByteOffset(kMiB - kBlock), buffer.span(), false)).error().code,
              ErrorCode::out_of_range);
    EXPECT_EQ(run(file->zero(ByteOffset(kMiB), ByteCount(kBlock), true)).error().code,
              ErrorCode::out_of_range);
    EXPECT_EQ(run(file->extent(ByteOffset(kMiB), ByteCount(1))).error().code,
              ErrorCode::out_of_range);
    EXPECT_EQ(fs::file_size(path), kMiB);
}

TEST_F(FilesTest, read_only_file_refuses_changes_and_shares_with_readers) {
    const std::string path = make_file("disk", kMiB);
    const auto file = open(path, {.read_only = true});
    const auto beside = open(path, {.read_only = true});
    const Buffer buffer(kBlock);
    EXPECT_TRUE(run(file->read(ByteOffset(), buffer.span())).has_value());
    EXPECT_EQ(run(file->write(ByteOffset(), buffer.span(), false)).error().code,
              ErrorCode::not_permitted);
    EXPECT_EQ(run(file->discard(ByteOffset(), ByteCount(kBlock))).error().code,
              ErrorCode::not_permitted);
    EXPECT_EQ(run(file->zero(ByteOffset(), ByteCount(kBlock), true)).error().code,
              ErrorCode::not_permitted);
    EXPECT_TRUE(run(file->sync()).has_value());
    EXPECT_FALSE(file->info().can_discard);
}

TEST_F(FilesTest, who_looks_on_needs_no_lock_and_keeps_nobody_out) {
    const std::string path = make_file("disk", kMiB);
    const auto user = open(path);
    const auto start = reactor_->now();
    const auto onlooker = open(path, {.read_only = true, .looks_on = true});
    EXPECT_LT(reactor_->now() - start, std::chrono::seconds(1));
    const Buffer ones(kBlock, std::byte{1});
    ASSERT_TRUE(run(user->write(ByteOffset(), ones.span(), false)).has_value());
    const Buffer seen(kBlock);
    ASSERT_TRUE(run(onlooker->read(ByteOffset(), seen.span())).has_value());
    EXPECT_TRUE(std::ranges::equal(seen.span(), ones.span()));

    const std::string other = make_file("other", kMiB);
    const auto looked_at = open(other, {.read_only = true, .looks_on = true});
    EXPECT_TRUE(try_open(other).has_value());
    // To change it one needs the lock.
    EXPECT_EQ(try_open(path, {.looks_on = true}).error().code, ErrorCode::busy);
}

TEST_F(FilesTest, holes_are_seen_made_and_filled) {
    const auto file = open(make_file("disk", kMiB));
    const auto extent = [&](std::uint64_t at, std::uint64_t count) {
        return *run(file->extent(ByteOffset(at), ByteCount(count)));
    };
    const Buffer ones(64 * kBlock, std::byte{1});
    ASSERT_TRUE(run(file->write(ByteOffset(kMiB / 2), ones.span(), true)).has_value());
    EXPECT_TRUE(extent(0, kMiB).hole);
    EXPECT_EQ(extent(0, kMiB).count, ByteCount(kMiB / 2));
    EXPECT_EQ(extent(0, kBlock).count, ByteCount(kBlock));
    EXPECT_FALSE(extent(kMiB / 2, kMiB).hole);
    EXPECT_EQ(extent(kMiB / 2, kMiB).count, ByteCount(64 * kBlock));
    EXPECT_TRUE(extent(kMiB - kBlock, 10 * kMiB).hole);
    EXPECT_EQ(extent(kMiB - kBlock, 10 * kMiB).count, ByteCount(kBlock));

    ASSERT_TRUE(file->info().can_discard);
    ASSERT_TRUE(run(file->discard(ByteOffset(kMiB / 2), ByteCount(8 * kBlock))).has_value());
    EXPECT_EQ(extent(0, kMiB).count, ByteCount(kMiB / 2 + 8 * kBlock));
    EXPECT_TRUE(extent(0, kMiB).zero);
}

TEST_F(FilesTest, zeroed_ranges_read_as_zeroes) {
    for (const std::string& path : {make_file("disk", kMiB), memory_file_}) {
        const UniqueFd made(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
        ASSERT_EQ(::ftruncate(made.get(), kMiB), 0);
        const auto file = open(path);
        for (const bool may_unmap : {true, false}) {
            const Buffer ones(8 * kBlock, std::byte{1});
            ASSERT_TRUE(run(file->write(ByteOffset(), ones.span(), false)).has_value());
            const auto zeroed = run(file->zero(ByteOffset(kBlock), ByteCount(kBlock), may_unmap));
            ASSERT_TRUE(zeroed.has_value()) << path << zeroed.error().what;
            const Buffer in(kBlock, std::byte{2});
            ASSERT_TRUE(run(file->read(ByteOffset(kBlock), in.span())).has_value());
            EXPECT_TRUE(in.is_all(std::byte{0}));
            ASSERT_TRUE(run(file->read(ByteOffset(2 * kBlock), in.span())).has_value());
            EXPECT_TRUE(in.is_all(std::byte{1}));
        }
    }
    ::unlink(memory_file_.c_str());
}

TEST_F(FilesTest, size_is_asked_anew) {
    const std::string path = make_file("disk", kMiB);
    const auto file = open(path);
    fs::resize_file(path, 2 * kMiB);
    EXPECT_EQ(file->info().size, ByteCount(kMiB));
    EXPECT_EQ(*run(file->refresh_size()), ByteCount(2 * kMiB));
    EXPECT_EQ(file->info().size, ByteCount(2 * kMiB));
}

TEST_F(FilesTest, identity_stays_and_differs_for_another_file_of_the_same_name) {
    const std::string path = make_file("disk", kMiB);
    const std::uint64_t identity = open(path)->info().identity;
    const Buffer ones(kBlock, std::byte{1});
    ASSERT_TRUE(run(open(path)->write(ByteOffset(), ones.span(), true)).has_value());
    EXPECT_EQ(open(path)->info().identity, identity);
    EXPECT_NE(open(make_file("other", kMiB))->info().identity, identity);
    fs::remove(path);
    make_file("disk", kMiB);
    EXPECT_NE(open(path)->info().identity, identity);
}

TEST_F(FilesTest, second_opener_in_this_process_is_refused_after_two_seconds) {
    const std::string path = make_file("disk", kMiB);
    const auto file = open(path);
    const TimePoint start = reactor_->now();
    const auto second = try_open(path);
    ASSERT_FALSE(second.has_value());
    EXPECT_EQ(second.error().code, ErrorCode::busy);
    EXPECT_EQ(second.error().text, "cannot open " + path +
                                       ": it is in use by this process; stop its user, or choose "
                                       "another");
    EXPECT_GE(reactor_->now() - start, std::chrono::seconds(2));
    EXPECT_FALSE(try_open(path, {.read_only = true}).has_value());
}

/// A process that holds the lock of a file until it is told to end.
class OtherProcess {
  public:
    explicit OtherProcess(const std::string& path) {
        std::array<int, 2> ready{};
        CHECK(::pipe2(ready.data(), O_CLOEXEC) == 0);
        child_ = ::fork();
        if (child_ == 0) {
            const int fd = ::open(path.c_str(), O_RDWR);
            const bool locked = fd >= 0 && ::flock(fd, LOCK_EX | LOCK_NB) == 0;
            if (::write(ready[1], locked ? "y" : "n", 1) != 1) ::_exit(1);
            while (true) ::pause();
        }
        char answer = 0;
        CHECK(::read(ready[0], &answer, 1) == 1 && answer == 'y');
        ::close(ready[0]);
        ::close(ready[1]);
    }
    OtherProcess(const OtherProcess&) = delete;
    OtherProcess& operator=(const OtherProcess&) = delete;
    ~OtherProcess() { kill(); }
    void kill() {
        if (child_ <= 0) return;
        ::kill(child_, SIGKILL);
        ::waitpid(std::exchange(child_, 0), nullptr, 0);
    }
    pid_t pid() const { return child_; }

  private:
    pid_t child_ = 0;
};

TEST_F(FilesTest, file_of_another_process_is_refused_naming_it) {
    const std::string path = make_file("disk", kMiB);
    const OtherProcess other(path);
    const auto second = try_open(path);
    ASSERT_FALSE(second.has_value());
    EXPECT_EQ(second.error().code, ErrorCode::busy);
    EXPECT_NE(second.error().text.find("(pid " + std::to_string(other.pid()) + ")"),
              std::string::npos)
        << second.error().text;
}

Task<void> kill_later(Clock& clock, OtherProcess& other) {
    co_await sleep_for(clock, milliseconds(300));
    other.kill();
}

TEST_F(FilesTest, lock_released_while_waiting_is_taken) {
    const std::string path = make_file("disk", kMiB);
    OtherProcess other(path);
    async::Scope scope;
    const async::RunQueue::Enter enter(reactor_->world().queue);
    const TimePoint start = reactor_->now();
    scope.spawn(kill_later(*reactor_, other));
    open(path);
    EXPECT_GE(reactor_->now() - start, milliseconds(300));
    EXPECT_LT(reactor_->now() - start, milliseconds(1900));
    reactor_->block_on(scope.join());
}

TEST_F(FilesTest, what_is_no_disk_is_refused_in_one_line) {
    const auto text = [&](const std::string& path) {
        const auto file = try_open(path);
        return file.has_value() ? "opened" : file.error().text;
    };
    EXPECT_EQ(text("/no/such/disk"),
              "cannot open /no/such/disk: no such file or directory; create it (truncate -s SIZE "
              "FILE) or correct the path");
    EXPECT_NE(text(folder_).find("neither a file nor a block device"), std::string::npos);
    EXPECT_NE(text("/dev/null").find("neither a file nor a block device"), std::string::npos);
}

Task<void> write_at(File& file, std::uint64_t at, std::span<std::byte> bytes, int& failed) {
    if (!(co_await file.write(ByteOffset(at), bytes, false)).has_value()) ++failed;
}

TEST_F(FilesTest, many_requests_at_once_all_arrive) {
    const auto file = open(make_file("disk", 64 * kMiB));
    const Buffer ones(kBlock, std::byte{1});
    int failed = 0;
    async::Scope scope;
    const async::RunQueue::Enter enter(reactor_->world().queue);
    for (std::uint64_t at = 0; at < 16 * kMiB; at += kBlock)
        scope.spawn(write_at(*file, at, ones.span(), failed));
    reactor_->block_on(scope.join());
    EXPECT_EQ(failed, 0);
    const Buffer in(16 * kMiB);
    ASSERT_TRUE(run(file->read(ByteOffset(), in.span())).has_value());
    EXPECT_TRUE(in.is_all(std::byte{1}));
}

TEST_F(FilesTest, full_device_is_no_space) {
    // More than the machine's memory can hold.
    const UniqueFd made(::open(memory_file_.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    ASSERT_EQ(::ftruncate(made.get(), off_t{1} << 45), 0);
    const auto file = open(memory_file_);
    EXPECT_EQ(run(file->zero(ByteOffset(), ByteCount(std::uint64_t{1} << 45), false)).error().code,
              ErrorCode::no_space);
    ::unlink(memory_file_.c_str());
}

TEST_F(FilesTest, flush_that_failed_once_fails_until_the_loss_is_accepted) {
    // A pipe can't be flushed: EINVAL stands for the disk's error.
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const UniqueFd reader(ends[0]);
    FileInfo info;
    info.size = ByteCount(kMiB);
    DiskFile file(*reactor_, Medium{UniqueFd(ends[1]), info}, {});
    EXPECT_EQ(run(file.sync()).error().code, ErrorCode::invalid);
    // Now the descriptor could be flushed, but what was written before is lost.
    const UniqueFd good(::open(make_file("disk", kMiB).c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_GE(::dup3(good.get(), ends[1], O_CLOEXEC), 0);
    EXPECT_EQ(run(file.sync()).error().code, ErrorCode::io_error);
    EXPECT_EQ(run(file.sync()).error().code, ErrorCode::io_error);
    file.accept_losses();
    EXPECT_TRUE(run(file.sync()).has_value());
}

TEST_F(FilesTest, small_files_are_replaced_as_a_whole_for_their_owner_alone) {
    const std::string path = folder_ + "/a/b/settings";
    EXPECT_EQ(files_.load(path).error().code, ErrorCode::not_found);
    for (const std::string& content :
         {std::string("one"), std::string(100'000, 'x'), std::string()}) {
        const auto stored = files_.store(path, content);
        ASSERT_TRUE(stored.has_value()) << stored.error().text;
        EXPECT_EQ(*files_.load(path), content);
    }
    const auto mode = [](const std::string& of) {
        return static_cast<unsigned>(fs::status(of).permissions());
    };
    EXPECT_EQ(mode(path), 0600U);
    EXPECT_EQ(mode(folder_ + "/a"), 0700U);
    EXPECT_EQ(std::distance(fs::directory_iterator(folder_ + "/a/b"), {}), 1)
        << "nothing beside it";
}

TEST_F(FilesTest, small_file_that_cannot_be_stored_says_why) {
    make_file("file", 0);
    const auto below = files_.store(folder_ + "/file/below", "x");
    ASSERT_FALSE(below.has_value());
    EXPECT_EQ(below.error().text,
              "cannot make folder " + folder_ + "/file: not a directory; correct the path");
    EXPECT_FALSE(files_.store(folder_, "x").has_value());
    EXPECT_FALSE(files_.load(folder_).has_value());
    const auto full = files_.store("/proc/dst", "x");
    EXPECT_FALSE(full.has_value());
}

/// A loop device over a file; empty where the machine has none.
class LoopDevice {
  public:
    explicit LoopDevice(const std::string& path) {
        const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
        const int number = control.is_open() ? ::ioctl(control.get(), LOOP_CTL_GET_FREE) : -1;
        if (number < 0) return;
        const std::string device = "/dev/loop" + std::to_string(number);
        const UniqueFd backing(::open(path.c_str(), O_RDWR | O_CLOEXEC));
        fd_ = UniqueFd(::open(device.c_str(), O_RDWR | O_CLOEXEC));
        if (fd_.is_open() && ::ioctl(fd_.get(), LOOP_SET_FD, backing.get()) == 0) path_ = device;
    }
    LoopDevice(const LoopDevice&) = delete;
    LoopDevice& operator=(const LoopDevice&) = delete;
    ~LoopDevice() {
        if (!path_.empty()) ::ioctl(fd_.get(), LOOP_CLR_FD);
    }
    const std::string& path() const { return path_; }

  private:
    UniqueFd fd_;
    std::string path_;
};

TEST_F(FilesTest, block_device_is_read_written_trimmed_zeroed_and_locked) {
    const LoopDevice loop(make_file("backing", 16 * kMiB));
    if (loop.path().empty()) GTEST_SKIP() << "this machine has no loop devices";
    std::uint64_t identity = 0;
    {
        const auto file = open(loop.path());
        const FileInfo& info = file->info();
        EXPECT_TRUE(info.is_block_device && info.is_direct);
        EXPECT_EQ(info.size, ByteCount(16 * kMiB));
        EXPECT_EQ(info.block_bytes, 512U);
        identity = info.identity;
        const Buffer ones(64 * kBlock, std::byte{1});
        ASSERT_TRUE(run(file->write(ByteOffset(), ones.span(), true)).has_value());
        ASSERT_TRUE(run(file->sync()).has_value());
        EXPECT_FALSE(run(file->extent(ByteOffset(), ByteCount(kMiB)))->hole);
        ASSERT_TRUE(run(file->discard(ByteOffset(), ByteCount(kBlock))).has_value());
        const Buffer in(kBlock, std::byte{2});
        if (info.can_zero_fast) {
            for (const bool may_unmap : {true, false}) {
                const auto zeroed =
                    run(file->zero(ByteOffset(2 * kBlock), ByteCount(kBlock), may_unmap));
                ASSERT_TRUE(zeroed.has_value()) << zeroed.error().what;
                ASSERT_TRUE(run(file->read(ByteOffset(2 * kBlock), in.span())).has_value());
                EXPECT_TRUE(in.is_all(std::byte{0}));
            }
        }
        ASSERT_TRUE(run(file->read(ByteOffset(8 * kBlock), in.span())).has_value());
        EXPECT_TRUE(in.is_all(std::byte{1}));
        EXPECT_EQ(try_open(loop.path()).error().code, ErrorCode::busy);
    }
    const auto again = open(loop.path());
    EXPECT_EQ(again->info().identity, identity);
}

}  // namespace
}  // namespace dst::io::uring
