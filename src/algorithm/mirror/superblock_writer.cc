#include "algorithm/mirror/superblock_writer.h"

#include <utility>

#include "base/check.h"

namespace dst::mirror {

SuperblockWriter::SuperblockWriter(block::Device& device, SectorCount size, metadata::Cookie cookie,
                                   std::uint64_t sequence, block::Account& account,
                                   async::WaitQueue& progress)
    : device_(device),
      places_{*metadata::superblock_place(size, 0), *metadata::superblock_place(size, 1)},
      cookie_(cookie),
      sequence_(sequence),
      account_(account),
      progress_(progress) {}

void SuperblockWriter::send(FormHandle form) {
    wanted_ = std::move(form);
    work_.wake_all();
}

void SuperblockWriter::stop() {
    stopping_ = true;
    work_.wake_all();
}

async::Task<Result<>> SuperblockWriter::run() {
    while (!stopping_) {
        if (wanted_ == nullptr) {
            co_await work_.wait();
            continue;
        }
        const FormHandle form = std::exchange(wanted_, nullptr);
        // Which age it holds is unknown until both copies are written.
        durable_.reset();
        CO_TRY_VOID(co_await write(*form));
        durable_ = form->history.age;
        progress_.wake_all();
    }
    co_return Result<>{};
}

async::Task<Result<>> SuperblockWriter::write(const metadata::Form& form) {
    const block::Buffer buffer = co_await account_.allocate(metadata::kSuperblockBytes);
    if (!buffer) co_return fail(ErrorCode::no_memory, "memory is given up");
    const auto bytes = buffer.bytes().first<metadata::kSuperblockBytes>();
    const metadata::Superblock superblock{.form = form, .cookie = cookie_, .sequence = ++sequence_};
    CHECK(metadata::broken_rule(superblock) == nullptr);
    metadata::encode_superblock(bytes, superblock);
    for (const SectorRange& place : places_) {
        block::Request request{.op = block::Op::write,
                               .fua = true,
                               .is_patient = true,
                               .range = place,
                               .data = bytes,
                               .buffer = &buffer};
        CO_TRY_VOID(co_await device_.execute(request));
    }
    co_return Result<>{};
}

}  // namespace dst::mirror
