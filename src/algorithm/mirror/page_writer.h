// PageWriter: keeps the bitmaps on one node in step with those in memory.
//
// Pages that were changed are written when somebody waits for them (`hurry`), many at a time, or
// else some time later. A page that changes while it is written is written again; what was in it
// when it was encoded is what counts as durable.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "algorithm/mirror/bits.h"
#include "async/scope.h"
#include "async/wait.h"
#include "block/buffer.h"
#include "block/device.h"
#include "io/clock.h"

namespace dst::mirror {

class PageWriter final : private Bits::Watcher {
  public:
    /// What nobody waits for is written so long after it changed.
    static constexpr io::Duration kLazily = std::chrono::milliseconds(500);
    /// Memory that it holds at most.
    static constexpr std::size_t kBytesMax = 64 << 10;

    /// `device`: the node's, with `layout` on it; buffers are from `account`; `progress` is woken
    /// whenever more is durable. All outlive it.
    PageWriter(Bits& bits, block::Device& device, const metadata::Layout& layout,
               block::Account& account, io::Clock& clock, async::WaitQueue& progress);

    /// What the node has is unknown: all pages are written anew.
    void write_all();
    /// The node has this page as it is in memory now.
    void assume_durable(PageNumber page);

    /// Writes until `stop`; what fails is tried again some time later. Runs once. Suspends.
    async::Task<void> run();
    void stop();
    /// It was stopped, and nothing is under way.
    [[nodiscard]] bool has_ended() const { return has_ended_; }
    /// Somebody waits: what has changed is to be written now.
    void hurry();

    [[nodiscard]] bool is_durable(PageNumber page, Version version) const {
        return durable_[page] >= version;
    }
    /// Why pages could not be written lately; nothing if they could.
    [[nodiscard]] const std::optional<Error>& failure() const { return failure_; }
    /// Since when the device has not answered; nothing if nothing is asked of it.
    [[nodiscard]] const std::optional<io::TimePoint>& busy_since() const { return busy_since_; }
    /// All is written that has changed.
    [[nodiscard]] bool is_in_step() const { return dirty_.empty() && writing_ == 0; }

  private:
    void page_changed(PageNumber page) override;
    async::Task<void> write_batch();
    async::Task<void> write_run(PageNumber first, std::uint32_t count, std::optional<Error>& error);

    Bits& bits_;
    block::Device& device_;
    const metadata::Layout layout_;
    block::Account& account_;
    io::Clock& clock_;
    async::WaitQueue& progress_;
    std::vector<Version> durable_;  // by page; 0: unknown
    std::vector<bool> is_dirty_;    // stands in `dirty_`
    std::vector<PageNumber> dirty_;
    std::vector<PageNumber> batch_;  // being written
    std::size_t writing_ = 0;
    std::optional<Error> failure_;
    std::optional<io::TimePoint> busy_since_;
    bool hurried_ = false;
    bool stopping_ = false;
    bool has_ended_ = false;
    async::WaitQueue work_;
};

}  // namespace dst::mirror
