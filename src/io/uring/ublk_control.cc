#include "io/uring/ublk_control.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <liburing.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "io/uring/errors.h"
#include "io/uring/kernel_module.h"

namespace dst::io::uring {

struct UblkControl::Command {
    std::uint32_t code = 0;
    unsigned direction = _IOC_READ | _IOC_WRITE;
    std::uint32_t number = 0;
    void* data = nullptr;
    std::uint16_t size = 0;
    std::uint64_t argument = 0;
};

namespace {

constexpr char kPath[] = "/dev/ublk-control";
// Numbers of later kernels.
constexpr std::uint32_t kGetFeatures = 0x13;
constexpr std::uint32_t kUpdateSize = 0x15;

/// As kernels since 6.4 number commands.
std::uint32_t encoded(unsigned direction, std::uint32_t code) {
    return static_cast<std::uint32_t>(_IOC(direction, 'u', code, sizeof(ublksrv_ctrl_cmd)));
}

/// The one command goes through a ring of its own: its entries are twice as long as others'.
int run_on_ring(int fd, std::uint32_t code, const ublksrv_ctrl_cmd& command) {
    io_uring ring{};
    if (const int made = io_uring_queue_init(2, &ring, IORING_SETUP_SQE128); made < 0) return made;
    io_uring_sqe* const entry = io_uring_get_sqe(&ring);
    std::memset(entry, 0, 2 * sizeof *entry);
    entry->opcode = IORING_OP_URING_CMD;
    entry->fd = fd;
    entry->cmd_op = code;
    std::memcpy(entry->cmd, &command, sizeof command);
    io_uring_cqe* answer = nullptr;
    int result = io_uring_submit(&ring);
    while (result >= 0) {
        result = io_uring_wait_cqe(&ring, &answer);
        if (result == 0) {
            result = answer->res;
            break;
        }
        if (result == -EINTR) result = 0;
    }
    io_uring_queue_exit(&ring);
    return result;
}

}  // namespace

Outcome<UblkControl> UblkControl::open() {
    UniqueFd fd(::open(kPath, O_RDWR | O_CLOEXEC));
    if (!fd.is_open() && errno == ENOENT && load_kernel_module("ublk_drv"))
        fd.reset(::open(kPath, O_RDWR | O_CLOEXEC));
    if (!fd.is_open())
        return refuse(errno == ENOENT ? ErrorCode::unsupported : ErrorCode::not_permitted,
                      fmt::format("{}: {}; {}", kPath, text_of(errno),
                                  errno == ENOENT ? "load the module ublk_drv (Linux 6.0 has it)"
                                                  : "ublk needs root"));
    UblkControl control(std::move(fd));
    std::uint64_t features = 0;
    const ublksrv_ctrl_cmd command{.dev_id = 0,
                                   .queue_id = static_cast<std::uint16_t>(-1),
                                   .len = sizeof features,
                                   .addr = reinterpret_cast<std::uint64_t>(&features),
                                   .data = {}};
    // Older kernels don't know this command; what they can do is seen when a disk is made.
    if (run_on_ring(control.fd_.get(), encoded(_IOC_READ, kGetFeatures), command) == 0)
        control.features_ = features;
    return control;
}

int UblkControl::run(const Command& command) const {
    const ublksrv_ctrl_cmd inside{.dev_id = command.number,
                                  .queue_id = static_cast<std::uint16_t>(-1),
                                  .len = command.size,
                                  .addr = reinterpret_cast<std::uint64_t>(command.data),
                                  .data = {command.argument, 0}};
    return run_on_ring(
        fd_.get(), is_encoded() ? encoded(command.direction, command.code) : command.code, inside);
}

int UblkControl::add(ublksrv_ctrl_dev_info& info) const {
    return run(
        {.code = UBLK_CMD_ADD_DEV, .number = info.dev_id, .data = &info, .size = sizeof info});
}

int UblkControl::info(std::uint32_t number, ublksrv_ctrl_dev_info& info) const {
    return run({.code = UBLK_CMD_GET_DEV_INFO,
                .direction = _IOC_READ,
                .number = number,
                .data = &info,
                .size = sizeof info});
}

int UblkControl::set_parameters(std::uint32_t number, ublk_params& parameters) const {
    parameters.len = sizeof parameters;
    return run({.code = UBLK_CMD_SET_PARAMS,
                .number = number,
                .data = &parameters,
                .size = sizeof parameters});
}

int UblkControl::parameters(std::uint32_t number, ublk_params& parameters) const {
    parameters.len = sizeof parameters;
    return run({.code = UBLK_CMD_GET_PARAMS,
                .direction = _IOC_READ,
                .number = number,
                .data = &parameters,
                .size = sizeof parameters});
}

int UblkControl::start(std::uint32_t number) const {
    return run({.code = UBLK_CMD_START_DEV,
                .number = number,
                .argument = static_cast<std::uint64_t>(::getpid())});
}

int UblkControl::stop(std::uint32_t number) const {
    return run({.code = UBLK_CMD_STOP_DEV, .number = number});
}

int UblkControl::remove(std::uint32_t number) const {
    return run({.code = UBLK_CMD_DEL_DEV, .number = number});
}

int UblkControl::begin_recovery(std::uint32_t number) const {
    return run({.code = UBLK_CMD_START_USER_RECOVERY, .number = number});
}

int UblkControl::end_recovery(std::uint32_t number) const {
    return run({.code = UBLK_CMD_END_USER_RECOVERY,
                .number = number,
                .argument = static_cast<std::uint64_t>(::getpid())});
}

int UblkControl::set_size(std::uint32_t number, std::uint64_t sectors) const {
    if ((features_ & kUblkUpdateSize) == 0) return -EOPNOTSUPP;
    return run({.code = kUpdateSize, .number = number, .argument = sectors});
}

}  // namespace dst::io::uring
