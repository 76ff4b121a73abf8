// fsx: random operations on one file or block device, each compared with a model in memory.
//
//     fsx PATH --operations N --seed S [--span BYTES]
//
// Reads and writes by descriptor (through the page cache, and around it) and by memory map, punched
// holes, zeroed ranges, trims (of a block device), fsync, msync, closing and opening again; in the
// end all is read around the page cache. Nobody else may change it meanwhile. Prints a line of
// counts. The first difference ends it with code 1, the operations that came before, and the seed.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr std::size_t kSector = 512;
constexpr std::size_t kPage = 4096;
constexpr std::size_t kLengthMax = 256 << 10;
constexpr std::size_t kRemembered = 24;

enum class Op {
    read,
    write,
    direct_read,
    direct_write,
    map_read,
    map_write,
    punch,
    zero,
    trim,
    sync,
    reopen
};

struct Weight {
    Op op;
    std::string_view name;
    unsigned weight;
};
constexpr std::array kWeights = {
    Weight{Op::read, "read", 20},
    Weight{Op::write, "write", 20},
    Weight{Op::direct_read, "direct read", 12},
    Weight{Op::direct_write, "direct write", 12},
    Weight{Op::map_read, "map read", 6},
    Weight{Op::map_write, "map write", 6},
    Weight{Op::punch, "punch hole", 6},
    Weight{Op::zero, "zero range", 6},
    Weight{Op::trim, "trim", 4},
    Weight{Op::sync, "sync", 3},
    Weight{Op::reopen, "reopen", 1},
};

struct Options {
    std::string path;
    std::uint64_t operations = 0;
    std::uint64_t seed = 0;
    std::size_t span = 16 << 20;
};

struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
};

class Fsx {
  public:
    explicit Fsx(Options options) : options_(std::move(options)), random_(options_.seed) {
        open_all();
        struct stat found{};
        must(::fstat(buffered_, &found) == 0, "stat");
        is_device_ = S_ISBLK(found.st_mode);
        const off_t end = ::lseek(buffered_, 0, SEEK_END);
        must(end > 0, "finding the end");
        size_ = std::min<std::size_t>(options_.span, static_cast<std::size_t>(end));
        size_ -= size_ % kPage;
        model_.resize(size_);
        scratch_.reset(static_cast<std::byte*>(std::aligned_alloc(kPage, kLengthMax)));
    }

    int run() {
        write_all();
        for (done_ = 0; done_ < options_.operations; ++done_) step(draw());
        sync();
        compare_all();
        std::string counts;
        for (const auto& [name, count] : counts_) counts += fmt::format(", {} {}", name, count);
        fmt::print("{} operations on {}, seed {}{}\n", done_, options_.path, options_.seed, counts);
        return 0;
    }

  private:
    struct Range {
        std::size_t at;
        std::size_t length;
    };

    [[noreturn]] void fail(const std::string& what) const {
        for (const std::string& line : log_) fmt::print(stderr, "{}\n", line);
        fmt::print(stderr, "fsx: operation {} of seed {} on {}: {}\n", done_, options_.seed,
                   options_.path, what);
        std::exit(1);
    }
    void must(bool condition, std::string_view what) const {
        if (!condition) fail(fmt::format("{}: {}", what, std::strerror(errno)));
    }
    std::uint64_t below(std::uint64_t end) {
        return std::uniform_int_distribution<std::uint64_t>(0, end - 1)(random_);
    }

    void open_all() {
        buffered_ = ::open(options_.path.c_str(), O_RDWR | O_CLOEXEC);
        must(buffered_ >= 0, "open");
        direct_ = ::open(options_.path.c_str(), O_RDWR | O_CLOEXEC | O_DIRECT);
        must(direct_ >= 0, "open around the page cache");
    }

    Op draw() {
        unsigned sum = 0;
        for (const Weight& each : kWeights) sum += each.weight;
        auto left = below(sum);
        for (const Weight& each : kWeights) {
            if (left < each.weight) return each.op;
            left -= each.weight;
        }
        std::abort();
    }
    /// Mostly short ones; on whole `unit`s.
    Range range(std::size_t unit) {
        const std::size_t most = below(8) == 0 ? kLengthMax : kPage * 4;
        const std::size_t length = (1 + below(most / unit)) * unit;
        const std::size_t at = below((size_ - std::min(length, size_)) / unit + 1) * unit;
        return {at, std::min(length, size_)};
    }
    std::span<std::byte> fresh(Range range) {
        const std::span data(scratch_.get(), range.length);
        const std::uint64_t word = random_();
        for (std::size_t i = 0; i < data.size(); ++i)
            data[i] = static_cast<std::byte>((word >> (8 * (i % 8))) + i / 8);
        return data;
    }
    void note(std::string_view name, Range range) {
        ++counts_[std::string(name)];
        log_.push_back(
            fmt::format("{:>8} {:<12} {:#x} +{:#x}", done_, name, range.at, range.length));
        if (log_.size() > kRemembered) log_.pop_front();
    }
    void keep(Range range, std::span<const std::byte> data) {
        std::ranges::copy(data, model_.begin() + static_cast<std::ptrdiff_t>(range.at));
    }
    void compare(Range range, std::span<const std::byte> data, std::string_view how) {
        const auto expected = std::span(model_).subspan(range.at, range.length);
        const auto [wrong, right] = std::ranges::mismatch(data, expected);
        if (wrong == data.end()) return;
        const auto at = static_cast<std::size_t>(wrong - data.begin());
        fail(fmt::format("{} {:#x} +{:#x}: byte {:#x} is {:#04x}, not {:#04x}", how, range.at,
                         range.length, range.at + at, std::to_integer<unsigned>(*wrong),
                         std::to_integer<unsigned>(*right)));
    }

