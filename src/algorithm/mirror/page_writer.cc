#include "algorithm/mirror/page_writer.h"

#include <algorithm>
#include <array>

#include "base/check.h"

namespace dst::mirror {
namespace {

/// Pages in one write: small enough that a buffer for it is easily had.
constexpr std::uint32_t kRunMax = 8;
/// Pages that are written at the same time. A node that does not answer keeps their buffers.
constexpr std::size_t kBatchMax = PageWriter::kBytesMax / metadata::kPageBytes;

/// A node that does not take pages is given some time.
constexpr io::Duration kTryAgainAfter = std::chrono::seconds(1);

}  // namespace

PageWriter::PageWriter(Bits& bits, block::Device& device, const metadata::Layout& layout,
                       block::Account& account, io::Clock& clock, async::WaitQueue& progress)
    : bits_(bits),
      device_(device),
      layout_(layout),
      account_(account),
      clock_(clock),
      progress_(progress),
      durable_(bits.page_count()),
      is_dirty_(bits.page_count()) {
    bits_.add(*this);
}

void PageWriter::write_all() {
    for (const PageNumber page : bits_.pages()) {
        durable_[page] = 0;
        page_changed(page);
    }
}

void PageWriter::assume_durable(PageNumber page) { durable_[page] = bits_.version(page); }

void PageWriter::page_changed(PageNumber page) {
    if (is_dirty_[page]) return;
    is_dirty_[page] = true;
    dirty_.push_back(page);
    work_.wake_all();
}

void PageWriter::hurry() {
    if (dirty_.empty()) return;
    hurried_ = true;
    work_.wake_all();
}

void PageWriter::stop() {
    stopping_ = true;
    work_.wake_all();
}

async::Task<void> PageWriter::run() {
    while (!stopping_) {
        if (dirty_.empty()) {
            hurried_ = false;
            co_await work_.wait();
            continue;
        }
        const io::TimePoint due = clock_.now() + (failure_ ? kTryAgainAfter : kLazily);
        while ((!hurried_ || failure_) && !stopping_ && clock_.now() < due)
            co_await io::wait_until(clock_, work_, due);
        if (!stopping_) co_await write_batch();
    }
    has_ended_ = true;
}

async::Task<void> PageWriter::write_batch() {
    const std::size_t count = std::min(dirty_.size(), kBatchMax);
    std::vector<PageNumber>& batch = batch_;
    batch.assign(dirty_.begin(), dirty_.begin() + static_cast<std::ptrdiff_t>(count));
    dirty_.erase(dirty_.begin(), dirty_.begin() + static_cast<std::ptrdiff_t>(count));
    for (const PageNumber page : batch) is_dirty_[page] = false;
    // The bitmap of a slot that was freed is of no interest to anybody.
    std::erase_if(batch, [this](PageNumber page) { return !bits_.has(page); });
    std::ranges::sort(batch);
    writing_ += batch.size();
    busy_since_ = clock_.now();
    std::optional<Error> error;
    async::Scope runs;
    for (std::size_t at = 0; at < batch.size();) {
        std::uint32_t length = 1;
        while (length < kRunMax && at + length < batch.size() &&
               batch[at + length] == batch[at] + length)
            ++length;
        runs.spawn(write_run(batch[at], length, error));
        at += length;
    }
    co_await runs.join();
    busy_since_.reset();
    writing_ -= batch.size();
    failure_ = error;
    if (dirty_.empty()) hurried_ = false;
    progress_.wake_all();
}

/// Pages that follow each other in number do so on the node.
async::Task<void> PageWriter::write_run(PageNumber first, std::uint32_t count,
                                        std::optional<Error>& error) {
    const std::size_t bytes = count * metadata::kPageBytes;
    const block::Buffer buffer = co_await account_.allocate(bytes);
    if (!buffer) {
        error = Error{ErrorCode::no_memory, "memory is given up"};
        for (std::uint32_t at = 0; at < count; ++at) page_changed(first + at);
        co_return;
    }
    std::array<Version, kRunMax> versions{};
    for (std::uint32_t at = 0; at < count; ++at) {
        if (!bits_.has(first + at)) continue;  // freed while this waited for the buffer
        versions[at] = bits_.version(first + at);
        bits_.encode(
            buffer.bytes().subspan(at * metadata::kPageBytes).first<metadata::kPageBytes>(),
            first + at);
    }
    const auto [name, page] = bits_.place_of(first);
    block::Request request{.op = block::Op::write,
                           .fua = true,
                           .is_patient = true,
                           .is_metadata = true,
                           .range = {layout_.page(name, page).first,
                                     SectorCount(count * metadata::kPageSectors.value())},
                           .data = buffer.bytes().first(bytes),
                           .buffer = &buffer};
    const Result<> done = co_await device_.execute(request);
    if (!done) error = done.error();
    for (std::uint32_t at = 0; at < count; ++at) {
        if (done)
            durable_[first + at] = std::max(durable_[first + at], versions[at]);
        else
            page_changed(first + at);
    }
}

}  // namespace dst::mirror
