// SuperblockWriter: writes ages to one node, one after another.
//
// An age is durable there when both copies are written, one after the other, so that a power cut
// leaves one whole copy at any time: the one that may not be whole is written first. A later age
// than the one that is being written waits for it: nothing overtakes on one node.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "async/wait.h"
#include "block/buffer.h"
#include "block/device.h"
#include "io/clock.h"
#include "metadata/superblock.h"

namespace dst::mirror {

/// Shared by all the nodes that it is sent to, some of which may be slow.
using FormHandle = std::shared_ptr<const metadata::Form>;

class SuperblockWriter {
  public:
    /// `size`: the node's, whole pages, large enough; `spare`: the copy there to begin with;
    /// `sequence`: of what it holds now, 0 if it holds nothing; all writers of a node count on from
    /// there. `progress` is woken whenever something is durable. All outlive it.
    SuperblockWriter(block::Device& device, SectorCount size, unsigned spare,
                     metadata::Cookie cookie, std::uint64_t& sequence, block::Account& account,
                     io::Clock& clock, async::WaitQueue& progress);

    /// `form` is to be written; an earlier one that was not begun is left out.
    void send(FormHandle form);
    /// What the node is known to hold durably.
    void assume(const metadata::Age& age) { durable_ = age; }
    [[nodiscard]] const std::optional<metadata::Age>& durable() const { return durable_; }
    [[nodiscard]] bool holds(const metadata::Age& age) const { return durable_ == age; }

    /// Writes until `stop`; what fails is tried again some time later. Runs once. Suspends.
    async::Task<void> run();
    /// Why it could not be written lately; nothing if it could.
    [[nodiscard]] const std::optional<Error>& failure() const { return failure_; }
    /// Since when the device has not answered; nothing if nothing is asked of it.
    [[nodiscard]] const std::optional<io::TimePoint>& busy_since() const { return busy_since_; }
    /// No superblock takes a sequence after this; one that has may still be written.
    void stop();
    /// It was stopped, and nothing is under way.
    [[nodiscard]] bool has_ended() const { return has_ended_; }

  private:
    async::Task<Result<>> write(const metadata::Form& form);

    block::Device& device_;
    /// In the order in which they are written. A write that fails may have torn the first one.
    std::array<SectorRange, metadata::kSuperblockCopies> places_;
    const metadata::Cookie cookie_;
    std::uint64_t& sequence_;
    block::Account& account_;
    io::Clock& clock_;
    async::WaitQueue& progress_;
    FormHandle wanted_;
    std::optional<metadata::Age> durable_;
    std::optional<Error> failure_;
    std::optional<io::TimePoint> busy_since_;
    bool stopping_ = false;
    bool has_ended_ = false;
    async::WaitQueue work_;
};

}  // namespace dst::mirror
