#include "algorithm/mirror/superblock_writer.h"

#include <utility>

#include "base/check.h"

namespace dst::mirror {
namespace {

/// A node that does not take its superblock is given some time.
constexpr io::Duration kTryAgainAfter = std::chrono::seconds(1);

}  // namespace

SuperblockWriter::SuperblockWriter(block::Device& device, SectorCount size, unsigned spare,
                                   metadata::Cookie cookie, std::uint64_t& sequence,
                                   block::Account& account, io::Clock& clock,
                                   async::WaitQueue& progress)
    : device_(device),
      places_{*metadata::superblock_place(size, spare),
              *metadata::superblock_place(size, 1 - spare)},
      cookie_(cookie),
      sequence_(sequence),
      account_(account),
      clock_(clock),
      progress_(progress) {}

void SuperblockWriter::send(FormHandle form) {
    wanted_ = std::move(form);
    work_.wake_all();
}

void SuperblockWriter::stop() {
    stopping_ = true;
    work_.wake_all();
}

async::Task<void> SuperblockWriter::run() {
    while (!stopping_) {
        if (wanted_ == nullptr) {
            co_await work_.wait();
            continue;
        }
        const FormHandle form = std::exchange(wanted_, nullptr);
        // Which age it holds is unknown until both copies are written.
        durable_.reset();
        busy_since_ = clock_.now();
        const Result<> done = co_await write(*form);
        busy_since_.reset();
        if (done) {
            durable_ = form->history.age;
            failure_.reset();
        } else {
            failure_ = done.error();
            if (wanted_ == nullptr) wanted_ = form;
        }
        progress_.wake_all();
        const io::TimePoint due = clock_.now() + kTryAgainAfter;
        while (failure_ && !stopping_ && clock_.now() < due)
            co_await io::wait_until(clock_, work_, due);
    }
    has_ended_ = true;
}

async::Task<Result<>> SuperblockWriter::write(const metadata::Form& form) {
    const block::Buffer buffer = co_await account_.allocate(metadata::kSuperblockBytes);
    if (!buffer) co_return fail(ErrorCode::no_memory, "memory is given up");
    if (stopping_) co_return fail(ErrorCode::cancelled, "stopped");
    const auto bytes = buffer.bytes().first<metadata::kSuperblockBytes>();
    const metadata::Superblock superblock{.form = form, .cookie = cookie_, .sequence = ++sequence_};
    CHECK(metadata::broken_rule(superblock) == nullptr);
    metadata::encode_superblock(bytes, superblock);
    static_assert(metadata::kSuperblockCopies == 2);
    for (std::size_t at = 0; at < places_.size(); ++at) {
        block::Request request{.op = block::Op::write,
                               .fua = true,
                               .is_patient = true,
                               .is_metadata = true,
                               .range = places_[at],
                               .data = bytes,
                               .buffer = &buffer};
        const Result<> done = co_await device_.execute(request);
        if (!done) {
            // Of this one nobody knows what is there now; the other one is whole.
            std::swap(places_.front(), places_[at]);
            co_return done;
        }
    }
    co_return Result<>{};
}

}  // namespace dst::mirror
