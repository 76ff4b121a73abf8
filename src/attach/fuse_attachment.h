// A device as a file and a loop device on it: private to fuse*.cc.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "async/range_lock.h"
#include "async/scope.h"
#include "attach/way.h"
#include "base/list.h"
#include "block/buffer.h"
#include "io/uring/fuse_file.h"
#include "io/uring/loop_device.h"
#include "io/uring/reactor.h"

namespace dst::attach {

class FuseAttachment final : public Attachment, private io::uring::FuseContent {
  public:
    /// Requests of the kernel that are under way at most; then no more are taken.
    static constexpr std::size_t kRequestsMax = 512;
    /// A write of at least this goes on in the buffer that it was received in; smaller ones are
    /// copied, lest each holds a whole slab.
    static constexpr std::size_t kKeepBytes = 512 << 10;
    /// Who waits for longer than this can be given up by a signal; a disk's requests are not
    /// interrupted otherwise.
    static constexpr std::chrono::seconds kPatience{1};

    FuseAttachment(io::uring::Reactor& reactor, const Spec& spec, Shown shown);
    ~FuseAttachment() override;

    /// Mounts the file at `path`, and makes the loop device. On refusal nothing is left, after
    /// `gone`. Suspends.
    async::Task<Outcome<>> open(std::string path);

    [[nodiscard]] const std::string& path() const override { return name_; }
    [[nodiscard]] std::string trouble() const override;
    async::Task<Outcome<>> resize() override;
    async::Task<Outcome<>> detach() override;
    async::Task<void> tear_off() override;
    async::Task<void> part(io::TimePoint deadline) override;
    async::Task<void> gone() override;

  private:
    using Call = io::uring::FuseCall;
    class Flight;

    // FuseContent
    [[nodiscard]] ByteCount size() const override;
    [[nodiscard]] std::span<std::byte> room() override;
    void take(const Call& call, std::span<std::byte> data) override;
    void interrupt(std::uint64_t id) override;

    async::Task<void> serve_file();
    async::Task<void> refill();
    async::Task<void> serve(Call call, block::Buffer buffer);
    async::Task<Result<>> perform(Flight& flight, block::Buffer& buffer);
    async::Task<Result<>> read(Flight& flight);
    async::Task<Result<>> write(Flight& flight, block::Buffer& buffer);
    async::Task<Result<>> zero(Flight& flight);
    async::Task<Result<>> flush();
    async::Task<Result<>> execute(block::Op op, SectorRange range, block::Buffer* buffer,
                                  bool keeps_space);
    async::Task<Result<>> change_bytes(ByteOffset at, std::span<const std::byte> bytes);
    async::Task<Result<>> zero_bytes(ByteOffset at, ByteCount count);
    async::Task<void> give_up_later(std::uint64_t id, io::TimePoint when);
    [[nodiscard]] Flight* find(std::uint64_t id);
    [[nodiscard]] bool is_aligned(ByteOffset at, ByteCount count) const;
    [[nodiscard]] SectorRange around(ByteOffset at, ByteCount count) const;

    async::Task<Outcome<>> detach_until(io::TimePoint deadline);
    async::Task<Outcome<>> closed(io::TimePoint deadline);
    async::Task<Outcome<>> settle(io::TimePoint deadline);
    async::Task<bool> flush_until(io::TimePoint deadline);
    async::Task<void> end_file();

    io::uring::Reactor& reactor_;
    const Spec spec_;
    const Shown shown_;
    const std::uint64_t block_bytes_;
    std::string name_;
    std::unique_ptr<io::uring::FuseFile> file_;
    std::unique_ptr<io::uring::LoopDevice> loop_;  // null: the file alone
    block::Buffer staging_;                        // what is received goes there
    bool is_refilling_ = false;
    bool is_full_ = false;  // `kRequestsMax` reached
    bool is_over_ = false;  // what comes fails
    async::RangeLock blocks_;
    List<Flight> flights_;
    std::size_t flights_count_ = 0;
    async::Event served_;    // the intake has ended
    async::Scope serving_;   // the file's intake
    async::Scope requests_;  // what was asked
};

}  // namespace dst::attach
