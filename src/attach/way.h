// Ways to show a device to the local kernel, so that it gets a name in /dev: what each implements.
//
// A way knows the kernel; it does not know storages, who asks, or what is kept over a restart
// (attachments.h).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "async/task.h"
#include "base/result.h"
#include "block/buffer.h"
#include "block/device.h"
#include "io/clock.h"

namespace dst::attach {

/// The best first: without a wish they are tried in this order.
enum class Kind : std::uint8_t { ublk, nbd, fuse };
inline constexpr Kind kKinds[] = {Kind::ublk, Kind::nbd, Kind::fuse};
[[nodiscard]] std::string_view to_string(Kind kind);
[[nodiscard]] Outcome<Kind> parse_kind(std::string_view text);

/// What is wished for; also what is kept of an attachment over a restart.
struct Spec {
    std::string name;
    std::optional<Kind> via{};  // unset: the best that works
    bool read_only = false;
    /// The file alone, without a block device on it. Of `fuse`.
    bool file_only = false;
    /// What it was called last ("/dev/ublkb0"), by a daemon that has ended; empty: it is new.
    std::string device{};
    friend bool operator==(const Spec&, const Spec&) = default;
};

/// N of a device that is called `prefix` N, if it is.
[[nodiscard]] std::optional<std::uint32_t> number_of(std::string_view device,
                                                     std::string_view prefix);

/// What an attachment shows. It outlives it and its requests.
struct Shown {
    block::Device& device;
    block::Account& account;
    /// For who already has a buffer of the account above, or something that who has one waits for;
    /// never the other way.
    block::Account& second_account;
    /// For buffers that stay: what is received goes there.
    block::Account& connections;
    /// All memory of buffers, for who locks it.
    std::span<std::byte> arena;
};

/// How long a command may take to attach; and to detach, whatever holds.
inline constexpr std::chrono::seconds kAttachMax{10};
inline constexpr std::chrono::seconds kDetachMax{4};

/// A device as the local kernel has it. Ends by exactly one of `detach` that succeeded, `tear_off`
/// and `part`; dies after `gone`.
class Attachment {
  public:
    virtual ~Attachment() = default;

    /// What users open: "/dev/loop0", or a file.
    [[nodiscard]] virtual const std::string& path() const = 0;
    /// What is wrong with it, for a person; empty: nothing.
    [[nodiscard]] virtual std::string trouble() const { return {}; }
    /// The device has another size now. Suspends.
    virtual async::Task<Outcome<>> resize() = 0;
    /// Takes it away in order: all that was written is on the device, flushed. Refuses (`busy`)
    /// while somebody uses it or its requests wait, and then it goes on as before. Suspends, for
    /// `kDetachMax` at most.
    virtual async::Task<Outcome<>> detach() = 0;
    /// Takes it away. What waits, and what comes from who still has it open, fails with EIO.
    /// Suspends, for `kDetachMax` at most.
    virtual async::Task<void> tear_off() = 0;
    /// The daemon ends: what can wait for its next life (`Spec::device`) waits there, all else goes
    /// as in `tear_off`, after it was flushed if that can be. Suspends, until `deadline` at most.
    virtual async::Task<void> part(io::TimePoint deadline) = 0;
    /// Suspends until the device has answered all that it was asked through this. After the end.
    virtual async::Task<void> gone() = 0;
};

class Way {
  public:
    virtual ~Way() = default;
    [[nodiscard]] virtual Kind kind() const = 0;
    /// Why this host can't do it, and what would help; empty: it can. Suspends.
    virtual async::Task<std::string> obstacle() = 0;
    /// Shows the device, ready for use. What a killed daemon left there in that name is replaced,
    /// or taken over. `spec.via` is this way. If it fails, `failed` may be what has ended and is
    /// not gone yet: a device that answers nothing keeps its requests. Suspends, for `kAttachMax`
    /// at most.
    virtual async::Task<Outcome<std::unique_ptr<Attachment>>> attach(
        const Spec& spec, Shown shown, std::unique_ptr<Attachment>& failed) = 0;
    /// What an earlier life left for the next one as `spec.device` is not wanted any more: it goes,
    /// and what waits there fails. Without `force` it refuses (`busy`) while somebody uses it.
    /// Suspends.
    virtual async::Task<Outcome<>> discard(const Spec& spec, bool force);
};

}  // namespace dst::attach
