// Local nodes against a byte vector: memory, and files with and without the page cache; and what
// a file device does on a medium that can't do everything.
#include "node/local.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>

#include "io/uring/test_reactor.h"

namespace dst::node {
namespace {

namespace fs = std::filesystem;
using async::Task;
using block::Extent;
using block::ExtentList;
using block::Op;
using block::Request;

constexpr SectorCount kSize{6000};  // no multiple of 64 KiB

std::string some_folder() {
    std::string name = (fs::temp_directory_path() / "dst_local_XXXXXX").string();
    return ::mkdtemp(name.data());
}

class LocalTest : public testing::Test {
  protected:
    ~LocalTest() override {
        device_.reset();
        fs::remove_all(folder_);
    }
    std::string make_file(std::uint64_t bytes, const std::string& name = "disk") const {
        const std::string path = folder_ + "/" + name;
        std::ofstream(path).close();
        fs::resize_file(path, bytes);
        return path;
    }
    Outcome<std::unique_ptr<block::Device>> try_open(const std::string& path,
                                                     LocalSettings settings = {}) {
        return reactor_->block_on(open_file(world_, path, settings));
    }
    void open(const std::string& path, LocalSettings settings = {}) {
        auto opened = try_open(path, settings);
        ASSERT_TRUE(opened.has_value()) << opened.error().text;
        device_ = std::move(*opened);
    }
    Result<> execute(Request request) { return reactor_->block_on(device_->execute(request)); }
    Result<> write(std::uint64_t at, std::uint64_t count, char fill) {
        const auto data = std::span(memory_).first(count * kSectorBytes);
        std::ranges::fill(data, static_cast<std::byte>(fill));
        return execute(
            {.op = Op::write, .range = {SectorIndex(at), SectorCount(count)}, .data = data});
    }
    std::vector<Extent> extents(std::uint64_t at, std::uint64_t count, std::size_t room = 64) {
        std::vector<Extent> places(room);
        ExtentList list(places);
        const Result<> done = execute({.op = Op::block_status,
                                       .range = {SectorIndex(at), SectorCount(count)},
                                       .extents = &list});
        EXPECT_TRUE(done.has_value());
        return {list.extents().begin(), list.extents().end()};
    }
    static std::string text(const std::vector<Extent>& all) {
        std::string words;
        for (const Extent& extent : all)
            words += std::to_string(extent.count.value()) + (extent.hole ? "h" : "d") +
                     (extent.zero ? "z " : " ");
        return words;
    }

