#include "cli/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <span>
#include <utility>

#include "base/check.h"
#include "base/pages.h"

namespace dst::cli {
namespace {

using namespace std::chrono_literals;
using metadata::BitmapKind;
using metadata::BitmapName;
using metadata::kPageBytes;
using metadata::kSuperblockCopies;
using metadata::Reading;
using metadata::Unreadable;

/// How often, and after how long, what is damaged is read again.
constexpr int kAttempts = 3;
constexpr io::Duration kPause = 50ms;

class Inspector {
  public:
    Inspector(io::Clock& clock, block::Device& device, std::string name, SectorCount end)
        : clock_(clock),
          device_(device),
          name_(std::move(name)),
          memory_(metadata::kBitmapPagesMax * kPageBytes) {
        found_.size = end;
    }

    async::Task<Outcome<Inspection>> run() {
        CO_TRY(found_.superblock, co_await read_superblock());
        CO_TRY_VOID(co_await follow_end());
        const metadata::Form& form = found_.superblock.form;
        if (found_.superblock.self().is_witness) co_return std::move(found_);
        const auto layout = metadata::Layout::of(form.shape, found_.size);
        if (!layout)
            co_return refuse(fmt::format(
                "{}: ends at sector {}, too early for the data of {} sectors that its superblock "
                "tells of: it was cut off",
                name_, found_.size.value(), form.shape.data_size.value()));
        co_await summarize(*layout, {.kind = BitmapKind::intent});
        co_await summarize(*layout, {.kind = BitmapKind::unwritten});
        for (const metadata::NodeRecord& node : form.nodes)
            if (!node.is_witness)
                co_await summarize(*layout, {.kind = BitmapKind::stale, .slot = node.slot});
        co_return std::move(found_);
    }

  private:
    async::Task<Outcome<metadata::Superblock>> read_superblock() {
        for (int attempt = 1;; ++attempt) {
            for (unsigned copy = 0; copy < kSuperblockCopies; ++copy) {
                CO_TRY(found_.copies[copy], co_await read_copy(copy));
            }
            const bool is_damaged = std::ranges::any_of(found_.copies, [](const Reading& reading) {
                return !reading && reading.error().kind == Unreadable::Kind::damaged;
            });
            if (is_damaged && attempt < kAttempts) {
                co_await io::sleep_for(clock_, kPause);
                continue;
            }
            auto chosen = choose(found_.copies[0], found_.copies[1]);
            if (!chosen) co_return refuse(ErrorCode::corrupt, explain(chosen.error()));
            co_return *std::move(chosen);
        }
    }

    /// Where the end of a node has moved there is a superblock where it says that it ends, too. The
    /// newer one counts, and says where the bitmaps are.
    async::Task<Outcome<>> follow_end() {
        const SectorCount end = found_.superblock.self().size;
        if (end >= found_.size) co_return Outcome<>{};
        const auto here = found_.copies;
        const metadata::Superblock newest = found_.superblock;
        found_.size = end;
        const auto there = co_await read_superblock();
        if (there && there->sequence > newest.sequence)
            found_.superblock = *there;
        else
            found_.copies = here;
        co_return Outcome<>{};
    }

    async::Task<Outcome<Reading>> read_copy(unsigned copy) {
        const auto place = metadata::superblock_place(found_.size, copy);
        if (!place)
            co_return refuse(
                ErrorCode::no_space,
                fmt::format("{}: has {} sectors, too few for a node: its superblocks "
                            "alone take {}",
                            name_, found_.size.value(), 2 * metadata::kSuperblockSectors.value()));
        const auto bytes = memory_.bytes().first(metadata::kSuperblockBytes);
        if (const auto read = co_await read_sectors(*place, bytes); !read)
            co_return refuse(read.error().code,
                             fmt::format("{}: can't be read at sector {}: {}", name_,
                                         place->first.value(), to_string(read.error().code)));
        co_return metadata::decode_superblock(bytes);
    }

    async::Task<Result<>> read_sectors(SectorRange place, std::span<std::byte> into) {
        block::Request request{.op = block::Op::read, .range = place, .data = into};
        co_return co_await device_.execute(request);
    }

    [[nodiscard]] std::string explain(const Unreadable& unreadable) const {
        constexpr const char* kGrown = "if it has grown since, --size says where it ended before";
        switch (unreadable.kind) {
            case Unreadable::Kind::blank:
                return fmt::format(
                    "{}: is no node: it is blank where a node has its metadata, in "
                    "the last 64 KiB; {}",
                    name_, kGrown);
            case Unreadable::Kind::foreign:
                return fmt::format(
                    "{}: is no node: it holds something else where a node has its "
                    "metadata, in the last 64 KiB; {}",
                    name_, kGrown);
            case Unreadable::Kind::newer:
                return fmt::format("{}: {}: use the newer program", name_, to_string(unreadable));
            case Unreadable::Kind::damaged:
                return fmt::format(
                    "{}: {}; no other copy is better, so the storage has to do "
                    "without this node",
                    name_, to_string(unreadable));
        }
        CHECK(false);
    }

    async::Task<void> summarize(const metadata::Layout& layout, BitmapName name) {
        BitmapSummary summary{.name = name};
        for (int attempt = 1; attempt <= kAttempts; ++attempt) {
            if (attempt > 1) co_await io::sleep_for(clock_, kPause);
            summary = co_await read_bitmap(layout, name);
            if (!summary.unreadable && summary.damaged_sectors == 0) break;
        }
        found_.bitmaps.push_back(summary);
    }

    async::Task<BitmapSummary> read_bitmap(const metadata::Layout& layout, BitmapName name) {
        BitmapSummary summary{.name = name};
        const SectorRange place = layout.bitmap(name);
        const auto bytes = memory_.bytes().first(to_bytes(place.count).value());
        if (const auto read = co_await read_sectors(place, bytes); !read) {
            summary.unreadable = read.error();
            co_return summary;
        }
        metadata::Bitmap bitmap(layout.shape().regions());
        for (std::uint32_t page = 0; page < layout.shape().bitmap_pages(); ++page) {
            const metadata::ConstPageSpan from(bytes.subspan(page * kPageBytes, kPageBytes));
            const auto damaged =
                metadata::decode_page(from, found_.superblock.form.storage_id, name, page, bitmap);
            summary.damaged_sectors += static_cast<unsigned>(std::popcount(damaged));
        }
        summary.set = bitmap.count();
        co_return summary;
    }

    io::Clock& clock_;
    block::Device& device_;
    const std::string name_;
    Pages memory_;
    Inspection found_;
};

}  // namespace

async::Task<Outcome<Inspection>> inspect(io::Clock& clock, block::Device& device, std::string name,
                                         std::optional<SectorCount> end) {
    const block::Geometry geometry = device.geometry();
    if (end && *end > geometry.size)
        co_return refuse(ErrorCode::out_of_range,
                         fmt::format("{}: has {} sectors, so it never ended at sector {}: correct "
                                     "--size",
                                     name, geometry.size.value(), end->value()));
    if (geometry.block_bytes > kPageBytes)
        co_return refuse(ErrorCode::unsupported,
                         fmt::format("{}: is read in blocks of {} bytes, and metadata stands at "
                                     "multiples of {}: use another way to it",
                                     name, geometry.block_bytes, kPageBytes));
    Inspector inspector(clock, device, std::move(name), end.value_or(geometry.size));
    co_return co_await inspector.run();
}

}  // namespace dst::cli
