#include "io/uring/ublk_queue.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "io/uring/errors.h"

namespace dst::io::uring {

Outcome<std::unique_ptr<UblkQueue>> UblkQueue::open(Reactor& reactor, std::uint32_t number,
                                                    std::uint16_t depth, bool is_encoded) {
    const std::string path = fmt::format("/dev/ublkc{}", number);
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!fd.is_open()) {
        const int why = errno;
        return refuse(why == EBUSY ? ErrorCode::busy : ErrorCode::io_error,
                      fmt::format("{}: {}{}", path, text_of(why),
                                  why == ENOENT ? "; is devtmpfs mounted at /dev?" : ""));
    }
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t bytes = (depth * sizeof(ublksrv_io_desc) + page - 1) / page * page;
    void* const mapped = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd.get(),
                                UBLKSRV_CMD_BUF_OFFSET);
    if (mapped == MAP_FAILED)
        return refuse(ErrorCode::io_error,
                      fmt::format("{}: can't be mapped: {}", path, text_of(errno)));
    return std::unique_ptr<UblkQueue>(new UblkQueue(
        reactor, std::move(fd), std::span(static_cast<const ublksrv_io_desc*>(mapped), depth),
        bytes, is_encoded));
}

UblkQueue::~UblkQueue() {
    CHECK(::munmap(const_cast<ublksrv_io_desc*>(requests_.data()), mapped_bytes_) == 0);
}

UblkQueue::Request UblkQueue::request(std::uint16_t tag) const {
    const ublksrv_io_desc& said = requests_[tag];
    return {.op = ublksrv_get_op(&said),
            .fua = (said.op_flags & UBLK_IO_F_FUA) != 0,
            .no_hole = (said.op_flags & UBLK_IO_F_NOUNMAP) != 0,
            .first = SectorIndex(said.start_sector),
            .count = SectorCount(said.nr_sectors)};
}

void UblkQueue::prepare(io_uring_sqe& entry, Command command, std::uint16_t tag, int answer,
                        std::byte* data) const {
    const ublksrv_io_cmd inside{
        .q_id = 0, .tag = tag, .result = answer, .addr = reinterpret_cast<std::uint64_t>(data)};
    static_assert(sizeof inside <= sizeof entry - offsetof(io_uring_sqe, cmd));
    const auto code = static_cast<std::uint32_t>(command);
    std::memset(&entry, 0, sizeof entry);
    entry.opcode = IORING_OP_URING_CMD;
    entry.fd = fd_.get();
    entry.cmd_op =
        is_encoded_ ? static_cast<std::uint32_t>(_IOWR('u', code, ublksrv_io_cmd)) : code;
    std::memcpy(entry.cmd, &inside, sizeof inside);
}

}  // namespace dst::io::uring