    const std::string folder_ = some_folder();
    io::uring::TestReactor reactor_;
    io::World world_ = reactor_->world();
    std::unique_ptr<block::Device> device_;
    Pages pages_{2 << 20};
    std::span<std::byte> memory_ = pages_.bytes();
};

enum class Kind : std::uint8_t { memory, direct, buffered };

class LocalModelTest : public LocalTest, public testing::WithParamInterface<Kind> {
  protected:
    void open_it(SectorCount size) {
        if (GetParam() == Kind::memory) {
            auto opened = open_memory(world_, to_bytes(size));
            ASSERT_TRUE(opened.has_value());
            device_ = std::move(*opened);
        } else {
            open(make_file(to_bytes(size).value()),
                 {.cache = GetParam() == Kind::direct ? io::CacheMode::direct
                                                      : io::CacheMode::buffered});
        }
    }
};

TEST_P(LocalModelTest, random_operations_agree_with_a_byte_vector) {
    const std::uint64_t seed = std::random_device{}();
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    const std::uint64_t size = kSize.value() / 8 * 8;
    open_it(SectorCount(size));
    ASSERT_EQ(device_->geometry().size, SectorCount(size));
    const std::uint64_t step = device_->geometry().block_bytes / kSectorBytes;
    std::vector<std::byte> model(size * kSectorBytes);
    for (int i = 0; i < 10'000; ++i) {
        const bool is_long = random() % 16 == 0;
        const std::uint64_t count = (1 + random() % (is_long ? 2000 / step : 64 / step)) * step;
        const std::uint64_t at = random() % ((size - count) / step + 1) * step;
        const SectorRange range{SectorIndex(at), SectorCount(count)};
        const auto expected = std::span(model).subspan(at * kSectorBytes, count * kSectorBytes);
        const auto data = memory_.first(expected.size());
        const unsigned kind = random() % 20;
        if (kind < 8) {
            std::uint64_t value = random();
            for (std::byte& byte : data)
                byte = static_cast<std::byte>((value = value * 25 + 7) >> 11);
            ASSERT_TRUE(execute({.op = Op::write, .fua = kind == 0, .range = range, .data = data}));
            std::ranges::copy(data, expected.begin());
        } else if (kind < 14) {
            ASSERT_TRUE(execute({.op = Op::read, .range = range, .data = data}));
            ASSERT_TRUE(std::ranges::equal(data, expected)) << "operation " << i;
        } else if (kind < 17) {
            const Request zero{.op = Op::write_zeroes,
                               .fua = random() % 8 == 0,
                               .no_hole = random() % 2 == 0,
                               .fast_zero = random() % 2 == 0,
                               .range = range};
            const auto done = execute(zero);
            if (!done) ASSERT_TRUE(zero.fast_zero && !device_->geometry().can_zero_fast);
            if (done) std::ranges::fill(expected, std::byte{0});
        } else if (kind == 17) {
            ASSERT_TRUE(execute({.op = Op::trim, .range = range}));
            // Undefined from here on; but it must stay what it is from one read to the next.
            ASSERT_TRUE(execute({.op = Op::read, .range = range, .data = data}));
            std::ranges::copy(data, expected.begin());
        } else if (kind == 18) {
            ASSERT_TRUE(execute({.op = Op::flush}));
        } else {
            std::uint64_t described = at;
            const std::size_t room = 1 + random() % 8;
            const auto all = extents(at, count, room);
            ASSERT_FALSE(all.empty());
            for (const Extent& extent : all) {
                ASSERT_GT(extent.count.value(), 0U);
                if (extent.zero)
                    for (std::uint64_t byte = described * kSectorBytes;
                         byte < (described + extent.count.value()) * kSectorBytes; ++byte)
                        ASSERT_EQ(model[byte], std::byte{0}) << "operation " << i;
                described += extent.count.value();
            }
            ASSERT_LE(described, at + count);
            if (all.size() < room) ASSERT_EQ(described, at + count);
        }
    }
    for (std::uint64_t at = 0; at < size; at += 2000) {
        const std::uint64_t count = std::min<std::uint64_t>(2000, size - at);
        const auto data = memory_.first(count * kSectorBytes);
        ASSERT_TRUE(execute(
            {.op = Op::read, .range = {SectorIndex(at), SectorCount(count)}, .data = data}));
        ASSERT_TRUE(
            std::ranges::equal(data, std::span(model).subspan(at * kSectorBytes, data.size())));
    }
}

TEST_P(LocalModelTest, block_status_tells_data_from_holes_exactly) {
    open_it(SectorCount(1024));
    EXPECT_EQ(text(extents(0, 1024)), "1024hz ");
    ASSERT_TRUE(write(256, 128, 'x'));
    EXPECT_EQ(text(extents(0, 1024)), "256hz 128d 640hz ");
    EXPECT_EQ(text(extents(256, 128)), "128d ");
    EXPECT_EQ(text(extents(264, 8)), "8d ");
    EXPECT_EQ(text(extents(248, 16)), "8hz 8d ");
    EXPECT_EQ(text(extents(376, 16)), "8d 8hz ");
    EXPECT_EQ(text(extents(0, 1024, 1)), "256hz ") << "no more than there is room for";
    EXPECT_EQ(text(extents(0, 1024, 2)), "256hz 128d ");
    ASSERT_TRUE(write(384, 128, 'y'));
    EXPECT_EQ(text(extents(0, 1024)), "256hz 256d 512hz ") << "equal neighbours are one";
    if (!device_->geometry().can_zero_fast) return;
    ASSERT_TRUE(execute({.op = Op::write_zeroes, .range = {SectorIndex(256), SectorCount(128)}}));
    EXPECT_EQ(text(extents(0, 1024)), "384hz 128d 512hz ");
}

TEST_P(LocalModelTest, what_is_opened_anew_is_another_instance_and_has_a_size) {
    open_it(kSize);
    const std::uint64_t before = device_->instance();
    const std::uint64_t identity = device_->identity();
    EXPECT_NE(before, 0U);
    if (GetParam() == Kind::memory) return;
    device_.reset();
    open(folder_ + "/disk");
    EXPECT_NE(device_->instance(), before);
    EXPECT_EQ(device_->identity(), identity);
}

std::string name_of(const testing::TestParamInfo<Kind>& kind) {
    constexpr std::array kNames{"memory", "direct", "buffered"};
    return kNames[static_cast<std::size_t>(kind.param)];
}

INSTANTIATE_TEST_SUITE_P(Kinds, LocalModelTest,
                         testing::Values(Kind::memory, Kind::direct, Kind::buffered), name_of);

TEST_F(LocalTest, zeroing_without_holes_leaves_no_hole_in_memory) {
    device_ = *open_memory(world_, ByteCount(1 << 20));
    ASSERT_TRUE(write(0, 128, 'x'));
    ASSERT_TRUE(execute(
        {.op = Op::write_zeroes, .no_hole = true, .range = {SectorIndex(0), SectorCount(128)}}));
    EXPECT_FALSE(extents(0, 128).front().hole);
    // What never had space gets it: later writes shall not fail for want of it (proto.md,
    // NBD_CMD_FLAG_NO_HOLE).
    ASSERT_TRUE(execute(
        {.op = Op::write_zeroes, .no_hole = true, .range = {SectorIndex(512), SectorCount(128)}}));
    EXPECT_FALSE(extents(512, 128).front().hole);
}

TEST_F(LocalTest, zeroing_without_holes_allocates_space_in_a_file) {
    const std::string path = make_file(1 << 20);
    open(path);
    if (device_->geometry().can_zero_fast) {
        struct stat status{};
        ASSERT_TRUE(execute({.op = Op::write_zeroes,
                             .no_hole = true,
                             .range = {SectorIndex(0), SectorCount(2048)}}));
        ASSERT_EQ(::stat(path.c_str(), &status), 0);
        EXPECT_GE(status.st_blocks, 2048);
        ASSERT_TRUE(
            execute({.op = Op::write_zeroes, .range = {SectorIndex(0), SectorCount(2048)}}));
        ASSERT_EQ(::stat(path.c_str(), &status), 0);
        EXPECT_LT(status.st_blocks, 2048);
    }
}

TEST_F(LocalTest, files_that_are_missing_or_have_no_sector_are_refused_with_a_text) {
    const auto refused = [&](const std::string& path, const std::string& words) {
        const auto opened = try_open(path);
        ASSERT_FALSE(opened.has_value());
        EXPECT_NE(opened.error().text.find(path), std::string::npos) << opened.error().text;
        EXPECT_NE(opened.error().text.find(words), std::string::npos) << opened.error().text;
        EXPECT_EQ(opened.error().text.find('\n'), std::string::npos);
    };
    refused(folder_ + "/missing", "cannot open");
    refused(make_file(0), "no sectors");
    refused(make_file(511), "no sectors");
    refused(folder_, "neither a file nor a block device");
    const std::string path = make_file(1 << 20, "held");
    open(path);
    refused(path, "in use");
    for (const std::uint64_t bytes : {0U, 511U}) {
        const auto opened = open_memory(world_, ByteCount(bytes));
        ASSERT_FALSE(opened.has_value());
        EXPECT_NE(opened.error().text.find("no sectors"), std::string::npos);
    }
    EXPECT_TRUE(open_memory(world_, ByteCount(512)).has_value());
}

TEST_F(LocalTest, a_read_only_file_says_so_and_takes_no_change) {
    open(make_file(1 << 20), {.read_only = true});
    EXPECT_TRUE(device_->geometry().read_only);
    const auto data = memory_.first(4096);
    for (const Op op : {Op::write, Op::write_zeroes}) {
        const auto done = execute({.op = op,
                                   .range = {SectorIndex(0), SectorCount(8)},
                                   .data = op == Op::write ? data : std::span<std::byte>{}});
        ASSERT_FALSE(done.has_value());
        EXPECT_EQ(done.error().code, ErrorCode::not_permitted);
    }
    EXPECT_TRUE(execute({.op = Op::read, .range = {SectorIndex(0), SectorCount(8)}, .data = data}));
}

/// A medium in memory that says no to what it is told to.
class FakeFile final : public io::File {
  public:
    struct Log {
        std::vector<std::string> calls;
        std::vector<std::byte> bytes;
        bool no_zero = false;
        bool no_discard = false;
        std::vector<io::FileExtent> extents;
        std::optional<std::uint64_t> fails_at;
        bool no_sync = false;
    };
    explicit FakeFile(Log& log) : log_(log) { info_.size = ByteCount(log.bytes.size()); }
    const io::FileInfo& info() const override { return info_; }
    Task<Result<>> read(ByteOffset, std::span<std::byte>) override { co_return Result<>{}; }
    Task<Result<>> write(ByteOffset at, std::span<const std::byte> from, bool durable) override {
        log_.calls.push_back((durable ? "durable write " : "write ") + std::to_string(from.size()));
        if (log_.fails_at && at.value() >= *log_.fails_at)
            co_return fail(ErrorCode::no_space, "test");
        std::ranges::copy(from, log_.bytes.begin() + static_cast<std::ptrdiff_t>(at.value()));
        co_return Result<>{};
    }
    void accept_losses() override { log_.calls.emplace_back("accept losses"); }
    Task<Result<>> sync() override {
        log_.calls.emplace_back("sync");
        co_return log_.no_sync ? Result<>(fail(ErrorCode::io_error, "")) : Result<>{};
    }
    Task<Result<>> discard(ByteOffset, ByteCount) override {
        log_.calls.emplace_back("discard");
        co_return log_.no_discard ? Result<>(fail(ErrorCode::unsupported, "")) : Result<>{};
    }
    Task<Result<>> zero(ByteOffset, ByteCount, bool may_unmap) override {
        log_.calls.emplace_back(may_unmap ? "zero, unmap" : "zero");
        co_return log_.no_zero ? Result<>(fail(ErrorCode::unsupported, "")) : Result<>{};
    }
    Task<Result<io::FileExtent>> extent(ByteOffset at, ByteCount count) override {
        std::uint64_t from = 0;
        for (io::FileExtent extent : log_.extents) {
            const std::uint64_t end = from + extent.count.value();
            if (at.value() < end) {
                extent.count = std::min(ByteCount(end - at.value()), count);
                co_return extent;
            }
            from = end;
        }
        co_return fail(ErrorCode::out_of_range, "");
    }
    Task<Result<ByteCount>> refresh_size() override { co_return info_.size; }

