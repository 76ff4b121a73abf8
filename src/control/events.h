// Events: what has changed, as a list to follow.
//
// They are the differences between two looks at the status, so they can't say anything else than it
// does. What comes and goes between two looks leaves none.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "control/status.h"

namespace dst::control {

enum class EventKind : std::uint8_t {
    storage_added,
    storage_removed,
    storage_state,  // from and to: running, degraded, ...
    node_added,
    node_removed,
    node_state,  // sync, notsync
    node_link,   // up, down
    export_added,
    export_removed,
    attached,  // to: its name in /dev
    detached,  // from: that
};
inline constexpr std::size_t kEventKinds = static_cast<std::size_t>(EventKind::detached) + 1;
[[nodiscard]] std::string_view to_string(EventKind kind);

struct Event {
    /// 1 for the first since the daemon was started.
    std::uint64_t sequence = 0;
    io::WallTime time;
    EventKind kind = EventKind::storage_added;
    /// Of the storage or the export.
    std::string name;
    // Of a node; else empty.
    std::string cookie;
    std::string type;
    std::string from;
    std::string to;
    /// As the status has it.
    std::string reason;
    friend bool operator==(const Event&, const Event&) = default;
};

/// What leads from one look to the next, without sequence and time.
[[nodiscard]] std::vector<Event> events_between(const Status& before, const Status& after);

/// One line, without a newline: {"sequence", "time", "event", "storage" or "export", ...}.
[[nodiscard]] std::string to_json(const Event& event);

class EventLog {
  public:
    /// Older ones are forgotten.
    static constexpr std::size_t kKept = 1024;

    /// Notes what has changed since the last look; false if that is nothing.
    bool look(const Status& status);

    /// When last looked at every storage ran, or was stopped: what changes from there on is told
    /// by whoever changes it. (Whether requests wait is not.)
    [[nodiscard]] bool is_calm() const;
    /// 0 before the first.
    [[nodiscard]] std::uint64_t last() const { return last_; }
    /// {"last": N, "events": [...]}: those after `sequence` that are kept. A number that was never
    /// given is from another life of the daemon: all of them.
    [[nodiscard]] std::string since(std::uint64_t sequence) const;
    /// How many there were of a kind.
    [[nodiscard]] std::uint64_t count(EventKind kind) const {
        return counts_[static_cast<std::size_t>(kind)];
    }
    /// How often a node got out of sync, while it is in its storage.
    [[nodiscard]] std::uint64_t detachments(std::string_view storage,
                                            std::string_view cookie) const;

  private:
    void note(Event event, io::WallTime time);

    Status seen_;
    std::uint64_t last_ = 0;
    std::deque<Event> kept_;
    std::array<std::uint64_t, kEventKinds> counts_{};
    std::map<std::string, std::uint64_t, std::less<>> detachments_;  // by "STORAGE/COOKIE"
};

}  // namespace dst::control
