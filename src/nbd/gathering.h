// Gathering: for how long a server lets a client's requests gather before it receives them.
//
// Why: a client that sends its requests one at a time, each as soon as an answer came (fio's NBD
// engine, for one), wakes the server for each of them, and most of the server's CPU goes into
// falling asleep, waking up, and a receive and a send a request. A client with many requests
// outstanding has more answers to work on meanwhile, so it loses nothing if the server looks at
// what it sends some time later, in one go. A client that waits for the server must not wait
// longer because of that.
//
// Which of them it is shows in two things. How requests come in during a pause: spread over all of
// it, or in its beginning and then none, for the client has run dry. Pauses grow while as much
// comes in their second halves as in their first ones, and shrink, down to none, when it does not.
// And how many come in all: fewer than without pauses, and there are none any more.
//
// Pure: no clock, no I/O. The owner pauses only while it owes no answer to anybody.
#pragma once

#include <cstddef>
#include <cstdint>

#include "io/clock.h"

namespace dst::nbd {

class Gathering {
  public:
    /// The first pause that is tried, and the longest: about what a wake-up across cores costs, and
    /// a fraction of what a request takes at a depth where this pays.
    static constexpr io::Duration kFirst = std::chrono::microseconds(20);
    static constexpr io::Duration kMost = std::chrono::microseconds(150);
    /// A shorter pause saves nothing.
    static constexpr io::Duration kLeast = std::chrono::microseconds(12);
    /// A receive that waits for longer is one of a client that waits for its answers, or rests.
    static constexpr io::Duration kShortWait = std::chrono::microseconds(25);
    /// So much in half a pause is a stream of data: whatever it is made of, it costs by the byte.
    static constexpr std::size_t kStreamBytes = 128 << 10;

    struct Pause {
        io::Duration length{};
        /// Look what has come after one half of it, then pause again.
        bool in_halves = false;
    };
    /// What to do before the next receive. `requests`: how many have come until `now`.
    [[nodiscard]] Pause next(io::TimePoint now, std::uint64_t requests);
    /// A receive without a pause before it took so long.
    void received(io::Duration waited);
    /// In a pause in halves: how many bytes were there before it, after one of them, after both.
    void looked(std::size_t before, std::size_t half, std::size_t all);

    [[nodiscard]] io::Duration length() const { return length_; }

  private:
    /// How fast requests came in, over a stretch of time.
    struct Stretch {
        io::TimePoint begun;
        std::uint64_t requests = 0;  // until it began
    };
    [[nodiscard]] bool is_slower(io::TimePoint now, std::uint64_t requests);
    void look_again(bool closely);
    void ran_dry();
    void end();

    io::Duration length_{};  // zero: no pauses
    unsigned short_waits_ = 0;
    unsigned try_after_ = kTryAfterMin;
    bool is_watched_ = false;  // every pause is looked at
    // Since it was last decided: pauses, what came with them, what in the halves of those that were
    // looked at.
    unsigned pauses_ = 0;
    std::uint64_t requests_ = 0;
    std::uint64_t requests_before_ = 0;
    unsigned looks_ = 0;
    std::size_t early_ = 0;
    std::size_t late_ = 0;
    Stretch stretch_;
    unsigned slow_stretches_ = 0;
    io::Duration per_request_{};  // without pauses

    static constexpr unsigned kTryAfterMin = 64;
    static constexpr unsigned kTryAfterMax = 1 << 15;
    static constexpr unsigned kLookEach = 4;
    static constexpr unsigned kLooksMin = 8;
    static constexpr unsigned kSlowStretchesMax = 3;
    static constexpr std::uint64_t kRequestsMin = 2;   // a pause, on average
    static constexpr std::uint64_t kStretchMin = 256;  // requests
};

}  // namespace dst::nbd