  private:
    Log& log_;
    io::FileInfo info_;
};

class FakeFileTest : public LocalTest {
  protected:
    FakeFileTest() {
        log_.bytes.assign(4 << 20, std::byte{1});
        device_ = std::make_unique<FileDevice>(std::make_unique<FakeFile>(log_),
                                               LocalSettings{.on_loss = [this] { ++losses_; }}, 1);
    }
    FakeFile::Log log_;
    int losses_ = 0;
    const SectorRange all_{SectorIndex(0), SectorCount((4 << 20) / 512)};
    using Calls = std::vector<std::string>;
};

TEST_F(FakeFileTest, where_zeroing_is_slow_zeroes_are_written_in_pieces) {
    log_.no_zero = true;
    ASSERT_TRUE(execute(
        {.op = Op::write_zeroes, .fua = true, .range = {SectorIndex(8), SectorCount(6000)}}));
    EXPECT_EQ(log_.calls.front(), "zero, unmap");
    EXPECT_EQ(log_.calls.back(), "sync");
    EXPECT_EQ(log_.calls.size(), 1 + 3 + 1U);
    EXPECT_EQ(log_.bytes[8 * 512 - 1], std::byte{1});
    EXPECT_TRUE(std::all_of(log_.bytes.begin() + 8 * 512, log_.bytes.begin() + 6008 * 512,
                            [](std::byte byte) { return byte == std::byte{0}; }));
    EXPECT_EQ(log_.bytes[6008 * 512], std::byte{1});
}

TEST_F(FakeFileTest, fast_zero_is_refused_where_zeroing_is_slow_and_nothing_is_written) {
    log_.no_zero = true;
    const auto done =
        execute({.op = Op::write_zeroes, .fua = true, .fast_zero = true, .range = all_});
    ASSERT_FALSE(done.has_value());
    EXPECT_EQ(done.error().code, ErrorCode::unsupported);
    EXPECT_EQ(log_.calls, Calls{"zero, unmap"});
}

TEST_F(FakeFileTest, no_hole_is_passed_on_and_an_error_of_a_piece_is_the_answer) {
    ASSERT_TRUE(execute({.op = Op::write_zeroes, .no_hole = true, .range = all_}));
    EXPECT_EQ(log_.calls, Calls{"zero"});
    log_.no_zero = true;
    log_.fails_at = 2 << 20;
    const auto done = execute({.op = Op::write_zeroes, .fua = true, .range = all_});
    EXPECT_EQ(done.error().code, ErrorCode::no_space);
    EXPECT_NE(log_.calls.back(), "sync");
}

TEST_F(FakeFileTest, trim_is_advice) {
    log_.no_discard = true;
    EXPECT_TRUE(execute({.op = Op::trim, .fua = true, .range = all_}));
    EXPECT_EQ(log_.calls, (Calls{"discard", "sync"}));
}

TEST_F(FakeFileTest, a_flush_that_fails_makes_it_another_instance_that_has_lost_nothing_yet) {
    log_.no_sync = true;
    const std::uint64_t first = device_->instance();
    EXPECT_EQ(execute({.op = Op::flush}).error().code, ErrorCode::io_error);
    const std::uint64_t second = device_->instance();
    EXPECT_NE(second, first);
    EXPECT_EQ(log_.calls, (Calls{"sync", "accept losses"}));
    EXPECT_FALSE(execute({.op = Op::write_zeroes, .fua = true, .range = all_}).has_value());
    EXPECT_NE(device_->instance(), second);
    EXPECT_EQ(losses_, 2);
    log_.no_sync = false;
    const std::uint64_t third = device_->instance();
    EXPECT_TRUE(execute({.op = Op::flush}).has_value());
    EXPECT_EQ(device_->instance(), third);
}

TEST_F(FakeFileTest, fua_writes_are_durable_writes) {
    EXPECT_TRUE(execute({.op = Op::write,
                         .fua = true,
                         .range = {SectorIndex(0), SectorCount(8)},
                         .data = memory_.first(4096)}));
    EXPECT_EQ(log_.calls, Calls{"durable write 4096"});
}

TEST_F(FakeFileTest, a_sector_with_an_edge_in_it_counts_as_data) {
    log_.extents = {{ByteCount(100)},
                    {ByteCount(924), true, true},   // to 1024
                    {ByteCount(700), true, true},   // to 1724, in sector 3
                    {ByteCount(100)},               // to 1824
                    {ByteCount(4096), true, true},  // to 5920, in sector 11
                    {ByteCount(224)},               // to 6144
                    {ByteCount(4 << 20), true, true}};
    EXPECT_EQ(text(extents(0, 16)), "1d 2hz 1d 7hz 1d 4hz ");
}

}  // namespace
}  // namespace dst::node
