// UblkQueue: the requests that the kernel's ublk driver has for one disk, through /dev/ublkcN and
// the reactor's own ring.
//
// Each of its `depth` tags is at any time with the kernel (a command is in flight) or with us (the
// command was answered: there is a request, to be answered in turn). Data is copied by the driver:
// of a write when it asks for a place (`give_place`), of a read when the answer is committed.
#pragma once

#include <linux/ublk_cmd.h>

#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "base/units.h"
#include "io/uring/reactor.h"
#include "io/uring/unique_fd.h"

namespace dst::io::uring {

class UblkQueue {
  public:
    // What commands are answered with, beside errors.
    static constexpr int kRequest = UBLK_IO_RES_OK;
    static constexpr int kWantsPlace = UBLK_IO_RES_NEED_GET_DATA;
    static constexpr int kGone = UBLK_IO_RES_ABORT;

    /// Opens the queue of disk `number`, which was made with one queue of `depth` tags and
    /// UBLK_F_NEED_GET_DATA. `is_encoded`: as its UblkControl says. Blocks.
    static Outcome<std::unique_ptr<UblkQueue>> open(Reactor& reactor, std::uint32_t number,
                                                    std::uint16_t depth, bool is_encoded);
    /// No command is in flight, or never will be answered (`Reactor::abandon`).
    ~UblkQueue();
    UblkQueue(const UblkQueue&) = delete;
    UblkQueue& operator=(const UblkQueue&) = delete;

    struct Request {
        std::uint8_t op = 0;  // UBLK_IO_OP_...
        bool fua = false;
        bool no_hole = false;
        SectorIndex first;
        SectorCount count;  // 0 for a flush
    };
    /// What is asked with `tag`; valid while that is with us.
    [[nodiscard]] Request request(std::uint16_t tag) const;

    enum class Command : std::uint32_t {
        /// The first one of each tag.
        fetch = UBLK_IO_FETCH_REQ,
        /// After kWantsPlace: `data` is where that of the write goes; stays until this is answered.
        give_place = UBLK_IO_NEED_GET_DATA,
        /// Answers the request: `answer` in bytes, or a negated errno. `data`: of a read; stays
        /// until
        /// the command was submitted.
        commit = UBLK_IO_COMMIT_AND_FETCH_REQ,
    };
    /// To be awaited: gives `tag` to the kernel; what comes is the next thing to do about it.
    /// `data` is never null, used or not.
    [[nodiscard]] auto hand_over(Command command, std::uint16_t tag, int answer, std::byte* data) {
        return reactor_.submit(
            [=, this](io_uring_sqe& entry) { prepare(entry, command, tag, answer, data); });
    }

  private:
    UblkQueue(Reactor& reactor, UniqueFd fd, std::span<const ublksrv_io_desc> requests,
              std::size_t mapped_bytes, bool is_encoded)
        : reactor_(reactor),
          fd_(std::move(fd)),
          requests_(requests),
          mapped_bytes_(mapped_bytes),
          is_encoded_(is_encoded) {}

    void prepare(io_uring_sqe& entry, Command command, std::uint16_t tag, int answer,
                 std::byte* data) const;

    Reactor& reactor_;
    UniqueFd fd_;
    std::span<const ublksrv_io_desc> requests_;  // the driver writes them
    std::size_t mapped_bytes_;
    bool is_encoded_;
};

}  // namespace dst::io::uring
