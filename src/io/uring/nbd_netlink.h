// NbdNetlink: the kernel's own NBD client, configured by generic netlink.
//
// All calls block: never on a reactor's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "base/units.h"

struct nl_sock;

namespace dst::io::uring {

class NbdNetlink {
  public:
    /// Refuses where the kernel has no NBD client; the text says what would help.
    static Outcome<NbdNetlink> open();

    struct Disk {
        ByteCount size;
        std::uint32_t block_bytes = 512;
        std::uint16_t flags = 0;  // transmission flags
        /// For as long as the kernel waits for another connection after it has lost the only one.
        std::chrono::seconds reconnect_max{};
        /// Whose it is; the kernel compares it in `reconfigure`.
        std::string owner;
    };
    /// Makes a disk of a connection that is in its transmission phase; returns the number of its
    /// /dev/nbdN. The kernel takes its own reference to `connection`.
    [[nodiscard]] Outcome<std::uint32_t> connect(const Disk& disk, int connection) const;
    /// Gives it another size, and another connection (if that is given) in the place of one that it
    /// has lost: if it has not, then that is closed. `not_found` if the disk is not `owner`'s.
    [[nodiscard]] Outcome<> reconfigure(std::uint32_t number, const Disk& disk,
                                        std::optional<int> connection) const;
    /// Takes it away; what waits fails. Whoever has it open gets errors. Nothing happens if there
    /// is none.
    [[nodiscard]] Outcome<> disconnect(std::uint32_t number) const;

    /// Whose disk that is; empty: nobody's, or it is not connected.
    [[nodiscard]] static std::string owner(std::uint32_t number);

  private:
    struct Free {
        void operator()(nl_sock* socket) const;
    };
    NbdNetlink(std::unique_ptr<nl_sock, Free> socket, int family)
        : socket_(std::move(socket)), family_(family) {}

    std::unique_ptr<nl_sock, Free> socket_;
    int family_;
};

}  // namespace dst::io::uring
