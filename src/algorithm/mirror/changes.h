// Changes: writes, trims and write_zeroes of the user. Rules 1, 2, 7 and 10 of design §7.
#pragma once

#include <optional>

#include "algorithm/mirror/core.h"
#include "algorithm/mirror/flushes.h"
#include "algorithm/mirror/sender.h"

namespace dst::mirror {

class Changes {
  public:
    Changes(Core& core, Membership& membership, Sender& sender, Flushes& flushes)
        : core_(core), membership_(membership), sender_(sender), flushes_(flushes) {}

    /// One change; none that overlaps is under way. Suspends.
    async::Task<Result<>> change(block::Request& request);

    /// Waits until a change may begin there: nobody has it locked, and the intent is durable
    /// wherever it has to be (rule 1). Suspends.
    async::Task<Result<>> enter(RegionRange regions);

    /// How many changes wait for what is to be durable before them, or for a lock.
    [[nodiscard]] std::size_t waiting() const { return waiting_; }

  private:
    [[nodiscard]] bool intent_is_durable(RegionRange regions);
    static async::Task<void> data_is_free(Delivery& delivery);
    async::Task<Result<>> carry_out(block::Request& request, RegionRange regions);
    async::Task<Result<>> first_change(block::Request& request, RegionRange regions);
    [[nodiscard]] Result<std::optional<block::Request>> adapted(
        const block::Request& request) const;

    Core& core_;
    Membership& membership_;
    Sender& sender_;
    Flushes& flushes_;
    std::size_t waiting_ = 0;
};

}  // namespace dst::mirror
