// UblkControl: what the kernel's ublk driver is told about a disk as a whole, through
// /dev/ublk-control. Requests for blocks go through UblkQueue.
//
// All calls block, some until the disk's requests are answered: never on a reactor's thread.
// Results are the kernel's: not negative, or a negated errno.
#pragma once

#include <linux/ublk_cmd.h>

#include <cstdint>

#include "base/result.h"
#include "io/uring/unique_fd.h"

namespace dst::io::uring {

// What kernels later than these headers know.
inline constexpr std::uint64_t kUblkUpdateSize = 1ULL << 10;

class UblkControl {
  public:
    /// Refuses where the kernel has no ublk; the text says what would help.
    static Outcome<UblkControl> open();

    /// What the kernel can do at all (UBLK_F_...); 0 if it is too old to say (before 6.5).
    [[nodiscard]] std::uint64_t features() const { return features_; }
    /// Commands are numbered as ioctl numbers are: newer kernels may take no others.
    [[nodiscard]] bool is_encoded() const { return features_ != 0; }

    /// Makes a disk that nobody sees yet. What the kernel can't do is gone from `info.flags`
    /// afterwards; `info.dev_id` -1 asks for any number, which is there afterwards.
    [[nodiscard]] int add(ublksrv_ctrl_dev_info& info) const;
    [[nodiscard]] int info(std::uint32_t number, ublksrv_ctrl_dev_info& info) const;
    /// -EACCES if it was started and somebody has it open still.
    [[nodiscard]] int set_parameters(std::uint32_t number, ublk_params& parameters) const;
    [[nodiscard]] int parameters(std::uint32_t number, ublk_params& parameters) const;
    /// Shows it as /dev/ublkbN. Its partition table is read meanwhile: requests must be served.
    [[nodiscard]] int start(std::uint32_t number) const;
    /// Takes /dev/ublkbN away. Requests that were handed out must be answered meanwhile, others
    /// fail.
    [[nodiscard]] int stop(std::uint32_t number) const;
    /// Of one that is stopped. May hang until nobody has it open, and everybody else's `add` and
    /// `remove` with it: look with `set_parameters` first.
    [[nodiscard]] int remove(std::uint32_t number) const;
    /// -EBUSY until the kernel knows that whoever served it is gone, and has taken back its
    /// requests.
    [[nodiscard]] int begin_recovery(std::uint32_t number) const;
    /// Waits until all requests are fetched; from then on it works again.
    [[nodiscard]] int end_recovery(std::uint32_t number) const;
    /// -EOPNOTSUPP where `features` lacks kUblkUpdateSize.
    [[nodiscard]] int set_size(std::uint32_t number, std::uint64_t sectors) const;

  private:
    explicit UblkControl(UniqueFd fd) : fd_(std::move(fd)) {}
    struct Command;
    [[nodiscard]] int run(const Command& command) const;

    UniqueFd fd_;
    std::uint64_t features_ = 0;
};

}  // namespace dst::io::uring