    void step(Op op) {
        // A block device takes these in sectors only.
        const std::size_t hole_unit = is_device_ ? kSector : 1;
        switch (op) {
            case Op::read:
                return read(buffered_, range(1), "read");
            case Op::write:
                return write(buffered_, range(1), "write");
            case Op::direct_read:
                return read(direct_, range(kSector), "direct read");
            case Op::direct_write:
                return write(direct_, range(kSector), "direct write");
            case Op::map_read:
                return map(range(1), false);
            case Op::map_write:
                return map(range(1), true);
            case Op::punch:
                return allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, range(hole_unit),
                                "punch hole");
            case Op::zero:
                return allocate(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, range(hole_unit),
                                "zero range");
            case Op::trim:
                return trim();
            case Op::sync:
                return sync();
            case Op::reopen:
                return reopen();
        }
    }

    void read(int fd, Range range, std::string_view name) {
        note(name, range);
        const std::span into(scratch_.get(), range.length);
        const ssize_t got = ::pread(fd, into.data(), into.size(), static_cast<off_t>(range.at));
        must(got >= 0, name);
        if (static_cast<std::size_t>(got) != range.length)
            fail(fmt::format("{} of {} bytes gave {}", name, range.length, got));
        compare(range, into, name);
    }
    void write(int fd, Range range, std::string_view name) {
        note(name, range);
        const auto data = fresh(range);
        const ssize_t put = ::pwrite(fd, data.data(), data.size(), static_cast<off_t>(range.at));
        must(put >= 0, name);
        if (static_cast<std::size_t>(put) != range.length)
            fail(fmt::format("{} of {} bytes took {}", name, range.length, put));
        keep(range, data);
    }
    void map(Range range, bool writes) {
        note(writes ? "map write" : "map read", range);
        const std::size_t inside = range.at % kPage;
        const std::size_t length = inside + range.length;
        void* const mapped = ::mmap(nullptr, length, writes ? PROT_READ | PROT_WRITE : PROT_READ,
                                    MAP_SHARED, buffered_, static_cast<off_t>(range.at - inside));
        must(mapped != MAP_FAILED, "mmap");
        const std::span bytes(static_cast<std::byte*>(mapped) + inside, range.length);
        if (writes) {
            const auto data = fresh(range);
            std::ranges::copy(data, bytes.begin());
            keep(range, data);
            if (below(2) == 0) must(::msync(mapped, length, MS_SYNC) == 0, "msync");
        } else {
            compare(range, bytes, "map read");
        }
        must(::munmap(mapped, length) == 0, "munmap");
    }
    void zeroed(Range range) {
        std::ranges::fill(std::span(model_).subspan(range.at, range.length), std::byte{0});
    }
    void allocate(int mode, Range range, std::string_view name) {
        note(name, range);
        must(::fallocate(buffered_, mode, static_cast<off_t>(range.at),
                         static_cast<off_t>(range.length)) == 0,
             name);
        zeroed(range);
    }
    /// What is trimmed is zero here: a loop device punches holes.
    void trim() {
        const Range what = range(kPage);
        if (!is_device_) return allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, what, "trim");
        note("trim", what);
        std::uint64_t bounds[] = {what.at, what.length};
        must(::ioctl(buffered_, BLKDISCARD, bounds) == 0, "trim");
        zeroed(what);
    }
    void sync() {
        note("sync", {0, 0});
        must(::fsync(buffered_) == 0, "fsync");
    }
    void reopen() {
        note("reopen", {0, 0});
        must(::close(buffered_) == 0 && ::close(direct_) == 0, "close");
        open_all();
    }
    void write_all() {
        for (std::size_t at = 0; at < size_; at += kLengthMax)
            write(direct_, {at, std::min(kLengthMax, size_ - at)}, "direct write");
    }
    void compare_all() {
        for (std::size_t at = 0; at < size_; at += kLengthMax)
            read(direct_, {at, std::min(kLengthMax, size_ - at)}, "direct read");
    }

    const Options options_;
    std::mt19937_64 random_;
    int buffered_ = -1;
    int direct_ = -1;
    bool is_device_ = false;
    std::size_t size_ = 0;
    std::vector<std::byte> model_;
    std::unique_ptr<std::byte, Free> scratch_;
    std::uint64_t done_ = 0;
    std::map<std::string, std::uint64_t> counts_;
    std::deque<std::string> log_;
};

}  // namespace

int main(int argc, char** argv) {
    Options options;
    for (int i = 1; i < argc; ++i) {
        const std::string_view word = argv[i];
        const bool has_value = i + 1 < argc;
        if (word == "--operations" && has_value)
            options.operations = std::strtoull(argv[++i], nullptr, 10);
        else if (word == "--seed" && has_value)
            options.seed = std::strtoull(argv[++i], nullptr, 10);
        else if (word == "--span" && has_value)
            options.span = std::strtoull(argv[++i], nullptr, 10);
        else
            options.path = word;
    }
    if (options.path.empty() || options.operations == 0) {
        fmt::print(stderr, "usage: fsx PATH --operations N --seed S [--span BYTES]\n");
        return 2;
    }
    return Fsx(std::move(options)).run();
}
