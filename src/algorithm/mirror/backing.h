// Backing: what a node of a mirror stands on: a device, the link to it, and the right to write
// there. The mirror decides about nodes; whoever has opened the devices knows these things.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "async/task.h"
#include "base/result.h"
#include "block/device.h"
#include "io/clock.h"

namespace dst::mirror {

class Backing {
  public:
    virtual ~Backing() = default;

    /// There is one, with a size.
    [[nodiscard]] virtual block::Device& device() const = 0;
    /// How much of the device counts, in whole pages; it may grow.
    [[nodiscard]] virtual SectorCount size() const = 0;
    /// It answers, as far as is known.
    [[nodiscard]] virtual bool is_connected() const = 0;
    /// Since when it has been asked and has answered nothing. Nothing: it answers, or there is no
    /// link over which it could be asked.
    [[nodiscard]] virtual std::optional<io::TimePoint> silent_since() const = 0;
    /// Why not, or that it does; for a person.
    [[nodiscard]] virtual std::string reason() const = 0;
    /// When the latest ping that was answered had been sent; long ago if it isn't claimed. Nothing:
    /// nobody else can have it.
    [[nodiscard]] virtual std::optional<io::TimePoint> vouched_at() const = 0;
    /// Another head has taken it: nothing that is sent there has an effect any more.
    [[nodiscard]] virtual bool is_taken() const = 0;
    /// Others can be kept from it: it counts for a majority.
    [[nodiscard]] virtual bool can_vote() const { return true; }
    /// Drawn whenever the medium is opened; 0 where that can't be told.
    [[nodiscard]] virtual std::uint64_t instance() const = 0;
    /// A flush failed there, so it may show older data than it had taken. (One of another machine
    /// has taken again by itself what it lost.)
    [[nodiscard]] virtual bool has_lost_changes() const { return false; }
    /// Everybody who has to know of that does.
    virtual void accept_losses() {}
    /// Connects anew to one that was taken, and forgets what was between us: it may be free again.
    virtual void begin_anew() {}
    /// Its metadata lies before this end from now on.
    virtual void moved(SectorCount /*end*/) {}
    /// Makes sure that it is this head's alone, as far as it can be had without force; the text
    /// says who has it. Suspends.
    virtual async::Task<Outcome<>> claim() = 0;
    /// Asks how large it is now: another head may have let it grow since this one was told. True if
    /// it has grown; that it has not may be what it said a while ago. Suspends.
    virtual async::Task<bool> has_grown() { co_return false; }
    /// All that waits there fails with `node_lost`, soon; what was answered and is not durable is
    /// forgotten. Requests that a local disk has can't be taken back: they are answered late.
    virtual void drop() = 0;
};

}  // namespace dst::mirror
